import { PAGE_BYTES } from '../../base/units.ts';
import { dontneed, mmapScratch, scratchPage, touchPages } from './memory.ts';
import { workload } from './workload.ts';

/** A vCPU or I/O thread that touches fresh memory: page faults, mmap_sem for read on kernels before 6.4. */
export const fault = workload({
  name: 'fault',
  ops: ['mmap', 'fault', 'madvise'],
  summary: 'touches fresh pages of its own: page faults, which take mmap_sem for read before 6.4',
  options: ({ z, zBytes, zPages }) =>
    z.strictObject({
      area: zBytes({ min: PAGE_BYTES, max: 2 ** 35 })
        .prefault('1MiB')
        .describe('given back and touched again when used up'),
      backing: z
        .enum(['anon4k', 'thp'])
        .default('anon4k')
        .describe(
          '4 KiB pages, or transparent huge pages: a fault clears 2 MiB, and the 511 pages behind it are there',
        ),
      pages: zPages({ min: 1, max: 65_536 }).prefault('16 pages').describe('pages touched at a time'),
    }),
  needs: () => ({ mappings: 0, segments: 6, externalPages: 0 }),
  *run(actor, o) {
    const first = scratchPage(actor);
    const areaPages = Math.max(o.pages, Math.floor(o.area / PAGE_BYTES));
    yield* mmapScratch(actor, first, areaPages, o.backing);
    let used = 0;
    while (yield* actor.iterate()) {
      if (used + o.pages > areaPages) {
        yield* dontneed(actor, first, areaPages);
        used = 0;
      }
      yield* touchPages(actor, first + used, o.pages);
      used += o.pages;
    }
  },
});
