import { mmapScratch, munmapScratch, scratchPage, touchPages } from './memory.ts';
import { workload } from './workload.ts';

/** An allocator at work: mmap, touch, munmap. mmap_sem for write twice a round, for read once a page before 6.4. */
export const mmapMunmap = workload({
  name: 'mmap-munmap',
  ops: ['mmap', 'fault', 'munmap'],
  summary: 'mmap, touch and munmap of a small area, over and over',
  options: ({ z, zPages }) =>
    z.strictObject({
      pages: zPages({ min: 1, max: 65_536 }).prefault('64 pages').describe('size of the area'),
      touch: z.boolean().default(true).describe('touch the pages in between'),
    }),
  needs: () => ({ mappings: 0, segments: 4, externalPages: 0 }),
  *run(actor, o) {
    const page = scratchPage(actor);
    while (yield* actor.iterate()) {
      yield* mmapScratch(actor, page, o.pages);
      if (o.touch) yield* touchPages(actor, page, o.pages);
      yield* munmapScratch(actor, page, o.pages);
    }
  },
});
