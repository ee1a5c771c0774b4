/** One actor of a case on a thread of its own: runs it once for every message. See case-wall.ts. */
import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { type CaseWorld, runActor, standingAtStart } from '../engine/explore/case-ops.ts';
import type { ExploreCase } from '../engine/explore/case.ts';
import type { BuiltActor } from '../engine/guest.ts';
import { DEFAULT_PROFILE, stepCosts } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { CaseChances, PARK_NS, PARKED_MAX_NS } from '../engine/virtual/case-virtual.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import { WallControl } from '../engine/wall/wall-control.ts';
import { type Granularity, WallLoop } from '../engine/wall/wall-loop.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Capacity, type Ref } from '../model/arena.ts';
import type { FaultSite } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { type InvariantName, Oracle } from '../model/oracle.ts';
import { KernelBug } from '../model/paths/notify.ts';

export interface CaseThreadData {
  readonly plan: ExploreCase;
  readonly variant: string;
  readonly built: readonly BuiltActor[];
  /** Which actor of the case this thread runs; also its number. */
  readonly id: number;
  readonly arena: SharedArrayBuffer;
  readonly capacity: Capacity;
  readonly control: { readonly buffer: SharedArrayBuffer; readonly threads: number; readonly ringCells: number };
  /** Threads that have come to the start, over all executions. */
  readonly start: SharedArrayBuffer;
}

export interface CaseThreadGo {
  readonly seed: number;
  /** What `start` counts when everybody is there. */
  readonly gate: number;
}

export interface CaseThreadDone {
  readonly id: number;
  readonly results: string[];
  readonly failures: readonly (readonly [kind: InvariantName | 'kernel-bug', detail: string])[];
}

class CaseActor extends WallActor {
  chances: CaseChances | null = null;

  override at(step: number, object: Ref): boolean {
    this.spend(this.chances?.stepNs() ?? 0);
    return super.at(step, object);
  }

  override inject(site: FaultSite): boolean {
    return this.chances?.inject(site) ?? false;
  }
}

const data = workerData as CaseThreadData;
const port = parentPort;
if (port === null) throw new Error('this file is the main module of a thread');
const { plan, built, id } = data;
const arena = Arena.attach(data.arena, data.capacity);
const variant = resolveVariant(data.variant);
const layout = statsLayout({ thresholds: [] });
const oracle = new Oracle(arena, 0);
const gate = new Int32Array(data.start);
const shared: WallShared = {
  arena,
  control: WallControl.attach(data.control.buffer, data.control.threads, data.control.ringCells),
  thread: id,
  stats: new StatsBlock(layout, new ArrayBuffer(layout.bytes)),
  variant,
  oracle,
  addressSpace: new AddressSpace(arena, variant.gup),
  costNs: stepCosts(DEFAULT_PROFILE.costNs),
  wakeUpNs: 0,
  spinNs: 0,
  pace: 1,
  clockMs: () => performance.now(),
  epochMs: 0,
  onMark: () => {},
};
/** Nobody orders actors of different threads by their model time, so each keeps close to the clock. */
const CLOSE: Granularity = { aheadNs: 5_000, sliceNs: 50_000 };

const world: CaseWorld<CaseActor> = {
  plan,
  built,
  park(k) {
    k.sleepUntil(k.nowNs() + PARK_NS);
    return k.nowNs() < PARKED_MAX_NS;
  },
};

port.on('message', ({ seed, gate: everybody }: CaseThreadGo) => {
  const standing = standingAtStart();
  const failures: [InvariantName | 'kernel-bug', string][] = [];
  oracle.onViolation = (v) => failures.push([v.invariant, v.detail]);
  const loop = new WallLoop(shared, () => {}, CLOSE);
  // What was posted for an actor of the execution before is of no use.
  loop.collect();
  const { actor, task } = built[id] as BuiltActor;
  const k = new CaseActor(shared, actor, task, 0, 0, task as Ref, null);
  k.chances = new CaseChances(plan, seed, `case ${id}`);
  Atomics.add(gate, 0, 1);
  Atomics.notify(gate, 0);
  for (let there = Atomics.load(gate, 0); there < everybody; there = Atomics.load(gate, 0)) {
    Atomics.wait(gate, 0, there, 100);
  }
  shared.epochMs = performance.now();
  loop.add(k, runActor(k, world, id, standing), k.chances.startsNs[id] as number);
  try {
    while (loop.actors > 0) {
      const rest = loop.turn();
      if (rest > 0 && loop.actors > 0) loop.wait(rest, 100);
    }
  } catch (error) {
    if (!(error instanceof KernelBug)) throw error;
    failures.push(['kernel-bug', error.message]);
  }
  port.postMessage({ id, results: standing.results, failures } satisfies CaseThreadDone);
});
