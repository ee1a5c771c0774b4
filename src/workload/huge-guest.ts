/**
 * The seed's test: a guest of `total` bytes backed by one buffer that is mapped again and again. Layout and sizes after
 * vfio-huge-guest-test of Alex Williamson's public test repository: 640 KiB at iova 0, then from 1 MiB up to 3 GiB, then
 * the whole 4 GiB buffer at each 4 GiB up to the total. No unmap: everything goes with the close.
 */
import { z } from 'zod';
import { zBytes } from '../base/zod-units.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { closeBoth } from '../model/paths/files.ts';
import { mapBuffer } from './dma.ts';
import { workload } from './workload.ts';

const KIB = 1024 / PAGE_BYTES;
const MIB = KIB * 1024;
const GIB = MIB * 1024;

/** The maps in order, in pages: [iova, offset in the buffer, size]. */
export function hugeGuestMaps(
  totalPages: number,
  bufferPages: number,
): [iova: number, offset: number, pages: number][] {
  const maps: [number, number, number][] = [
    [0, 0, 640 * KIB],
    [MIB, MIB, 3 * GIB - MIB],
  ];
  for (let at = 4 * GIB; at < totalPages; at += bufferPages) maps.push([at, 0, bufferPages]);
  return maps;
}

export const hugeGuest = workload({
  name: 'huge-guest',
  summary: 'a 1 TiB guest backed by one 4 GiB buffer, mapped 257 times, then closed',
  options: z.strictObject({
    total: zBytes({ min: 8 * 2 ** 30 })
      .prefault('1TiB')
      .describe('guest size; above 4 GiB it is the buffer over and over'),
    container: z.int().min(0).max(15).default(0).describe('index of the container'),
  }),
  needs: (o, guest) => ({
    mappings: 2 + Math.ceil(o.total / guest.memory.bytes),
    segments: 8,
    externalPages: 0,
    mappedPages: o.total / PAGE_BYTES,
  }),
  *run(actor, o) {
    while (yield* actor.iterate()) {
      for (const [iovaPage, bufferPage, pages] of hugeGuestMaps(o.total / PAGE_BYTES, actor.bufferPages)) {
        const ret = yield* mapBuffer(actor, { iovaPage, bufferPage, pages, container: o.container });
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
