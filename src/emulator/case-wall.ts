/**
 * A case under the wall driver: every actor of it on a thread of its own, all on one shared arena, in real time. What
 * is put off goes through the hand-over ring to kworkers of the main thread, as in a worker process, but not through
 * Redis: nobody here is on another machine.
 */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { ExploreCase } from '../engine/explore/case.ts';
import { Execution } from '../engine/explore/execution.ts';
import { outcomeText } from '../engine/explore/outcome.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import type { CaseExecution } from '../engine/virtual/case-virtual.ts';
import { type RingUpdate, WallControl } from '../engine/wall/wall-control.ts';
import { StatsBlock } from '../metrics/stats.ts';
import type { Variant } from '../model/env.ts';
import { ACTOR } from '../model/layout.ts';
import { Oracle } from '../model/oracle.ts';
import type { CaseThreadData, CaseThreadDone, CaseThreadGo } from './case-thread.ts';
import { KWorkers } from './kworker.ts';

const RING_CELLS = 1 << 10;
const KWORKERS = 64;

/** An execution that takes longer waits for ever. */
const EXECUTION_MAX_MS = 20_000;

/** Runs the case `executions` times, with the seeds from `seed` on; ends early where the actors wait for ever. */
export async function* runCaseOnThreads(
  plan: ExploreCase,
  variant: Variant,
  { executions, seed }: { readonly executions: number; readonly seed: number },
): AsyncGenerator<CaseExecution, void, void> {
  const threads = new CaseThreads(plan, variant);
  try {
    for (let n = 0; n < executions; n += 1) {
      const { over, ...execution } = await threads.execute(n, seed + n);
      yield execution;
      if (!over) return;
    }
  } finally {
    await threads.close();
  }
}

class CaseThreads {
  readonly #x: Execution;
  readonly #control: WallControl;
  readonly #kworkers: KWorkers;
  readonly #workers: readonly Worker[];
  /** The arena before an execution, with the kworkers in it. */
  readonly #template: Int32Array;
  /** Deferred updates that are being applied. */
  #pending = 0;

  constructor(plan: ExploreCase, variant: Variant) {
    const x = new Execution(plan, variant, null, true);
    const { arena } = x;
    const threads = plan.actors.length;
    this.#x = x;
    this.#control = WallControl.create(threads + 1, RING_CELLS);
    const layout = statsLayout({ thresholds: [] });
    const oracle = new Oracle(arena, 0);
    oracle.onViolation = (v) => x.fail(v.invariant, v.detail);
    x.rewind();
    const shared = {
      arena,
      control: this.#control,
      thread: threads,
      stats: new StatsBlock(layout, new ArrayBuffer(layout.bytes)),
      variant,
      oracle,
      addressSpace: x.addressSpace,
      costNs: new Float64Array(256),
      wakeUpNs: 0,
      spinNs: 0,
      pace: 1,
      clockMs: () => performance.now(),
      epochMs: performance.now(),
      onMark: () => {},
    };
    this.#kworkers = new KWorkers(shared, KWORKERS, null);
    for (const [id, { actor }] of x.built.entries()) arena.set(actor, ACTOR.thread, id);
    this.#template = arena.i32.slice();
    const start = new SharedArrayBuffer(4);
    this.#workers = plan.actors.map((_, id) => {
      const data: CaseThreadData = {
        plan,
        variant: variant.id,
        built: x.built,
        id,
        arena: arena.buffer as SharedArrayBuffer,
        capacity: x.capacity,
        control: { buffer: this.#control.buffer, threads: threads + 1, ringCells: RING_CELLS },
        start,
      };
      return new Worker(new URL('./case-thread.js', import.meta.url), { workerData: data });
    });
  }

  /** Runs the case once; `over` is false where its actors wait for ever. */
  async execute(n: number, seed: number): Promise<CaseExecution & { readonly over: boolean }> {
    const x = this.#x;
    const control = this.#control;
    const threads = this.#workers.length;
    x.rewind();
    control.collect(x.arena, threads, () => {});
    x.arena.i32.set(this.#template);
    const go: CaseThreadGo = { seed, gate: (n + 1) * threads };
    let left = threads;
    const done = this.#workers.map(async (worker, id) => {
      await this.#runActor(worker, id, go);
      left -= 1;
      control.nudge();
    });
    const all = Promise.all(done);
    all.catch(() => {});
    const lateMs = performance.now() + EXECUTION_MAX_MS;
    for (;;) {
      const bell = control.ringBell();
      this.#drain();
      if (left === 0 && this.#pending === 0 && control.drained === control.pushed) break;
      if (performance.now() > lateMs) {
        x.fail('deadlock', `not over after ${EXECUTION_MAX_MS / 1000} s`);
        return { outcome: outcomeText(x.outcome()), failures: x.failures, over: false };
      }
      // An update that waits for its lock rings another bell than the ring's.
      await (left === 0 ? pause(1) : Promise.race([control.ringFilled(bell), all, pause(100)]));
    }
    x.finish();
    return { outcome: outcomeText(x.outcome()), failures: x.failures, over: true };
  }

  async #runActor(worker: Worker, id: number, go: CaseThreadGo): Promise<void> {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(go);
    const [message] = (await once(worker, 'message')) as [CaseThreadDone];
    const standing = this.#x.standings[id];
    if (standing !== undefined) standing.results = message.results;
    for (const [kind, detail] of message.failures) this.#x.fail(kind, detail);
  }

  #drain(): void {
    const updates: RingUpdate[] = [];
    this.#control.drain(RING_CELLS, updates);
    for (const update of updates) {
      this.#pending += 1;
      void Promise.resolve(this.#kworkers.apply(update)).then(() => (this.#pending -= 1));
    }
  }

  async close(): Promise<void> {
    this.#kworkers.close();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
