import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunState, type WorkerState } from '../../src/coordinator/run-state.ts';
import type { RunPlan } from '../../src/engine/guest-plan.ts';
import { actualSeries, LATENESS, Op, Outcome } from '../../src/metrics/ops.ts';
import { encodeSnapshot, Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';

const layout = new StatsLayout(['deferred_queued', 'deferred_applied']);

function stateWith(workers: readonly string[], guests: number): RunState {
  // RunState reads the number of guests only.
  const plan = { guests: Array.from({ length: guests }) } as unknown as RunPlan;
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

const ended = (guest: number, state: 'completed' | 'failed' = 'completed') => ({
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
  assert.deepEqual(state.guestStates, { pending: 1, running: 7, finished: 1, failed: 1, lost: 0 });
  w2.lost = 'killed';
  assert.deepEqual(state.guestStates, { pending: 1, running: 4, finished: 1, failed: 1, lost: 3 });
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
  assert.deepEqual(state.guestStates, { pending: 0, running: 2, finished: 2, failed: 0, lost: 0 });
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
