/** Makes the results of a run from its merged statistics and what its driver knows besides. */
import {
  actualSeries,
  DEFERRED_LOCK_WAIT,
  DEFERRED_SETTLE,
  intendedSeries,
  LATENESS,
  LOCK_MODES,
  lockHoldSeries,
  lockWaitSeries,
  Op,
  OPS,
  Outcome,
  OUTCOMES,
  SCHEDULE_LAG,
  type SeriesId,
} from '../metrics/ops.ts';
import { toHistogram } from '../metrics/histogram.ts';
import { total, type Snapshot } from '../metrics/snapshot.ts';
import type { Threshold } from '../metrics/threshold.ts';
import {
  RESULTS_VERSION,
  type Accounting,
  type Coverage,
  type Health,
  type Quantiles,
  type RunIdentity,
  type RunResults,
} from './results.ts';
import { explain } from './explanation.ts';
import { ThresholdJudge } from './threshold-judge.ts';
import { decide, missingDeferred } from './verdict.ts';

export interface RunOutcome {
  readonly run: RunIdentity;
  readonly complete: boolean;
  readonly stoppedByUser: boolean;
  /** Time the rates refer to. */
  readonly durationNs: number;
  readonly coverage: Coverage;
  /** The merged statistics of all threads of all workers. */
  readonly snapshot: Snapshot;
  readonly thresholds: readonly Threshold[];
  /** Has followed the run; left out: thresholds are judged over the whole run only. */
  readonly judge?: ThresholdJudge | undefined;
  readonly accounting: Pick<Accounting, 'balance' | 'driftPages' | 'invariants' | 'violations' | 'notes'> & {
    /** Null: a sentence is made from the figures. */
    readonly explanation: string | null;
  };
  readonly deferredBacklogMax: number | null;
  readonly health: Omit<Health, 'lateness' | 'nullOperation'>;
}

export function buildResults(outcome: RunOutcome): RunResults {
  const { snapshot, durationNs, coverage, complete, stoppedByUser } = outcome;
  const counters = snapshot.countersByName();
  const accounting = accountingOf(outcome, counters);
  const health: Health = {
    ...outcome.health,
    lateness: quantilesOf(snapshot, LATENESS),
    nullOperation: quantilesOf(snapshot, actualSeries(Op.null, Outcome.ok)),
  };
  const gauges = {
    locked_vm_drift_pages: accounting.driftPages,
    deferred_backlog: Math.max(missingDeferred(accounting.deferred), 0),
  };
  const judge = outcome.judge ?? new ThresholdJudge(outcome.thresholds);
  const thresholds = judge.results({ snapshot, durationNs, gauges });
  return {
    schemaVersion: RESULTS_VERSION,
    run: outcome.run,
    complete,
    stoppedByUser,
    durationNs,
    coverage,
    thresholds,
    accounting,
    latency: latencyOf(snapshot),
    split: splitOf(snapshot),
    counters,
    deferredBacklogMax: outcome.deferredBacklogMax,
    health,
    verdict: decide({
      complete,
      stoppedByUser,
      strict: outcome.run.strict ?? false,
      coverage,
      accounting,
      health,
      thresholds,
    }),
  };
}

function accountingOf({ accounting: given, run }: RunOutcome, counters: Readonly<Record<string, number>>): Accounting {
  const { explanation, ...facts } = given;
  const accounting: Accounting = {
    ...facts,
    deferred: {
      queued: counters['deferred_queued'] ?? 0,
      applied: counters['deferred_applied'] ?? 0,
      lost: counters['deferred_lost'] ?? 0,
      discarded: counters['deferred_discarded'] ?? 0,
    },
    limitRefusals: counters['limit_refusals'] ?? 0,
    explanation: '',
  };
  accounting.explanation = explanation ?? explain(accounting, counters, run.account);
  return accounting;
}

/** Of every operation and outcome that has samples. */
function latencyOf(snapshot: Snapshot): RunResults['latency'] {
  return OPS.flatMap((op, i) =>
    OUTCOMES.flatMap((outcome, o) => {
      const intended = quantilesOf(snapshot, intendedSeries(i, o));
      const actual = quantilesOf(snapshot, actualSeries(i, o));
      return intended === null && actual === null
        ? []
        : [{ op, outcome, intended, actual, ranges: rangesOf(snapshot, intendedSeries(i, o)) }];
    }),
  );
}

/** Where the time of operations goes. */
function splitOf(snapshot: Snapshot): RunResults['split'] {
  const byMode = (series: (mode: number) => SeriesId): Record<string, Quantiles> =>
    Object.fromEntries(
      LOCK_MODES.flatMap((mode, i) => {
        const quantiles = quantilesOf(snapshot, series(i));
        return quantiles === null ? [] : [[mode, quantiles]];
      }),
    );
  return {
    scheduleLag: quantilesOf(snapshot, SCHEDULE_LAG),
    lockWait: byMode(lockWaitSeries),
    lockHold: byMode(lockHoldSeries),
    deferredSettle: quantilesOf(snapshot, DEFERRED_SETTLE),
    deferredLockWait: quantilesOf(snapshot, DEFERRED_LOCK_WAIT),
  };
}

export function quantilesOf(snapshot: Snapshot, id: SeriesId): Quantiles | null {
  const data = snapshot.series(id);
  const count = total(data?.cells);
  if (data === null || count === 0) return null;
  const histogram = toHistogram(snapshot.layout.scale, data.cells);
  // The top of a cell can lie above the largest value itself.
  const at = (p: number) => Math.min(histogram.getValueAtPercentile(p), data.maxNs);
  return {
    count,
    meanNs: data.sumNs / count,
    p50Ns: at(50),
    p90Ns: at(90),
    p99Ns: at(99),
    p999Ns: at(99.9),
    maxNs: data.maxNs,
  };
}

/** Samples by latency: bounds at 1, 2 and 5 of each decade, with as many samples below as the cells allow to tell. */
function rangesOf(snapshot: Snapshot, id: SeriesId): { belowNs: number; count: number }[] {
  const cells = snapshot.series(id)?.cells ?? new Float64Array(0);
  const { scale } = snapshot.layout;
  const ranges: { belowNs: number; count: number }[] = [];
  const steps = [2, 5, 10];
  let belowNs = 1;
  let step = 0;
  cells.forEach((n, cell) => {
    if (n === 0) return;
    while (scale.lowest(cell) >= belowNs) {
      belowNs = 10 ** Math.floor(step / 3) * (steps[step % 3] as number);
      step += 1;
    }
    const last = ranges.at(-1);
    if (last?.belowNs === belowNs) last.count += n;
    else ranges.push({ belowNs, count: n });
  });
  return ranges;
}
