/**
 * MAP and UNMAP of a small piece in a loop. With one page and a sibling that loops mlock/munlock it is
 * accounting-stress of Alex Williamson's public test repository (commit 6b9b1a1), which stops when MAP fails.
 */
import { formatBytes } from '../../base/units-text.ts';
import { asBytes, PAGE_BYTES } from '../../base/units.ts';
import { mapBuffer, unmapRange } from './dma.ts';
import { RAM_END_PAGE, slotPage } from './guest-memory.ts';
import { refused, workload } from './workload.ts';

export const mapUnmap = workload({
  name: 'map-unmap',
  ops: ['map', 'unmap'],
  summary: 'maps a piece of the buffer and unmaps it, over and over',
  options: ({ z, zPages }) =>
    z.strictObject({
      pages: zPages({ min: 1 }).prefault('1 page').describe('how much is mapped at a time'),
      slots: z.int().min(1).max(65_535).default(1).describe('how many pieces are mapped before the first is unmapped'),
      stop_on_failure: z.boolean().default(true).describe('end the guest at the first MAP that fails'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  refuse(o, { guest }) {
    if (o.pages * PAGE_BYTES > guest.memoryBytes[0]) {
      const size = formatBytes(asBytes(guest.memoryBytes[0]));
      return refused('pages', `${o.pages} pages are more than the guest's memory of ${size}`, `write at most ${size}`);
    }
    if (slotPage(o.slots - 1, o.pages) + o.pages <= RAM_END_PAGE) return null;
    return refused('slots', `${o.slots} slots of this size end behind 128TiB`, 'use fewer or smaller slots');
  },
  needs: (o) => ({ mappings: o.slots, segments: 4, externalPages: 0, mappedPages: o.slots * o.pages }),
  *run(actor, o) {
    let round = 0;
    const pieces = Math.max(1, Math.floor(actor.bufferPages / o.pages));
    while (yield* actor.iterate()) {
      let mapped = 0;
      let failed = 0;
      for (; mapped < o.slots; mapped += 1) {
        const bufferPage = (mapped % pieces) * o.pages;
        failed = yield* mapBuffer(actor, {
          iovaPage: slotPage(mapped, o.pages),
          bufferPage,
          pages: o.pages,
          container: o.container,
        });
        if (failed < 0) break;
      }
      for (let slot = 0; slot < mapped; slot += 1) {
        yield* unmapRange(actor, { iovaPage: slotPage(slot, o.pages), pages: o.pages, container: o.container });
      }
      if (failed < 0 && o.stop_on_failure) {
        actor.markFailure(`map failed in round ${round + 1}`, failed);
        actor.k.stopGuest();
        actor.finish();
      }
      round += 1;
    }
  },
});
