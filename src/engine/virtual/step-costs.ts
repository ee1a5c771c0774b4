/** What the steps of an actor in simulated time cost, and which of them need something that CPUs share. */
import { RWSEM_STEPS, S, STEP_NAMES, type StepId } from '../../model/steps.ts';

/** Costs are multiples of this, so that sums of them are exact in a double up to 39 hours, in whatever order. */
const TICKS_PER_NS = 64;

/** Steps that need something the CPUs of a host share. */
export const Shares = { Nothing: 0, LockWord: 1, Invalidations: 2, Memory: 3, Test: 4 } as const;
export const shares = new Uint8Array(STEP_NAMES.length);
for (const step of [...RWSEM_STEPS, S.LockedVmAtomic, S.LockedVmCmpxchg]) shares[step] = Shares.LockWord;
shares[S.LockedVmRead] = Shares.Test;
shares[S.IotlbSync] = Shares.Invalidations;

/** 4 KiB pages that a clearing step writes. */
export const clearedPages = new Map<StepId, number>([
  [S.ZeroPage4K, 1],
  [S.ZeroPage2M, 512],
  [S.ZeroPage1G, 512 * 512],
]);
for (const step of clearedPages.keys()) shares[step] = Shares.Memory;

/** The nearest time on the grid of exact sums, ns. */
export const exact = (ns: number): number => Math.round(ns * TICKS_PER_NS) / TICKS_PER_NS;

/** Costs per step id on the grid of exact sums. */
export function exactCosts(costNs: Float64Array): Float64Array {
  return costNs.map(exact);
}
