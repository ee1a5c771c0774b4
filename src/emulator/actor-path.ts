/** What an actor of a plan does under a driver: the same on the wall clock and in virtual time. */
import { stream } from '../base/prng.ts';
import { Actor, type Driver } from '../engine/actor.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { arrivalOf } from '../guest/arrival/arrival.ts';
import { WORKLOADS } from '../guest/workload/index.ts';
import { FAULT_SITES, type FaultSite, type Path } from '../model/env.ts';

export interface Buffer {
  readonly bufferPage: number;
  readonly bufferPages: number;
}

/**
 * When actor `index` of the guest starts, ns after the run's start, and its work. Null when no actor of the plan is it.
 * One that is due when the guest's or the run's time is over, or when the run stops, does nothing.
 */
export function actorPath(
  driver: Driver,
  guest: GuestPlan,
  index: number,
  runDurationNs: number | null,
  buffer: Buffer,
): { readonly startNs: number; readonly path: Path<void> } | null {
  const plan = guest.actors[index];
  if (plan === undefined) return null;
  const workload = WORKLOADS.get(plan.workload);
  if (workload === undefined) throw new Error(`unknown workload '${plan.workload}' in a validated plan`);
  const dueNs = guest.startNs + plan.startNs;
  const untilNs = Math.min(endNs(guest), runDurationNs ?? Infinity);
  const actor = new Actor(
    driver,
    guest,
    plan,
    stream(guest.seed, `actor.${index}`),
    arrivalOf(plan.arrival, dueNs, stream(guest.seed, `arrival.${index}`)),
    untilNs,
    buffer.bufferPage,
    buffer.bufferPages,
  );
  const isDue = (): boolean => dueNs < untilNs && !driver.stopping();
  return { startNs: Math.min(dueNs, untilNs), path: whenDue(isDue, workload.run(actor, plan.options)) };
}

function* whenDue(isDue: () => boolean, work: Path<void>): Path<void> {
  if (isDue()) yield* work;
}

function endNs(guest: GuestPlan): number {
  return guest.durationNs === null ? Infinity : guest.startNs + guest.durationNs;
}

/** The process's first thread when no actor of the plan is it: it only waits for the others. */
export function* nothing(): Path<void> {
  yield;
}

/** How often each fault of a plan is injected; those that never are left out. */
export function faultRates(faults: RunPlan['faults']): Map<FaultSite, number> {
  const rates = new Map<FaultSite, number>();
  for (const site of FAULT_SITES) {
    const rate = faults[site];
    if (rate !== undefined && rate > 0) rates.set(site, rate);
  }
  return rates;
}
