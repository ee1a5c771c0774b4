import { mlock, mmapScratch, munlock, scratchPage } from './memory.ts';
import { workload } from './workload.ts';

/** mlock and munlock of the same few pages: mmap_sem for write twice a round, and the same counter as VFIO's. */
export const mlockLoop = workload({
  name: 'mlock-loop',
  ops: ['mmap', 'mlock', 'munlock'],
  summary: 'mlock and munlock of a few pages, over and over: takes mmap_sem for write and shares locked_vm',
  options: ({ z, zPages }) =>
    z.strictObject({
      pages: zPages({ min: 1, max: 65_536 }).prefault('1 page').describe('pages locked at a time'),
    }),
  needs: () => ({ mappings: 0, segments: 4, externalPages: 0 }),
  *run(actor, o) {
    const page = scratchPage(actor);
    yield* mmapScratch(actor, page, o.pages);
    while (yield* actor.iterate()) {
      if ((yield* mlock(actor, page, o.pages)) === 0) yield* munlock(actor, page, o.pages);
    }
  },
});
