/**
 * The seed's test: a guest of `total` bytes backed by one buffer that is mapped again and again. Layout and sizes after
 * vfio-huge-guest-test of Alex Williamson's public test repository: 640 KiB at iova 0, then from 1 MiB up to 3 GiB,
 * then the whole 4 GiB buffer at each 4 GiB up to the total. No unmap: everything goes with the close.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { closeBoth } from '../../model/paths/files.ts';
import { mapBuffer } from './dma.ts';
import { RAM_END_PAGE, repeatedRam } from './guest-memory.ts';
import { workload } from './workload.ts';

export const hugeGuest = workload({
  name: 'huge-guest',
  ops: ['map', 'close'],
  summary: 'a 1 TiB guest backed by one 4 GiB buffer, mapped 257 times, then closed',
  options: ({ z, zBytes }) =>
    z.strictObject({
      total: zBytes({ min: 8 * 2 ** 30, max: RAM_END_PAGE * PAGE_BYTES })
        .prefault('1TiB')
        .describe('where the guest ends; it shows the buffer over and over'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  closes: true,
  needs: (o, guest) => ({
    mappings: 2 + Math.ceil(o.total / guest.memory.bytes),
    segments: 8,
    externalPages: 0,
    mappedPages: o.total / PAGE_BYTES,
  }),
  *run(actor, o) {
    while (yield* actor.iterate()) {
      for (const piece of repeatedRam(Math.floor(o.total / PAGE_BYTES), actor.bufferPages)) {
        const ret = yield* mapBuffer(actor, { ...piece, container: o.container });
        if (ret < 0) {
          actor.markFailure('map failed', ret);
          break;
        }
        if (actor.k.stopping()) break;
      }
      actor.markLockedVm('locked_vm after the maps');
      yield* actor.operate('close', closeBoth(actor.k, o.container));
      actor.markLockedVm('locked_vm after the close');
      actor.finish();
    }
  },
});
