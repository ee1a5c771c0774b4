/**
 * What of a class of guests can only fail under a variant: a container or a device that is not there, a call that the
 * kernel does not have. Such a scenario is refused before it starts; what a limit refuses is for the run to show.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import type { Variant } from '../../model/env.ts';
import { MODULE_ACTORS_MAX, poolsMax } from './guest-memory.ts';
import { WORKLOADS } from './index.ts';
import { type ActorSetting, type GuestSetting, noMdev, type Refusal, type Workload } from './workload.ts';

/**
 * Tasks with a descriptor table of their own: a copy, which stays open when the guest's first process closes its own.
 */
const OWN_FILES: ReadonlySet<ActorSetting['task']> = new Set(['vm_child', 'child']);

interface Known extends ActorSetting {
  readonly index: number;
  readonly is: Workload;
}

/** Index of the container that an actor works on; null: none. */
function containerOf({ is, options }: Known): number | null {
  return is.container === undefined ? null : Number(options[is.container]);
}

/** Everything of a class that can only fail under the variant. Empty: all of it can work. */
export function refusalsOf(guest: GuestSetting, variant: Variant): Refusal[] {
  const actors = guest.actors.flatMap((actor, index): Known[] => {
    const is = WORKLOADS.get(actor.workload);
    return is === undefined ? [] : [{ ...actor, index, is }];
  });
  const found = [...mdevRefusals(guest, variant), ...roomRefusals(guest, actors)];
  for (const actor of actors) {
    const at = (refusal: Refusal): Refusal => ({ ...refusal, path: ['actors', actor.index, ...refusal.path] });
    if (actor.task === 'kthread' && actor.is.kthread !== true) {
      const can = [...WORKLOADS.values()].filter(({ kthread }) => kthread === true).map(({ name }) => name);
      const message = `a kernel thread cannot do ${actor.workload}: it has no memory and no descriptors`;
      found.push(
        at({ path: ['task'], message, hint: `use task: thread; a kernel thread can do ${can.join(' and ')}` }),
      );
      continue;
    }
    const container = containerOf(actor);
    if (container !== null && container >= guest.containers) {
      const message = `there is no container ${container}`;
      const hint = `write containers: ${container + 1}, or use a container from 0 to ${guest.containers - 1}`;
      found.push(at({ path: ['options', actor.is.container as string], message, hint }));
      continue;
    }
    const closer = actors.find((other) => closes(other, actor));
    if (closer !== undefined) {
      const user = closer === actor ? 'another instance of it' : `'${actor.name}'`;
      const message = `'${closer.name}' (${closer.workload}) closes container ${container} at its end, which ${user} uses too`;
      const hint = `give '${actor.name}' a container of its own: write containers: ${guest.containers + 1} and container: ${guest.containers}`;
      found.push(at({ path: ['options', actor.is.container as string], message, hint }));
      continue;
    }
    const own = actor.is.refuse?.(actor.options, { variant, guest: { ...guest, actors }, actor }) ?? null;
    if (own !== null) found.push(at(own));
  }
  return found;
}

/** Whether the first of two actors closes the container of the second under its feet. */
function closes(closer: Known, user: Known): boolean {
  if (closer.is.closes !== true || (closer === user && closer.count === 1)) return false;
  return containerOf(closer) === containerOf(user) && !OWN_FILES.has(closer.task) && !OWN_FILES.has(user.task);
}

function mdevRefusals({ mdev }: GuestSetting, variant: Variant): Refusal[] {
  if (mdev === 'none' || variant.external !== null) return [];
  return [{ path: ['mdev'], ...noMdev(variant) }];
}

/** More pools or modules than the IOMMU has addresses for. */
function roomRefusals(guest: GuestSetting, actors: readonly Known[]): Refusal[] {
  const rooms: readonly (readonly [workload: string, most: number])[] = [
    ['hotplug', MODULE_ACTORS_MAX],
    ['virtio-mem', poolsMax(guest.memoryBytes[1] / PAGE_BYTES)],
  ];
  return rooms.flatMap(([workload, most]) => {
    const own = actors.filter((actor) => actor.workload === workload);
    const count = own.reduce((sum, actor) => sum + actor.count, 0);
    if (count <= most) return [];
    const message = `${count} actors with ${workload} are more than a guest has addresses for`;
    return [
      { path: ['actors', own[0]?.index ?? 0, 'count'], message, hint: `the maximum is ${most} for such a guest` },
    ];
  });
}
