import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasAll, RunState, type WorkerState } from '../../src/coordinator/run-state.ts';
import type { RunPlan } from '../../src/engine/plan.ts';
import { actualSeries, LATENESS, Op, Outcome } from '../../src/metrics/ops.ts';
import { encodeSnapshot, Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';
import { coverage } from '../../src/run/run-notes.ts';

const layout = new StatsLayout(['deferred_queued', 'deferred_applied', 'deferred_discarded']);

function stateWith(workers: readonly string[], guests: number): RunState {
  // Of guests only their number and when they are due are read.
  const due = Array.from({ length: guests }, () => ({ startNs: 0 }));
  const plan = { durationNs: null, guests: due } as unknown as RunPlan;
  const state = new RunState(plan, layout);
  for (const worker of workers) {
    state.register(
      {
        t: 'register',
        worker,
        host: 'h',
        pid: 1,
        version: 'v',
        planHash: '',
        capacity: 10,
        threads: 2,
        clockOffsetMs: 0,
        roundTripMs: 1,
      },
      1000,
    );
  }
  return state;
}

function hear(state: RunState, worker: string, running: number, snapshot = new Snapshot(layout)): WorkerState {
  const sender = state.sender(worker, 2000);
  assert.ok(sender);
  state.interval(sender, {
    t: 'interval',
    worker,
    seq: sender.seq + 1,
    states: { running },
    ended: sender.ended,
    snapshot: encodeSnapshot(snapshot),
    violations: {},
    driftPages: '0',
    backlog: 2,
    oldestAgeSeconds: 0,
    eventLoopDelayP99Ns: 3_000_000,
    residentBytes: 1e8,
    cpuSeconds: 1.5,
    clockOffsetMs: 0,
  });
  return sender;
}

const ended = (guest: number, state: 'completed' | 'stopped' | 'failed' = 'completed') => ({
  guest,
  incarnation: 1,
  state,
  operations: 1,
  failedOperations: 0,
  lockedVmAfterPages: '0',
});

test('guests of a lost worker are lost, not pending; every guest is in exactly one state', () => {
  const state = stateWith(['w1', 'w2'], 10);
  hear(state, 'w1', 4);
  const w2 = hear(state, 'w2', 3);
  state.outcome('w1', ended(0));
  state.outcome('w1', ended(1, 'failed'));
  assert.deepEqual(state.guestStates, { pending: 1, running: 7, finished: 1, stopped: 0, failed: 1, lost: 0 });
  w2.lost = 'killed';
  assert.deepEqual(state.guestStates, { pending: 1, running: 4, finished: 1, stopped: 0, failed: 1, lost: 3 });
  // Outcomes that were on their way count as what they are.
  for (let guest = 2; guest < 6; guest++) state.outcome('w1', ended(guest));
  const { pending, running, finished, failed, lost } = state.guestStates;
  assert.equal(pending + running + finished + failed + lost, 10);
  assert.equal(lost, 0);
});

test('a guest whose end is known before the next interval is not counted as running too', () => {
  const state = stateWith(['w1'], 4);
  hear(state, 'w1', 4);
  state.outcome('w1', ended(0));
  state.outcome('w1', ended(1));
  assert.deepEqual(state.guestStates, { pending: 0, running: 2, finished: 2, stopped: 0, failed: 0, lost: 0 });
});

test('guests that a stop cut off count as stopped, not as finished', () => {
  const state = stateWith(['w1'], 4);
  hear(state, 'w1', 3);
  state.outcome('w1', ended(0));
  state.outcome('w1', ended(1, 'stopped'));
  assert.deepEqual(state.guestStates, { pending: 0, running: 2, finished: 1, stopped: 1, failed: 0, lost: 0 });
  state.outcome('w1', ended(2, 'stopped'));
  // The last one never began.
  const { guestsFinished, guestsStopped, guestsFailed, guestsLost } = coverage(state);
  assert.deepEqual([guestsFinished, guestsStopped, guestsFailed, guestsLost], [1, 3, 0, 0]);
});

test('workers are seen side by side', () => {
  const state = stateWith(['w1', 'w2'], 10);
  const block = new StatsBlock(layout, new SharedArrayBuffer(layout.bytes));
  for (let i = 0; i < 3; i++) block.record(actualSeries(Op.map, Outcome.ok), 1000, 1);
  block.record(actualSeries(Op.map, Outcome.enomem), 1000, 2);
  block.record(LATENESS, 500_000_000, 2);
  block.count(layout.counter('thread_idle_ns'), 1_500_000_000);
  hear(state, 'w1', 4, Snapshot.take(layout, [block]));
  hear(state, 'w2', 3).lost = 'killed';
  const [w1, w2] = state.workerHealth(2500);
  assert.deepEqual(w1, {
    name: 'w1',
    state: 'alive',
    silenceSeconds: 0.5,
    guestsRunning: 4,
    deferredBacklog: 2,
    threads: 2,
    idleSeconds: 1.5,
    eventLoopDelaySeconds: 0.003,
    residentBytes: 1e8,
    cpuSeconds: 1.5,
    operations: 5,
    lateness: { sumSeconds: 1, count: 2 },
  });
  assert.deepEqual([w2?.state, w2?.operations, w2?.guestsRunning, w2?.deferredBacklog], ['lost', 0, 0, 0]);
});

const withCounters = (queued: number, applied: number): Snapshot => {
  const snapshot = new Snapshot(layout);
  snapshot.counters[layout.counter('deferred_queued')] = queued;
  snapshot.counters[layout.counter('deferred_applied')] = applied;
  return snapshot;
};

test('an interval that comes late, or twice, does not replace a newer one', () => {
  const state = stateWith(['w1'], 4);
  const w1 = hear(state, 'w1', 3, withCounters(10, 10));
  const old = w1.interval!;
  hear(state, 'w1', 2, withCounters(20, 20));
  state.interval(w1, old);
  state.interval(w1, { ...old, seq: 2 });
  assert.equal(w1.interval?.states['running'], 2);
  assert.equal(state.merged('all').counter('deferred_queued'), 20);
});

test('an outcome that comes twice is news once, and one of a later incarnation is news', () => {
  const state = stateWith(['w1', 'w2'], 1);
  assert.equal(state.outcome('w1', ended(0)), true);
  assert.equal(state.outcome('w1', ended(0)), false);
  assert.equal(state.outcome('w2', { ...ended(0, 'failed'), incarnation: 2 }), true);
  assert.equal(state.outcome('w1', ended(0)), false);
  assert.equal(state.outcomes.get(0)?.state, 'failed');
});

test('what a lost worker found is found, superseded or not', () => {
  const state = stateWith(['w1', 'w2'], 2);
  const w1 = hear(state, 'w1', 1);
  w1.interval = { ...w1.interval!, violations: { balance: 2 } };
  const w2 = hear(state, 'w2', 1);
  w2.interval = { ...w2.interval!, violations: { balance: 1, wrap: 1 } };
  w1.lost = 'killed';
  assert.deepEqual(state.violations, { balance: 3, wrap: 1 });
  state.supersede('w1', [0]);
  assert.deepEqual(state.violations, { balance: 3, wrap: 1 });
});

test('updates that waited on a lost worker are discarded with guests that went down, applied with guests that ended', () => {
  const figures = (state: RunState): [queued: number, applied: number, discarded: number] => {
    const sum = state.merged('counted');
    return [sum.counter('deferred_queued'), sum.counter('deferred_applied'), sum.counter('deferred_discarded')];
  };
  const state = stateWith(['w1'], 2);
  const w1 = hear(state, 'w1', 2, withCounters(10, 7));
  assert.deepEqual(figures(state), [10, 7, 0], 'it lives: they are waiting');
  w1.lost = 'killed';
  state.outcome('w1', ended(0));
  assert.deepEqual(figures(state), [10, 7, 3], 'guest 1 went down');
  state.outcome('w1', ended(1));
  assert.deepEqual(figures(state), [10, 10, 0], 'guests end only when all is applied');
  state.supersede('w1', [0, 1]);
  assert.deepEqual(figures(state), [0, 0, 0]);
  const all = state.merged('all');
  assert.equal(all.counter('deferred_discarded'), 3, 'what was measured so far keeps them, as discarded');
});

test('a lost worker counts when its last interval has all that its guests did, and only then', () => {
  const state = stateWith(['w1', 'idle'], 2);
  const w1 = hear(state, 'w1', 0);
  assert.equal(hasAll(w1), false, 'two updates wait');
  w1.interval = { ...w1.interval!, backlog: 0 };
  assert.equal(hasAll(w1), true);
  state.outcome('w1', ended(0));
  assert.equal(hasAll(w1), false, 'its figures are older than the outcome');
  const later = hear(state, 'w1', 1);
  later.interval = { ...later.interval!, backlog: 0 };
  assert.equal(hasAll(w1), false, 'one runs');
  hear(state, 'w1', 0);
  w1.interval = { ...w1.interval!, backlog: 0 };
  assert.equal(hasAll(w1), true);
  w1.lost = 'killed';
  assert.deepEqual([state.isSettled(0), state.missing.length], [false, 1]);
  w1.accounted = true;
  assert.deepEqual([state.isSettled(0), state.missing.length], [true, 0]);
  assert.equal(hasAll(state.workers.get('idle')!), true, 'it never had a guest');
});

test('a worker is silent only when nothing was heard of it for its whole lease', () => {
  const state = stateWith(['w1', 'w2', 'w3'], 3);
  hear(state, 'w1', 1);
  state.workers.get('w3')!.lost = 'killed';
  assert.deepEqual(state.silent(11_000, 10_000), []);
  assert.deepEqual(state.silent(11_001, 10_000), ['w2']);
  assert.deepEqual(state.silent(12_001, 10_000), ['w1', 'w2']);
});
