/** Whether a live run is too much for the machines it runs on, so that its latencies are not to be trusted. */
import type { RunPlan } from '../engine/plan.ts';
import { LATENESS } from '../metrics/ops.ts';
import type { Snapshot } from '../metrics/snapshot.ts';
import { percentile } from './run-notes.ts';

/**
 * The generator is saturated when its actors resume later than this, p99 over the run, ns of real time. Lateness
 * inflates a latency by lateness x pace, so slow runs tolerate more: up to 0.5 ms of model time.
 */
const SATURATED_LATENESS_NS = 10_000_000;
const SATURATED_MODEL_NS = 500_000;

/** A run slowed down further than this is not worth having. */
const SLOWEST_ADVISED_PACE = 0.005;

/** Other processes that use less than this share of the processors are not worth a word. */
const OTHERS_MIN = 0.2;

export interface Saturation {
  readonly reason: string;
  readonly advice: string;
}

/** @param othersShare what other processes have used of the processors, 0 .. 1; null: unknown. */
export function saturationOf(plan: RunPlan, measured: Snapshot, othersShare: number | null): Saturation | null {
  const { pace } = plan;
  if (pace === 0) return null;
  const p99Ns = percentile(measured, [LATENESS], 99);
  const limitNs = Math.max(SATURATED_LATENESS_NS, SATURATED_MODEL_NS / pace);
  if (p99Ns === null || p99Ns <= limitNs) return null;
  const late = `actors resumed ${(p99Ns / 1e6).toFixed(1)} ms late (p99; ${(limitNs / 1e6).toFixed(0)} ms are tolerated)`;
  const others = othersShare !== null && othersShare >= OTHERS_MIN ? othersShare : null;
  const reason =
    others === null ? late : `${late}; other processes used ${Math.round(others * 100)} % of the processors`;
  return { reason, advice: adviceFor(plan, p99Ns, others !== null) };
}

/** A pace at which a lateness like this is tolerated, and what else there is to do. */
function adviceFor({ pace, guests }: RunPlan, p99Ns: number, busyWithOthers: boolean): string {
  const steps = busyWithOthers ? ['end what else runs here'] : [];
  const holds = Number((SATURATED_MODEL_NS / p99Ns).toPrecision(1));
  // So late an actor is not by its own load.
  if (holds < pace && holds >= SLOWEST_ADVISED_PACE) steps.push(`use --pace ${holds}`);
  if (guests.length > 1) steps.push('use fewer guests or more machines');
  return steps.length === 0 ? 'use a smaller --pace' : steps.join(', or ');
}
