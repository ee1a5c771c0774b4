import { taskMm } from '../../model/mm.ts';
import { khugepagedScan } from '../../model/paths/khugepaged.ts';
import { workload } from './workload.ts';

/** khugepaged visits the guest: a read lock per 2 MiB looked at, a write lock per 2 MiB collapsed. */
export const khugepaged = workload({
  name: 'khugepaged',
  ops: ['collapse'],
  summary: 'khugepaged scans the address space (mmap_sem for read) and collapses what is not pinned (for write)',
  options: ({ z }) =>
    z.strictObject({
      areas: z
        .int()
        .min(1)
        .max(65_536)
        .default(8)
        .describe("2 MiB areas looked at in one visit; 8 are the 4096 pages of the kernel's default"),
      suitable: z
        .int()
        .min(0)
        .default(8)
        .describe('every how many-th of them can be collapsed; 0 none, as with pages that are pinned'),
    }),
  needs: () => ({ mappings: 0, segments: 2, externalPages: 0 }),
  *run(actor, o) {
    const mm = taskMm(actor.k.arena, actor.k.current);
    if (mm === 0) {
      actor.k.mark('khugepaged', 'needs a task of the address space it visits: task: thread');
      return;
    }
    while (yield* actor.iterate()) yield* actor.operate('collapse', khugepagedScan(actor.k, mm, o.areas, o.suitable));
  },
});
