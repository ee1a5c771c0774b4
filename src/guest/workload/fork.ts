/**
 * A process that forks while memory is pinned: the page tables are copied under mmap_sem for write, tens of
 * milliseconds for a large guest, and from 5.9 on also every page that is pinned. The child has an address space of its
 * own, with nothing locked in it, and the descriptors of the containers; it exits after a while. Private memory that is
 * not copied at once is copied at the next write on either side, so a later pin faults.
 */
import type { Ctx, Path } from '../../model/env.ts';
import { doExit } from '../../model/paths/exit.ts';
import { fork } from '../../model/paths/process.ts';
import { workload } from './workload.ts';

function* exit(k: Ctx): Path<number> {
  yield* doExit(k);
  return 0;
}

export const forkLoop = workload({
  name: 'fork',
  ops: ['fork', 'exit'],
  summary: 'forks a child that exits after a while, over and over: mmap_sem for write while page tables are copied',
  options: ({ z, zDuration }) =>
    z.strictObject({
      hold: zDuration().prefault('100us').describe('how long the child lives'),
    }),
  needs: () => ({ mappings: 0, segments: 4, externalPages: 0, forks: true }),
  *run(actor, o) {
    const { k } = actor;
    const parent = k.current;
    while (yield* actor.iterate()) {
      const child = yield* actor.operate('fork', fork(k, false));
      if (child <= 0) {
        actor.markFailure('fork failed', child);
        continue;
      }
      yield* actor.pause(o.hold);
      // The parent waits for its child, so one actor can be both in turn.
      k.current = child;
      yield* actor.operate('exit', exit(k));
      k.current = parent;
    }
  },
});
