/**
 * Live update of a virtual machine monitor (5.12 and later): the mappings of the container lose their virtual addresses and keep
 * their pages, so that devices go on; then the new monitor gives each mapping its address again. Where that is another address space, since 6.3
 * the charge moves with it: the new one is charged first, so that both are for a moment.
 *
 * A container with a mediated device that pins on demand refuses (6.3) or makes its driver wait (5.12 to 6.2).
 */
import { z } from 'zod';
import { PAGE_BYTES } from '../base/units.ts';
import { zBytes, zDuration } from '../base/zod-units.ts';
import { invalidateAll, mapBuffer, updateAddress } from './dma.ts';
import { workload } from './workload.ts';

export const vaddrUpdate = workload({
  name: 'vaddr-update',
  summary: 'takes the virtual addresses of all mappings away and gives them back, as a live update does',
  options: z.strictObject({
    map: z
      .boolean()
      .default(true)
      .describe('map the buffer first; a process that takes over from another (task: child) does not'),
    piece: zBytes({ min: PAGE_BYTES }).prefault('64MiB').describe('largest mapping'),
    blackout: zDuration().prefault('100us').describe('from losing the addresses to getting them back'),
    container: z.int().min(0).max(15).default(0).describe('index of the container'),
  }),
  needs: (o, guest) => {
    const mappings = o.map ? Math.ceil(guest.memory.bytes / o.piece) : 0;
    return { mappings, segments: 4, externalPages: 0, mappedPages: o.map ? guest.memory.bytes / PAGE_BYTES : 0 };
  },
  *run(actor, o) {
    const piecePages = Math.floor(o.piece / PAGE_BYTES);
    const pieces = Array.from({ length: Math.ceil(actor.bufferPages / piecePages) }, (_, i) => ({
      iovaPage: i * piecePages,
      bufferPage: i * piecePages,
      pages: Math.min(piecePages, actor.bufferPages - i * piecePages),
      container: o.container,
    }));
    if (o.map) {
      for (const piece of pieces) {
        const ret = yield* mapBuffer(actor, piece);
        if (ret < 0) actor.markFailure('vaddr-update: map failed', ret);
      }
    }
    let supported = false;
    while (yield* actor.iterate()) {
      const ret = yield* invalidateAll(actor, o.container);
      if (ret < 0) {
        actor.markFailure('vaddr-update: refused', ret);
        // Unknown flags, or iommufd, which has another way: asking again would not help.
        if (!supported) return;
        continue;
      }
      supported = true;
      yield* actor.pause(o.blackout);
      for (const piece of pieces) {
        const updated = yield* updateAddress(actor, piece);
        if (updated < 0) actor.markFailure('vaddr-update: an address was not taken', updated);
      }
    }
  },
});
