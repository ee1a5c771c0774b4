/** How the account of a plan's variant works, for the sentences of a report, which knows no variants. */
import type { RunPlan } from '../engine/plan.ts';
import type { Variant } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import type { AccountPolicy } from '../report/results.ts';

/** `UnknownVariantError` for a plan whose variant this version does not know. */
export function accountPolicy(plan: RunPlan): AccountPolicy {
  const variant = resolveVariant(plan.variant);
  return { update: updateOf(variant), charged: chargedOf(variant, plan), ...usersOf(plan) };
}

function updateOf({ deferring, lockFree, iommufd }: Variant): AccountPolicy['update'] {
  if (deferring) return 'trylock';
  if (iommufd !== null) return iommufd.account === 'mm' ? 'waits' : 'lock-free';
  return lockFree ? 'lock-free' : 'waits';
}

function chargedOf({ iommufd }: Variant, plan: RunPlan): AccountPolicy['charged'] {
  if (iommufd === null) return 'locked_vm';
  // iommufd charges nobody for what a creator with CAP_IPC_LOCK pins.
  if (iommufd.account === 'none' || plan.guests.every((guest) => guest.capIpcLock)) return 'nobody';
  return iommufd.account === 'mm' ? 'locked_vm' : 'user';
}

function usersOf({ guests }: RunPlan): Pick<AccountPolicy, 'users' | 'largest'> {
  const byUid = new Map<number, number>();
  let alone = 0;
  for (const { uid } of guests) {
    if (uid === undefined) alone += 1;
    else byUid.set(uid, (byUid.get(uid) ?? 0) + 1);
  }
  const [largest] = [...byUid].toSorted(([, a], [, b]) => b - a);
  return {
    users: byUid.size + alone,
    largest: largest === undefined ? null : { uid: largest[0], guests: largest[1] },
  };
}
