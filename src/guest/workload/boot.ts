/**
 * A virtual machine starts: its memory is mapped as QEMU lays a PC out (640 KiB, from 1 MiB up to 3 GiB, the rest above
 * 4 GiB), pinning and, where it is not there yet, populating it. The mappings stay until the guest ends.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { mapBuffer } from './dma.ts';
import { ramPieces } from './guest-memory.ts';
import { workload } from './workload.ts';

export const boot = workload({
  name: 'boot',
  ops: ['map'],
  summary: "maps the guest's memory as a starting virtual machine does, and keeps it mapped",
  options: ({ z, zBytes }) =>
    z.strictObject({
      piece: zBytes({ min: PAGE_BYTES })
        .prefault('1TiB')
        .describe('largest mapping; smaller ones make more operations'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  needs: (o, guest) => ({
    mappings: 4 + Math.ceil(guest.memory.bytes / o.piece),
    segments: 8 + Math.ceil(guest.memory.bytes / o.piece),
    externalPages: 0,
    mappedPages: guest.memory.bytes / PAGE_BYTES,
  }),
  *run(actor, o) {
    while (yield* actor.iterate()) {
      for (const piece of ramPieces(actor.bufferPages, Math.floor(o.piece / PAGE_BYTES))) {
        const ret = yield* mapBuffer(actor, { ...piece, container: o.container });
        if (ret < 0) actor.markFailure('boot: map failed', ret);
        if (actor.k.stopping()) break;
      }
      actor.finish();
    }
  },
});
