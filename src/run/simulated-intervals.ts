/**
 * The intervals of a simulated run: when the hosts take their statistics, and the sum over the hosts. Everything
 * follows from the plan, so the files made from it are the same bytes on any machine.
 */
import type { GridLine, HostInterval, HostResult } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { decodeSnapshot } from '../metrics/read-snapshot.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import { parseThreshold } from '../metrics/threshold.ts';
import { MODEL_COUNTERS } from '../model/env.ts';
import type { ThresholdContext } from '../report/thresholds.ts';

const SECOND_NS = 1e9;

/** A run of known length has this many intervals at least and at most, unless the user says how long one is. */
const INTERVALS_MIN = 60;
const INTERVALS_MAX = 1000;

/** One interval of a whole run. */
export interface SimulatedInterval {
  readonly endNs: number;
  readonly delta: Snapshot;
  readonly backlog: number;
  readonly driftPages: number;
  readonly guests: HostInterval['guests'];
}

/**
 * A second as in a live run; less where the run is planned to be short, more where it is long: 1, 2 or 5 of a power of
 * ten. Stages and the windows of thresholds begin and end with an interval of their own.
 */
export function intervalGrid(plan: RunPlan, everyNs?: number): GridLine[] {
  const [once, always] = [Infinity, Infinity];
  const { stages = [], thresholds } = plan;
  return [
    { fromNs: 0, everyNs: everyNs ?? usualIntervalNs(plannedNs(plan)), toNs: always },
    ...stages.map(({ startNs }) => ({ fromNs: startNs, everyNs: once, toNs: always })),
    ...stages.map(({ endNs }) => ({ fromNs: endNs ?? always, everyNs: once, toNs: always })),
    ...thresholds.flatMap(({ metric, expression }): GridLine[] => {
      const { windowNs, stage } = parseThreshold(metric, expression, MODEL_COUNTERS);
      if (windowNs === null) return [];
      const during = stages.find(({ name }) => name === stage);
      return [{ fromNs: during?.startNs ?? 0, everyNs: windowNs, toNs: during?.endNs ?? always }];
    }),
  ].filter(({ fromNs }) => fromNs < always);
}

function usualIntervalNs(durationNs: number | null): number {
  if (durationNs === null) return SECOND_NS;
  const shortest = roundStep(durationNs / INTERVALS_MAX);
  return Math.max(1, shortest, Math.min(SECOND_NS, roundStep(durationNs / INTERVALS_MIN)));
}

/** The largest of 1, 2, 5 times a power of ten that is not larger. */
function roundStep(ns: number): number {
  const power = 10 ** Math.floor(Math.log10(ns));
  return ([5, 2].find((n) => n * power <= ns) ?? 1) * power;
}

/** When the last guest must have ended, ns; null when the plan does not say. */
export function plannedNs({ durationNs, guests }: RunPlan): number | null {
  const end = guests.reduce((last, g) => Math.max(last, g.startNs + (g.durationNs ?? Infinity)), 0);
  const planned = Math.min(end, durationNs ?? Infinity);
  return Number.isFinite(planned) && planned > 0 ? planned : null;
}

/** The intervals of all hosts together, in order; the last one ends with the run. */
export function mergeIntervals(plan: RunPlan, hosts: readonly HostResult[], durationNs: number): SimulatedInterval[] {
  const layout = statsLayout(plan);
  const ends = new Set(hosts.flatMap(({ intervals }) => intervals.map(({ endNs }) => endNs ?? durationNs)));
  const next = hosts.map(() => 0);
  return [...ends]
    .toSorted((a, b) => a - b)
    .map((endNs) => {
      const delta = new Snapshot(layout);
      const guests = { pending: 0, running: 0, finished: 0, stopped: 0, failed: 0 };
      let backlog = 0;
      let driftPages = 0;
      hosts.forEach(({ intervals, endNs: hostEndNs }, h) => {
        let at = next[h] as number;
        // A host that ends early has its rest in the interval it ends in.
        while (at < intervals.length && (intervals[at]?.endNs ?? Math.min(hostEndNs, durationNs)) <= endNs) {
          delta.add(decodeSnapshot(layout, (intervals[at] as HostInterval).delta));
          at += 1;
        }
        next[h] = at;
        const now = intervals[at - 1];
        if (now === undefined) return;
        backlog += now.backlog;
        driftPages += now.driftPages;
        for (const state of Object.keys(guests) as (keyof typeof guests)[]) guests[state] += now.guests[state];
      });
      return { endNs, delta, backlog, driftPages, guests };
    });
}

export const gaugesOf = ({ backlog, driftPages }: SimulatedInterval): ThresholdContext['gauges'] => ({
  deferred_backlog: backlog,
  locked_vm_drift_pages: driftPages,
});
