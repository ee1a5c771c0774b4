/** How large an arena the guests of a plan need. */
import type { GuestPlan } from '../engine/plan.ts';
import { EXIT, UserError } from '../base/errors.ts';
import { roundedBytes } from '../base/units-text.ts';
import { WORKLOADS } from '../guest/workload/index.ts';
import { ARENA_WORDS_MAX, arenaWords, type Capacity } from '../model/arena.ts';
import type { Variant } from '../model/env.ts';
import { BATCH_PAGES } from '../model/paths/iommufd-pages.ts';

/** Deferred updates of a worker process that can wait for a lock at once. */
export const KWORKERS = 256;

/**
 * Capacity of the arena for all of these guests, from what their workloads say they need. iommufd notes what each of
 * its batches has pinned, and where a batch begins or ends within a huge page that makes three runs.
 */
export function planCapacity(guests: readonly GuestPlan[], kworkers: number, variant: Variant): Capacity {
  let [processes, actors, containers, mappings, segments, pages, batches] = [0, 0, 0, 0, 0, 0, 0];
  for (const guest of guests) {
    processes += 1 + guest.actors.filter((x) => x.task === 'vm_child' || x.task === 'child').length;
    actors += guest.actors.length + 1;
    containers += guest.containers;
    const before = segments;
    let forks = 0;
    segments += 16;
    for (const actor of guest.actors) {
      const workload = WORKLOADS.get(actor.workload);
      if (workload === undefined) throw new Error(`unknown workload '${actor.workload}' in a validated plan`);
      const needs = workload.needs(actor.options, guest);
      mappings += needs.mappings;
      segments += needs.segments;
      if (needs.forks === true) forks += 1;
      pages += needs.externalPages;
      if (variant.iommufd !== null) batches += needs.mappings + Math.ceil((needs.mappedPages ?? 0) / BATCH_PAGES);
    }
    processes += forks;
    segments += (segments - before) * forks;
  }
  return {
    mm: processes + 8,
    task: actors + processes + 8,
    process: processes + 8,
    files: processes + 8,
    user: guests.length + 8,
    container: containers + 8,
    group: containers * 2 + actors + 8,
    dma: mappings + 64,
    chunk: mappings * 2 + segments + 3 * batches + 256,
    pages: mappings + 64,
    vpfn: pages + 64,
    seg: segments * 2 + 256,
    vwork: 8,
    actor: actors + kworkers + 8,
  };
}

/**
 * Whether one arena can hold these guests.
 * @param fix how to have fewer of them in one.
 * @throws UserError 104 when it cannot.
 */
export function refuseTooLarge(guests: readonly GuestPlan[], variant: Variant, fix: string): void {
  const words = arenaWords(planCapacity(guests, KWORKERS, variant));
  if (words <= ARENA_WORDS_MAX) return;
  const [bytes, most] = [words, ARENA_WORDS_MAX].map((n) => roundedBytes(n * 4));
  const what = `${guests.length} guests need ${bytes} for the kernel's notes of them, and ${most} is all that can be had`;
  throw new UserError(EXIT.invalid, what, fix);
}
