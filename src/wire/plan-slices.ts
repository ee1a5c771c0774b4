/** The guests of a plan in slices: what one claim covers, and what runs on one worker. */
import type { RunPlan } from '../engine/plan.ts';
import { resolveVariant } from '../model/kernels/index.ts';

/** Slices that guests on their own are put into at most. */
const SLICES_MAX = 512;

/** Guests of a slice, the last one may have fewer. @param guests of the whole plan. */
export const sliceGuests = (guests: number): number => Math.max(1, Math.ceil(guests / SLICES_MAX));

/**
 * Guests by slice, in the order of the plan. Where iommufd charges the user (drivers/iommu/iommufd/pages.c,
 * iopt_pages_update_pinned), the guests of one uid share a quota, which lies in the memory of one worker: they are one
 * slice, or within one.
 */
export function planSlices(plan: Pick<RunPlan, 'guests' | 'variant'>): readonly (readonly number[])[] {
  const shared = resolveVariant(plan.variant).iommufd?.account === 'creator';
  const byUid = new Map<number, number[]>();
  const groups: number[][] = [];
  plan.guests.forEach((guest, index) => {
    const known = shared && guest.uid !== undefined ? byUid.get(guest.uid) : undefined;
    if (known !== undefined) known.push(index);
    else {
      const group = [index];
      groups.push(group);
      if (shared && guest.uid !== undefined) byUid.set(guest.uid, group);
    }
  });
  // A worker has room for slices of the largest size, so that smaller ones would waste it.
  const size = groups.reduce((most, { length }) => Math.max(most, length), sliceGuests(plan.guests.length));
  const slices: number[][] = [];
  for (const group of groups) {
    const last = slices.at(-1);
    if (last !== undefined && last.length + group.length <= size) last.push(...group);
    else slices.push(group);
  }
  return slices;
}
