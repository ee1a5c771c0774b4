import { taskMm } from '../../model/mm.ts';
import { readSmaps } from '../../model/paths/smaps.ts';
import { workload } from './workload.ts';

/** The small areas of a process beside the guest's memory: libraries, stacks, heap. */
const SMALL_AREAS = 200;
const SMALL_PAGES = 32;

/** Monitoring that reads /proc/PID/smaps: mmap_sem for read as long as the guest's memory takes to walk. */
export const smaps = workload({
  name: 'smaps',
  ops: ['smaps'],
  summary: "reads /proc/PID/smaps: mmap_sem for read while the page table of the guest's memory is walked",
  options: ({ z }) => z.strictObject({}),
  needs: () => ({ mappings: 0, segments: 2, externalPages: 0 }),
  *run(actor) {
    const { memory } = actor.guest;
    const perEntry = memory.backing === 'anon4k' || memory.backing === 'memfd' ? 1 : 512;
    const small = Array.from({ length: SMALL_AREAS }, () => SMALL_PAGES);
    const entries = [Math.ceil(actor.bufferPages / perEntry), ...small];
    while (yield* actor.iterate()) {
      const mm = taskMm(actor.k.arena, actor.k.current);
      if (mm === 0) return;
      yield* actor.operate('smaps', readSmaps(actor.k, mm, entries));
    }
  },
});
