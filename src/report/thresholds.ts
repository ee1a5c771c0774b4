/** Evaluates thresholds over the merged statistics of a whole run. */
import { toHistogram } from '../metrics/histogram.ts';
import type { Snapshot, SeriesData } from '../metrics/snapshot.ts';
import { total } from '../metrics/snapshot.ts';
import type { Amount, Comparison, Threshold, ThresholdGauge } from '../metrics/threshold.ts';
import type { ThresholdResult } from './results.ts';

export interface ThresholdContext {
  readonly snapshot: Snapshot;
  /** Time the rates refer to. */
  readonly durationNs: number;
  readonly gauges: Readonly<Record<ThresholdGauge, number>>;
}

/**
 * A latency that was never measured, and a share of nothing, leave the threshold not judged unless it may be empty: a
 * fleet of which every map is refused has no latency of a map, and must not pass for that. A rate over no time is 0.
 */
export function evaluate(threshold: Threshold, context: ThresholdContext): ThresholdResult {
  return resultOf(threshold, observe(threshold, context));
}

/** Of a threshold whose stage never came. */
export const neverMeasured = (threshold: Threshold): ThresholdResult => resultOf(threshold, null);

function resultOf(threshold: Threshold, observed: number | null): ThresholdResult {
  const { metric, expression, comparison, limit, mayBeEmpty } = threshold;
  const judged = observed !== null || mayBeEmpty;
  return {
    metric,
    expression,
    ok: observed === null ? mayBeEmpty : holds[comparison](observed, limit),
    ...(judged ? {} : { judged: false }),
    observed,
    unit: unitOf(threshold),
  };
}

export type ThresholdState = 'held' | 'crossed' | 'not judged';

export function stateOf({ ok, judged = true }: Pick<ThresholdResult, 'ok' | 'judged'>): ThresholdState {
  return judged ? (ok ? 'held' : 'crossed') : 'not judged';
}

function observe(threshold: Threshold, { snapshot, durationNs, gauges }: ThresholdContext): number | null {
  const { measured } = threshold;
  if (measured.kind === 'gauge') return gauges[measured.gauge];
  if (measured.kind === 'rate') {
    const whole = amount(snapshot, measured.whole);
    return whole === 0 ? null : amount(snapshot, measured.part) / whole;
  }
  if (measured.kind === 'counter') {
    const { counter } = measured;
    const count = amount(snapshot, counter === null ? { series: measured.series } : { counter });
    if (threshold.aggregate === 'count') return count;
    return durationNs > 0 ? count / (durationNs / 1e9) : 0;
  }
  const data = snapshot.merged(measured.series);
  return data === null || total(data.cells) === 0 ? null : trend(threshold, snapshot, data);
}

function trend(threshold: Threshold, { layout }: Snapshot, data: SeriesData): number {
  if (threshold.aggregate === 'avg') return data.sumNs / total(data.cells);
  if (threshold.aggregate === 'max') return data.maxNs;
  if (threshold.aggregate === 'min') return layout.scale.lowest(data.cells.findIndex((n) => n > 0));
  // The top of a cell can lie above the largest value itself.
  return Math.min(toHistogram(layout.scale, data.cells).getValueAtPercentile(threshold.percentile), data.maxNs);
}

function amount(snapshot: Snapshot, of: Amount): number {
  if ('counter' in of) return snapshot.counter(of.counter);
  return of.series.reduce((sum, id) => sum + snapshot.count(id), 0);
}

const holds: Readonly<Record<Comparison, (observed: number, limit: number) => boolean>> = {
  '<': (observed, limit) => observed < limit,
  '<=': (observed, limit) => observed <= limit,
  '>': (observed, limit) => observed > limit,
  '>=': (observed, limit) => observed >= limit,
  '==': (observed, limit) => observed === limit,
  '===': (observed, limit) => observed === limit,
  '!=': (observed, limit) => observed !== limit,
};

function unitOf({ measured, aggregate }: Threshold): ThresholdResult['unit'] {
  if (measured.kind === 'trend') return 'ns';
  if (measured.kind === 'rate') return 'share';
  return measured.kind === 'counter' && aggregate === 'rate' ? 'per_second' : 'plain';
}
