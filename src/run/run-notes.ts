import type { GuestCounts, RunState } from '../coordinator/run-state.ts';
import { type GuestPlan, neverBegins, type RunPlan } from '../engine/plan.ts';
import { toHistogram } from '../metrics/histogram.ts';
import { actualSeries, OPS, OUTCOMES, type SeriesId } from '../metrics/ops.ts';
import { type Snapshot, total } from '../metrics/snapshot.ts';
import type { Coverage } from '../report/results.ts';
import type { Progress } from '../report/status-line.ts';

/** When stages begin, seconds of real time after the start. */
export function stageStarts({ stages = [], pace }: RunPlan): { atSeconds: number; stage: string }[] {
  return stages.map(({ name, startNs }) => ({ atSeconds: startNs / (pace === 0 ? 1 : pace) / 1e9, stage: name }));
}

export function coverage(state: RunState): Coverage {
  const { plan } = state;
  const counts = state.guestCounts();
  const neverBegan = [...state.outcomes].filter(
    ([guest, outcome]) => outcome.state === 'completed' && neverBegins(plan.guests[guest] as GuestPlan, plan),
  );
  return {
    guestsPlanned: counts.planned,
    guestsFinished: counts.completed - neverBegan.length,
    guestsStopped: counts.stopped,
    guestsFailed: counts.failed,
    guestsLost: counts.lost,
    guestsRerun: counts.rerun,
    workersLost: state.workersLost,
    minShare: 1,
  };
}

/** While the run goes on: guests under way are none of finished, stopped and lost. */
export function coverageSoFar(state: RunState): Coverage {
  const { finished, stopped, failed, lost } = state.guestStates;
  return {
    ...coverage(state),
    guestsFinished: finished,
    guestsStopped: stopped,
    guestsFailed: failed,
    guestsLost: lost,
  };
}

/** The equation that shows that no guest fell through, when there is something to show, and what is missing. */
export function conservation(counts: GuestCounts, reasons: readonly string[]): string[] {
  const { planned, completed, stopped, failed, lost, rerun } = counts;
  if (completed === planned && reasons.length === 0 && rerun === 0) return [];
  const again = rerun === 0 ? '' : `; ${rerun} of them were run again after their worker was lost`;
  const sum = `${planned} guests planned = ${completed} completed + ${stopped} stopped + ${failed} failed + ${lost} lost`;
  return [`${sum}${again}`, ...reasons];
}

/** What was refused, delivered again or sent again: harmless, but not to be kept back. */
export function oddities(state: RunState): string[] {
  const sums: Record<string, number> = {
    'messages refused': state.refused + state.malformed,
    'messages refused from workers declared lost': state.fromLost,
  };
  for (const { final } of state.workers.values()) {
    if (final === null) continue;
    const { deferred, refusedJobs, repeatedJobs } = final;
    for (const [what, n] of [
      ['guest jobs refused', refusedJobs],
      ['guest jobs delivered again', repeatedJobs],
      ['deferred jobs refused', deferred.refused],
      ['deferred updates delivered again, not applied again', deferred.duplicates],
      ['deferred jobs sent again', deferred.resent],
    ] as const) {
      sums[what] = (sums[what] ?? 0) + n;
    }
  }
  return Object.entries(sums).flatMap(([what, n]) => (n > 0 ? [`${n} ${what}`] : []));
}

export function firstDetails(details: readonly { invariant: string; guest: number; detail: string }[]): string[] {
  const first = new Map<string, string>();
  for (const { invariant, guest, detail } of details) {
    if (!first.has(invariant)) first.set(invariant, `first ${invariant}, guest ${guest}: ${detail}`);
  }
  return [...first.values()];
}

export function percentile(snapshot: Snapshot, ids: readonly SeriesId[], p: number): number | null {
  const data = snapshot.merged(ids);
  if (data === null || total(data.cells) === 0) return null;
  return Math.min(toHistogram(snapshot.layout.scale, data.cells).getValueAtPercentile(p), data.maxNs);
}

/** What a lost worker had measured may be in the run directory and no longer in Redis. */
export function dropNegative(delta: Snapshot): void {
  delta.counters.forEach((n, i) => (delta.counters[i] = Math.max(0, n)));
  for (const one of delta.data.values()) {
    for (const numbers of [one.cells, one.buckets]) numbers.forEach((n, i) => (numbers[i] = Math.max(0, n)));
    one.sumNs = Math.max(0, one.sumNs);
  }
}

/** The operation of which most ended in an interval, its rate and its p99. */
export function busiest(delta: Snapshot, seconds: number): Pick<Progress, 'op' | 'opsPerSecond' | 'p99Ns'> {
  let best = { op: 'ops', count: 0, ids: [] as SeriesId[] };
  OPS.forEach((op, i) => {
    const ids = OUTCOMES.map((_, outcome) => actualSeries(i, outcome));
    const count = ids.reduce((sum, id) => sum + delta.count(id), 0);
    if (count > best.count) best = { op, count, ids };
  });
  return {
    op: best.op,
    opsPerSecond: seconds > 0 ? best.count / seconds : 0,
    p99Ns: percentile(delta, best.ids, 99),
  };
}
