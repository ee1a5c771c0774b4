/**
 * The wall driver on a clock that the test moves: what actors find at a lock is decided by their model time, whatever
 * the clock does and however far they run ahead of it. The simulation says how it must be.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stream } from '../../src/base/prng.ts';
import { actorPath } from '../../src/emulator/actor-path.ts';
import { planCapacity } from '../../src/emulator/capacity.ts';
import { simulateHost } from '../../src/emulator/host-run.ts';
import { buildGuest, containersOf, newActor } from '../../src/engine/guest.ts';
import type { GuestPlan, RunPlan } from '../../src/engine/plan.ts';
import { machineCost, stepCosts } from '../../src/engine/profile.ts';
import { statsLayout } from '../../src/engine/stats-layout.ts';
import { WallActor, type WallShared } from '../../src/engine/wall/wall-actor.ts';
import { type RingUpdate, WallControl } from '../../src/engine/wall/wall-control.ts';
import { type Granularity, GRANULARITY, WallLoop } from '../../src/engine/wall/wall-loop.ts';
import { LOCK_MODES, type LockMode, lockWaitSeries } from '../../src/metrics/ops.ts';
import { decodeSnapshot } from '../../src/metrics/read-snapshot.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock } from '../../src/metrics/stats.ts';
import { AddressSpace } from '../../src/model/address-space/address-space.ts';
import { Arena, type Ref } from '../../src/model/arena.ts';
import { checkAtRest } from '../../src/model/invariants/index.ts';
import type { Path } from '../../src/model/env.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { Oracle } from '../../src/model/oracle.ts';
import { vfioLockAcctBg } from '../../src/model/paths/work.ts';
import { downWrite, downWriteTrylock, upWrite } from '../../src/model/rwsem.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';

const RING_CELLS = 1 << 12;

const planOf = (text: string): RunPlan => planRun(validateScenario('wall.yaml', text, REGISTRY), REGISTRY);

/** Two map loops, page faults and an mlock loop in one address space. */
const CONTENDED = (variant: string, pace: number): RunPlan =>
  planOf(`
name: contended
variant: ${variant}
pace: ${pace}
expect: [wrap, over-penalty]
guests:
  - class: busy
    count: 3
    containers: 2
    cap_ipc_lock: true
    memory: { size: 4MiB, backing: anon4k }
    start: { spread: 1ms }
    actors:
      - { name: one, task: main, workload: map-unmap, options: { pages: 64 pages, container: 0 }, iterations: 40 }
      - { name: two, workload: map-unmap, options: { pages: 48 pages, container: 1 }, iterations: 40 }
      - { name: vcpu, count: 2, workload: fault, options: { pages: 4 pages, area: 1MiB },
          arrival: { kind: poisson, rate: 20000/s }, iterations: 40 }
      - { name: locker, workload: mlock-loop, options: { pages: 2 pages },
          arrival: { kind: poisson, rate: 10000/s }, iterations: 40 }
`);

interface Setting {
  readonly threads: number;
  readonly granularity: Granularity;
  /** Real time until the threads look at the clock again, ms. */
  readonly stepMs: () => number;
}

interface Contention {
  readonly attempts: number;
  readonly failures: number;
  readonly lockWaits: number;
  /** By lock, summed, ns. */
  readonly waitNs: Readonly<Record<LockMode, number>>;
}

function contentionOf(snapshot: Snapshot): Contention {
  const waits = LOCK_MODES.map((mode, i) => [mode, snapshot.series(lockWaitSeries(i))?.sumNs ?? 0] as const);
  return {
    attempts: snapshot.counter('trylock_attempts'),
    failures: snapshot.counter('trylock_failures'),
    lockWaits: snapshot.counter('lock_waits'),
    waitNs: Object.fromEntries(waits) as Record<LockMode, number>,
  };
}

function simulated(plan: RunPlan): Contention {
  const { snapshot } = simulateHost({ plan, guests: plan.guests });
  return contentionOf(decodeSnapshot(statsLayout(plan), snapshot));
}

/** What the driver threads share, on one clock, ms. */
function sharedOf(plan: RunPlan, arena: Arena, threads: number, clockMs: () => number): WallShared[] {
  const variant = resolveVariant(plan.variant);
  const control = WallControl.create(threads, RING_CELLS);
  const layout = statsLayout(plan);
  const oracle = new Oracle(arena);
  return Array.from({ length: threads }, (_, thread) => ({
    arena,
    control,
    thread,
    stats: new StatsBlock(layout, new ArrayBuffer(layout.bytes)),
    variant,
    oracle,
    addressSpace: new AddressSpace(arena, variant.gup),
    costNs: stepCosts(plan.profile.costNs),
    wakeUpNs: machineCost(plan.profile.costNs, 'wake_up'),
    spinNs: machineCost(plan.profile.costNs, 'spin_handover'),
    pace: plan.pace,
    clockMs,
    epochMs: 0,
    onMark: () => {},
  }));
}

/** Runs the plan's guests as driver threads do, one after the other, and judges them at rest. */
function paced(plan: RunPlan, { threads, granularity, stepMs }: Setting): Contention {
  const arena = Arena.create(planCapacity(plan.guests, 1000, resolveVariant(plan.variant)), true);
  let nowMs = 0;
  const shared = sharedOf(plan, arena, threads, () => nowMs);
  const { control, oracle } = shared[0] as WallShared;
  const kworkers = new Set<WallActor>();
  const ended = (actor: WallActor): void => {
    if (kworkers.delete(actor)) arena.free('actor', actor.actor);
  };
  const loops = shared.map((own) => new WallLoop(own, ended, granularity));
  const guests = plan.guests.map((guest) => {
    const thread = guest.index % threads;
    const [own, loop] = [shared[thread] as WallShared, loops[thread] as WallLoop];
    const built = buildGuest(arena, own.addressSpace, guest, () => thread);
    built.actors.forEach(({ actor, task }, index) => {
      const driver = new WallActor(own, actor, task, guest.index, 1, built.mms[0] as Ref, null);
      const work = actorPath(driver, guest, index, null, built);
      if (work !== null) loop.add(driver, work.path, work.startNs);
    });
    return built;
  });
  const updates: RingUpdate[] = [];
  while (loops.some((loop) => loop.actors > 0)) {
    for (const loop of loops) while (loop.turn() === 0);
    control.drain(RING_CELLS, updates);
    for (const { guest, from, mm, npage } of updates.splice(0)) {
      const thread = guest % threads;
      const [own, loop] = [shared[thread] as WallShared, loops[thread] as WallLoop];
      loop.queueWork(guest, from, () => {
        const worker = new WallActor(own, newActor(arena, 0, thread), 0, guest, 0, 0, null);
        kworkers.add(worker);
        return { thread: worker, path: vfioLockAcctBg(worker, mm, npage) };
      });
    }
    nowMs += stepMs();
  }
  for (const built of guests) checkAtRest(arena, oracle, built.mms, containersOf(arena, built));
  assert.equal(oracle.counts.balance, 0);
  return contentionOf(
    Snapshot.take(
      statsLayout(plan),
      shared.map(({ stats }) => stats),
    ),
  );
}

/** Threads that come in time, a little late, and late by up to 20 ms. */
function settings(): [name: string, setting: Setting][] {
  const random = stream(1, 'lateness');
  const steps = { '3 us': () => 0.003, '50 us': () => 0.05, 'up to 20 ms': () => 20 * random.float() ** 8 };
  const rows: [threads: number, step: keyof typeof steps, aheadNs: number, sliceNs: number][] = [
    [1, '3 us', 5_000, 50_000],
    [1, '50 us', GRANULARITY.aheadNs, GRANULARITY.sliceNs],
    [1, 'up to 20 ms', GRANULARITY.aheadNs, GRANULARITY.sliceNs],
    [3, '50 us', 1e7, 1e7],
    [3, 'up to 20 ms', 5_000, 50_000],
  ];
  return rows.map(([threads, step, aheadNs, sliceNs]) => [
    `${threads} threads, the clock moves by ${step}, actors up to ${aheadNs} ns ahead`,
    { threads, granularity: { aheadNs, sliceNs }, stepMs: steps[step] },
  ]);
}

function within(factor: number, what: string, actual: number, expected: number): void {
  const text = `${what}: ${actual}, simulated ${expected}`;
  assert.ok(expected > 0 && actual <= expected * factor && actual >= expected / factor, text);
}

describe('contention happens in model time', () => {
  for (const pace of [1, 0.02]) {
    const waiting = CONTENDED('E', pace);
    const deferring = CONTENDED('D', pace);
    const expected = { waiting: simulated(waiting), deferring: simulated(deferring) };
    for (const [name, setting] of settings()) {
      it(`pace ${pace}, ${name}: waits as simulated`, () => {
        const { lockWaits, waitNs } = paced(waiting, setting);
        // Instants between the ticks of simulated time let some actors of one instant change places.
        within(1.2, 'waits', lockWaits, expected.waiting.lockWaits);
        within(1.2, 'waits of readers, ns', waitNs.mmap_read, expected.waiting.waitNs.mmap_read);
        within(1.2, 'waits of writers, ns', waitNs.mmap_write, expected.waiting.waitNs.mmap_write);
      });

      it(`pace ${pace}, ${name}: trylocks fail as simulated`, () => {
        const { attempts, failures } = paced(deferring, setting);
        assert.equal(attempts, expected.deferring.attempts);
        // Updates come back when the threads look at the clock, and keep the lock busy in bunches.
        within(1.5, 'failed trylocks', failures, expected.deferring.failures);
      });
    }
  }
});

/** One actor a path, all of one guest, at the model times at which they start; the clock stands still in between. */
function together(clockMs: readonly number[], work: (mm: Ref, log: Log) => readonly [startNs: number, work: Work][]) {
  const plan = planOf(`
name: together
variant: D
guests: [{ class: guest, count: 1, memory: { size: 64KiB }, actors: [{ name: idle, task: main, workload: 'null' }] }]
`);
  const arena = Arena.create(planCapacity(plan.guests, 10, resolveVariant('D')), true);
  let now = 0;
  const [own] = sharedOf(plan, arena, 1, () => now);
  const loop = new WallLoop(own as WallShared, () => {});
  const built = buildGuest(arena, (own as WallShared).addressSpace, plan.guests[0] as GuestPlan, () => 0);
  const lines: string[] = [];
  const log: Log = (k, what) => lines.push(`${k.localNs} ${what}`);
  for (const [startNs, path] of work(built.mms[0] as Ref, log)) {
    const actor = new WallActor(own as WallShared, newActor(arena, built.actors[0]?.task ?? 0, 0), 0, 0, 1, 0, null);
    loop.add(actor, path(actor), startNs);
  }
  for (now of clockMs) while (loop.turn() === 0);
  assert.equal(loop.actors, 0);
  return lines;
}
type Log = (k: WallActor, what: string) => void;
type Work = (k: WallActor) => Path<void>;

describe('the actors of one guest', () => {
  it('find a lock as it was at their own time, however late the thread is', () => {
    // Held from 20 ns (rwsem_lock) to 50 035 ns (rwsem_unlock); rwsem_trylock takes 15 ns.
    const lines = together([0, 0.001, 80], (mm, log) => [
      [
        0,
        function* (k) {
          yield* downWrite(k, mm);
          log(k, 'holder has it');
          k.spend(50_000);
          yield;
          yield* upWrite(k, mm);
          log(k, 'holder has released it');
        },
      ],
      ...[10_000, 50_010, 60_000].map((ns): [number, Work] => [
        ns,
        function* (k) {
          const took = yield* downWriteTrylock(k, mm);
          log(k, `trylock ${took ? 'succeeds' : 'fails'}`);
          if (took) yield* upWrite(k, mm);
        },
      ]),
    ]);
    assert.deepEqual(lines, [
      '20 holder has it',
      '10015 trylock fails',
      '50025 trylock fails',
      '50035 holder has released it',
      '60015 trylock succeeds',
    ]);
  });
});
