/** Evaluates thresholds over the merged statistics of a whole run. */
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
 * A latency nobody measured (no such operation ran) passes, as in k6, and shows as "no samples". A rate over no time, or a
 * share of nothing, is 0, not an error.
 */
export function evaluate(threshold: Threshold, context: ThresholdContext): ThresholdResult {
  const observed = observe(threshold, context);
  return {
    metric: threshold.metric,
    expression: threshold.expression,
    ok: observed === null || holds[threshold.comparison](observed, threshold.limit),
    observed,
    unit: unitOf(threshold),
  };
}

function observe(threshold: Threshold, { snapshot, durationNs, gauges }: ThresholdContext): number | null {
  const { measured } = threshold;
  if (measured.kind === 'gauge') return gauges[measured.gauge];
  if (measured.kind === 'rate') {
    const whole = amount(snapshot, measured.whole);
    return whole === 0 ? 0 : amount(snapshot, measured.part) / whole;
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
  return Math.min(layout.scale.toHistogram(data.cells).getValueAtPercentile(threshold.percentile), data.maxNs);
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
