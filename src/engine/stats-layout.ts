/** The layout of a run's statistics: the same on every worker of the run, so that their snapshots can be merged. */
import { StatsLayout } from '../metrics/stats.ts';
import { exactEdgesNs, parseThreshold } from '../metrics/threshold.ts';
import { MODEL_COUNTERS } from '../model/env.ts';
import type { RunPlan } from './plan.ts';

export function statsLayout(plan: Pick<RunPlan, 'thresholds'>): StatsLayout {
  const thresholds = plan.thresholds.map((t) => parseThreshold(t.metric, t.expression, MODEL_COUNTERS));
  return new StatsLayout(MODEL_COUNTERS, { exactEdgesNs: exactEdgesNs(thresholds) });
}
