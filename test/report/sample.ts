/** Runs made up for the tests of the report: real statistics, with every section of the summary in use. */
import {
  actualSeries,
  DEFERRED_LOCK_WAIT,
  DEFERRED_SETTLE,
  LATENESS,
  lockHoldSeries,
  lockWaitSeries,
  Op,
  Outcome,
  SCHEDULE_LAG,
} from '../../src/metrics/ops.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';
import { parseThreshold } from '../../src/metrics/threshold.ts';
import type { RunOutcome } from '../../src/report/build.ts';
import type { WorkerFigures } from '../../src/report/results.ts';
import type { RunRecord } from '../../src/report/run-dir.ts';

export const MODEL_COUNTERS = [
  'trylock_attempts',
  'trylock_failures',
  'deferred_queued',
  'deferred_applied',
  'deferred_lost',
  'limit_refusals',
  'ring_full_waits',
  'pages_pinned',
  'pages_unpinned',
];

export const layout = new StatsLayout(MODEL_COUNTERS);
export const newBlock = (): StatsBlock => new StatsBlock(layout, new SharedArrayBuffer(layout.bytes));

/** `n` operations whose latencies grow evenly, two of them refused, some of them deferred. */
export function load(block: StatsBlock, n: number): void {
  for (let i = 0; i < n; i++) {
    const ns = 2_000 + i * 37;
    block.recordOp(Op.map, Outcome.ok, ns, ns + 400 + i);
    block.recordOp(Op.unmap, Outcome.ok, ns / 2, ns / 2 + 100);
    block.recordOp(Op.null, Outcome.ok, 120, 130);
    block.record(SCHEDULE_LAG, 400 + i, 1);
    block.record(lockWaitSeries(1), i % 7 === 0 ? ns * 3 : 50, 1);
    block.record(lockHoldSeries(1), 300 + (i % 50), 1);
    block.record(LATENESS, 900 + (i % 500), 1);
    if (i % 10 === 0) {
      block.record(DEFERRED_SETTLE, 1_200_000 + i * 100, 1);
      block.record(DEFERRED_LOCK_WAIT, 20_000 + i, 1);
      block.count(layout.counter('trylock_failures'), 1);
      block.count(layout.counter('deferred_queued'), 1);
      block.count(layout.counter('deferred_applied'), 1);
    }
    block.count(layout.counter('trylock_attempts'), 2);
    block.count(layout.counter('pages_pinned'), 512);
    block.count(layout.counter('pages_unpinned'), 512);
  }
  block.record(actualSeries(Op.map, Outcome.enomem), 900, 2);
  block.count(layout.counter('limit_refusals'), 2);
}

export const THRESHOLDS = [
  { metric: 'op_duration{op:map}', expression: 'p(99) < 1ms' },
  { metric: 'op_duration{op:map}', expression: 'max < 10us' },
  { metric: 'op_duration{op:mlock}', expression: 'avg < 1ms' },
  { metric: 'trylock_failure_ratio', expression: 'rate < 20%' },
];

export const RUN: RunOutcome['run'] = {
  id: '20260102T030405Z-accounting-stress',
  name: 'accounting-stress',
  driver: 'wall',
  variant: 'A',
  seed: 42,
  pace: 1,
  planHash: 'ab12',
  commandLine: ['pinstorm', 'run', 'scenarios/accounting-stress.yaml'],
  startedAt: '2026-01-02T03:04:05.678Z',
  version: '0.1.0',
};

export const RECORD: RunRecord = {
  schemaVersion: 1,
  run: RUN,
  node: 'v20.0.0',
  machine: { cores: 2, cpu: 'test', memoryBytes: 2 ** 33, system: 'Linux 6.1' },
  statistics: { digits: 2, counters: [...layout.counterNames] },
  thresholds: THRESHOLDS,
  expect: [],
  guestsPlanned: 50,
  minShare: 0.95,
  health: { cores: 2, threads: 2, workers: 1, profile: { name: 'generic-4.10', calibrated: false } },
};

/** A run under a deferring variant that was refused memory it did not use: over-penalty, and a threshold crossed. */
export function failing(): RunOutcome {
  const block = newBlock();
  load(block, 5000);
  return {
    run: RUN,
    complete: true,
    stoppedByUser: false,
    durationNs: 12_300_000_000,
    coverage: { guestsPlanned: 50, guestsFinished: 49, guestsFailed: 0, guestsLost: 1, workersLost: 1, minShare: 0.95 },
    snapshot: Snapshot.take(layout, [block]),
    thresholds: THRESHOLDS.map((t) => parseThreshold(t.metric, t.expression, MODEL_COUNTERS)),
    accounting: {
      balance: 'exact',
      driftPages: 0,
      violations: [
        {
          invariant: 'over_penalty',
          count: 2,
          expected: false,
          history: 'guest 3  mapper   unmap 1 page: trylock fails, -1 put off\nguest 3  mapper   map 1 page: ENOMEM\n',
        },
      ],
      notes: ['locked_vm after the maps 16 pages, after close 0.'],
      explanation: null,
    },
    deferredBacklogMax: 17,
    health: {
      ...RECORD.health,
      saturated: false,
      saturation: null,
      eventLoopDelayP99Ns: 1_100_000,
      perWorker: [
        workerFigures('w1', 30, 120_000, null),
        workerFigures('w2', 19, 9_500_000, null),
        workerFigures('w3', 0, null, 'nothing heard for 10 s'),
      ],
    },
  };
}

function workerFigures(name: string, guests: number, lateNs: number | null, lost: string | null): WorkerFigures {
  const lateness =
    lateNs === null
      ? null
      : { count: 10, meanNs: lateNs, p50Ns: lateNs / 4, p90Ns: lateNs, p99Ns: lateNs, p999Ns: lateNs, maxNs: lateNs };
  const rest = { host: 'node-a', threads: 2, capacity: 40, cpuSeconds: guests / 10, residentBytes: 2 ** 27 };
  return { ...rest, name, guests, operations: guests * 100, lateness, lost };
}

/** A saturated run of a variant that never defers, where nothing else is wrong. */
export function saturated(): RunOutcome {
  const block = newBlock();
  block.recordOp(Op.map, Outcome.ok, 5e9, 6e9);
  block.count(layout.counter('trylock_attempts'), 0);
  return {
    ...failing(),
    run: { ...RUN, name: 'huge-guest', variant: 'E', driver: 'wall', pace: 4 },
    snapshot: Snapshot.take(layout, [block]),
    thresholds: [],
    coverage: { guestsPlanned: 1, guestsFinished: 1, guestsFailed: 0, guestsLost: 0, workersLost: 0, minShare: 0.95 },
    accounting: { ...failing().accounting, violations: [], notes: [] },
    deferredBacklogMax: null,
    health: {
      ...RECORD.health,
      saturated: true,
      saturation: { reason: 'lateness p99 12ms is above 5ms', advice: 'add workers or lower --pace' },
      eventLoopDelayP99Ns: null,
      profile: { name: 'epyc-6.1', calibrated: true },
    },
  };
}
