/**
 * Warms a driver thread up: the same code over a small arena of its own, until the compiler has seen the hot paths. A
 * cold thread is tens of milliseconds late in its first moments, which a boot storm would show as latency.
 */
import { stream } from '../base/prng.ts';
import { Actor } from '../engine/actor.ts';
import { buildGuest } from '../engine/guest.ts';
import type { ActorPlan, GuestPlan } from '../engine/plan.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import { type RingUpdate, WallControl } from '../engine/wall/wall-control.ts';
import { WallLoop } from '../engine/wall/wall-loop.ts';
import { arrivalOf } from '../guest/arrival/arrival.ts';
import { WORKLOADS } from '../guest/workload/index.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, capacityFor, type Ref } from '../model/arena.ts';
import { Oracle } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';

const ITERATIONS = 2500;
const RING_CELLS = 1 << 12;

const WORK: readonly (readonly [name: string, options: { readonly [key: string]: number | boolean }])[] = [
  ['map-unmap', { pages: 8, slots: 1, stop_on_failure: false, container: 0 }],
  ['mlock-loop', { pages: 1 }],
  ['fault', { area: 65_536, pages: 4 }],
  ['mmap-munmap', { pages: 4, touch: true }],
];

/** Runs for some tens of milliseconds. `shared` gives the variant and the costs; nothing of it is changed. */
export function warmUp(shared: WallShared): void {
  const actors: ActorPlan[] = WORK.map(([workload, options], i) => ({
    name: workload,
    task: i === 0 ? 'main' : 'thread',
    workload,
    options,
    arrival: { kind: 'closed', options: {} },
    startNs: 0,
    iterations: ITERATIONS,
  }));
  const plan: GuestPlan = {
    index: 0,
    class: 'warm-up',
    seed: 1,
    startNs: 0,
    durationNs: null,
    memory: { bytes: 64 * 4096, backing: 'anon4k', contiguityPages: 1, populated: true },
    memlockBytes: null,
    capIpcLock: false,
    iommu: 'type1v2',
    containers: 1,
    actors,
  };
  const arena = Arena.create(capacityFor({ guests: 1, actorsPerGuest: 8, mappingsPerGuest: 16 }), true);
  const control = WallControl.create(1, RING_CELLS);
  const { layout } = shared.stats;
  const own: WallShared = {
    ...shared,
    arena,
    control,
    thread: 0,
    stats: new StatsBlock(layout, new SharedArrayBuffer(layout.bytes)),
    oracle: new Oracle(arena),
    addressSpace: new AddressSpace(arena, shared.variant.gup),
    pace: 0,
    epochMs: shared.epochMs,
    onMark: () => {},
  };
  const guest = buildGuest(arena, own.addressSpace, plan, () => 0);
  const exiting = new Set<Ref>();
  const loop: WallLoop = new WallLoop(own, (actor) => {
    if (exiting.has(actor.actor)) return;
    exiting.add(actor.actor);
    loop.add(actor, doExit(actor), 0);
  });
  guest.actors.forEach(({ actor, task }, i) => {
    const actorPlan = actors[i] as ActorPlan;
    const driver = new WallActor(own, actor, task, 0, 0, guest.mms[0] as Ref, null);
    const random = stream(1, actorPlan.name);
    const work = new Actor(
      driver,
      plan,
      actorPlan,
      random,
      arrivalOf(actorPlan.arrival, 0, random),
      Infinity,
      guest.bufferPage,
      guest.bufferPages,
    );
    const workload = WORKLOADS.get(actorPlan.workload);
    if (workload !== undefined) loop.add(driver, workload.run(work, actorPlan.options), 0);
  });
  // Nobody applies the deferred updates: they leave the ring so that no actor waits for room.
  const sink: RingUpdate[] = [];
  while (loop.actors > 0 && loop.turn() === 0) {
    control.drain(RING_CELLS, sink);
    sink.length = 0;
  }
}
