/** A run directory with everything in it, for tests of what is made from one. */
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { RunDirectory } from '../../src/report/run-dir.ts';
import { layout, load, newBlock, RECORD } from './sample.ts';

export interface SampleTexts {
  readonly name?: string;
  readonly guestClass?: string;
  readonly error?: string | null;
  readonly history?: string;
  readonly scenario?: string;
}

export interface SampleDirectory {
  readonly directory: RunDirectory;
  /** What each second recorded, and all of them together. */
  readonly each: readonly Snapshot[];
  readonly whole: Snapshot;
}

const GUESTS = 8;

/** Five seconds of a run of eight guests, one of which failed and one of which never ended; not finished yet. */
export function sampleDirectory(root: string, texts: SampleTexts = {}): SampleDirectory {
  const { name = RECORD.run.name, guestClass = 'small', error = null, scenario = 'name: accounting-stress\n' } = texts;
  const guests = Array.from({ length: GUESTS }, (_, index) => ({ index, class: guestClass, startNs: index * 1e8 }));
  const plan = { pace: 1, guests };
  const directory = new RunDirectory(root, { ...RECORD, run: { ...RECORD.run, name } }, scenario, plan);
  const block = newBlock();
  const each: Snapshot[] = [];
  let last = new Snapshot(layout);
  directory.event(0, 'start', { guests: GUESTS });
  for (let second = 1; second <= 5; second += 1) {
    load(block, 100 * second);
    const now = Snapshot.take(layout, [block]);
    const delta = now.since(last);
    each.push(delta);
    const states = { pending: 0, running: GUESTS - second, finished: second - 1, failed: 1 };
    directory.interval(second, delta, { deferred_backlog: 7 - second, locked_vm_drift_pages: 0 }, states);
    last = now;
  }
  const history = texts.history ?? 'step 1\nstep 2';
  directory.event(2.5, 'violation', { invariant: 'balance', count: 1, expected: false, history });
  for (let guest = 0; guest < GUESTS - 1; guest += 1) {
    const failed = guest === 3;
    directory.guest({
      guest,
      class: guestClass,
      incarnation: 1,
      worker: 'w1',
      state: failed ? 'failed' : 'completed',
      startSeconds: guest / 10,
      restSeconds: 3 + guest / 10,
      settledSeconds: 3.2 + guest / 10,
      endSeconds: 3.3 + guest / 10,
      operations: 1000 - 100 * guest,
      failedOperations: guest,
      lockedVmAfterPages: guest === 5 ? '18446744073709551615' : '0',
      error: failed ? (error ?? 'EFAULT') : null,
    });
  }
  return { directory, each, whole: last };
}
