import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Overdue } from '../../src/coordinator/overdue.ts';
import { RunState } from '../../src/coordinator/run-state.ts';
import type { RunPlan } from '../../src/engine/plan.ts';
import { actualSeries, Op, Outcome } from '../../src/metrics/ops.ts';
import { encodeSnapshot, Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';

const layout = new StatsLayout(['deferred_queued', 'deferred_applied', 'deferred_discarded']);
const GRACE_MS = 60_000;
const REGISTRATION = {
  t: 'register',
  worker: 'w1',
  host: 'h',
  pid: 1,
  version: 'v',
  planHash: '',
  capacity: 1,
  threads: 1,
  clockOffsetMs: 0,
  roundTripMs: 1,
} as const;

/** A run of one worker, which says how much it has done each second. */
class Run {
  readonly state: RunState;
  readonly overdue: Overdue;
  readonly block = new StatsBlock(layout, new SharedArrayBuffer(layout.bytes));
  cpuSeconds = 0;
  #nowMs = 1e6;

  constructor(pace: number) {
    const guests = [{ startNs: 2e9, durationNs: 8e9 }];
    // The rest of the plan has no part in it.
    const plan = { guests, durationNs: null, pace } as unknown as RunPlan;
    this.state = new RunState(plan, layout);
    this.state.register(REGISTRATION, this.#nowMs);
    this.overdue = new Overdue(this.state, GRACE_MS);
  }

  /** Seconds until it is overdue, or undefined. */
  after(seconds: number, eachSecond: () => void = () => {}): number | undefined {
    for (let s = 1; s <= seconds; s++) {
      this.#nowMs += 1000;
      eachSecond();
      const sender = this.state.sender('w1', this.#nowMs);
      assert.ok(sender);
      this.state.interval(sender, {
        t: 'interval',
        worker: 'w1',
        seq: sender.seq + 1,
        states: { running: 1 },
        ended: 0,
        snapshot: encodeSnapshot(Snapshot.take(layout, [this.block])),
        violations: {},
        driftPages: '0',
        backlog: 0,
        oldestAgeSeconds: 0,
        eventLoopDelayP99Ns: 0,
        residentBytes: 0,
        cpuSeconds: this.cpuSeconds,
        clockOffsetMs: 0,
      });
      if (this.overdue.why(this.#nowMs, s * 1000) !== undefined) return s;
    }
    return undefined;
  }
}

describe('a run goes on though it should have ended', () => {
  it('with a pace: a grace after the planned end of its last guest', () => {
    const run = new Run(2);
    assert.equal(run.overdue.why(0, 65_000), undefined);
    assert.equal(run.overdue.why(0, 65_001), 'guests went on 60 s past their planned end');
  });

  it('at pace 0: when nothing has happened for a grace', () => {
    assert.equal(new Run(0).after(300), 62);
    assert.match(new Run(0).overdue.why(0, 1e9) ?? 'goes on', /goes on/);
  });

  it('not while operations, updates or guests end, however slowly', () => {
    const operation = new Run(0);
    let s = 0;
    const each = (run: Run, what: () => void) => run.after(1000, () => (++s % 50 === 0 ? what() : undefined));
    assert.equal(
      each(operation, () => operation.block.recordOp(Op.map, Outcome.ok, 1, 1)),
      undefined,
    );
    const failing = new Run(0);
    assert.equal(
      each(failing, () => failing.block.record(actualSeries(Op.map, Outcome.enomem), 1, 1)),
      undefined,
    );
    const update = new Run(0);
    assert.equal(
      each(update, () => update.block.count(layout.counter('deferred_applied'), 1)),
      undefined,
    );
  });

  it('ten times later while its workers use a processor', () => {
    const run = new Run(0);
    assert.equal(
      run.after(1000, () => (run.cpuSeconds += 1)),
      602,
    );
  });
});
