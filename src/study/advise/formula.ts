/** The formula: what a fleet has locked at most if every request succeeds, and who pays for it. */
import type { ActorPlan, GuestPlan } from '../../engine/plan.ts';
import type { Variant } from '../../model/env.ts';
import { REGISTRY } from '../../run/registry.ts';

/** Who pays for what a guest has pinned. */
export type Payer = 'mm' | 'user' | 'nobody';

export const payerOf = (variant: Variant): Payer =>
  variant.iommufd === null || variant.iommufd.account === 'mm'
    ? 'mm'
    : variant.iommufd.account === 'creator'
      ? 'user'
      : 'nobody';

/**
 * A guest with `devices` devices in all, each behind a container of its own. Those that the scenario has count; further
 * ones are copies of them in turn. A guest that has more stays as it is.
 */
export function withDevices(guest: GuestPlan, devices: number): GuestPlan {
  const { containers } = guest;
  const further = Array.from({ length: Math.max(0, devices - containers) }, (_, i) => containers + i).flatMap(
    (container) =>
      guest.actors
        .filter((actor) => actor.options['container'] === container % containers)
        .map((actor): ActorPlan => ({
          ...actor,
          name: `${actor.name}-device-${container}`,
          // There is one main thread.
          task: actor.task === 'main' ? 'thread' : actor.task,
          options: { ...actor.options, container },
        })),
  );
  return { ...guest, containers: Math.max(containers, devices), actors: [...guest.actors, ...further] };
}

export const namesContainer = (actor: ActorPlan): boolean => typeof actor.options['container'] === 'number';

/** What an address space of a guest comes to hold, in pages. */
export interface Held {
  readonly mapped: number;
  readonly mlocked: number;
}

/** Per address space of the guest: threads and CLONE_VM children share the first, a forked child has its own. */
export function heldBy(guest: GuestPlan): Held[] {
  const own = { mapped: 0, mlocked: 0 };
  const all = [own];
  for (const actor of guest.actors) {
    const pages = REGISTRY.workloads.get(actor.workload)?.peakPages?.(actor.options, guest.memory) ?? 0;
    let held = own;
    if (actor.task === 'child') all.push((held = { mapped: 0, mlocked: 0 }));
    if (actor.workload === 'mlock-loop') held.mlocked += pages;
    else held.mapped += pages;
  }
  return all;
}

/**
 * The formula: what whoever pays is charged at most, in pages, if every request succeeds. Every container pays for all
 * it has mapped, twice for what is mapped twice. type1, and iommufd in RLIMIT_MODE 1, charge the address space, as
 * mlock does; iommufd charges the user all its guests share, and mlock is a count of its own.
 */
export function formulaPages(guests: readonly GuestPlan[], payer: Payer): number {
  const users = new Map<number, number>();
  let most = 0;
  for (const guest of guests) {
    const spaces = heldBy(guest);
    for (const { mapped, mlocked } of spaces) most = Math.max(most, payer === 'mm' ? mapped + mlocked : mlocked);
    if (payer !== 'user') continue;
    const user = guest.uid ?? -1 - guest.index;
    const sum = (users.get(user) ?? 0) + spaces.reduce((n, { mapped }) => n + mapped, 0);
    users.set(user, sum);
    most = Math.max(most, sum);
  }
  return most;
}

/** What a guest comes to hold in all its address spaces, in pages. */
export const sizeOf = (guest: GuestPlan): number =>
  heldBy(guest).reduce((n, { mapped, mlocked }) => n + mapped + mlocked, 0);
