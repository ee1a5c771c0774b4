// slow: compares whole runs with one event per step
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { StopSignal } from '../../src/base/stop-signal.ts';
import { simulateAll } from '../../src/emulator/host-pool.ts';
import { guestsOfHost, type HostResult } from '../../src/emulator/host-result.ts';
import { simulateHost } from '../../src/emulator/host-run.ts';
import type { ActorPlan, GuestPlan, RunPlan } from '../../src/engine/plan.ts';
import { DEFAULT_PROFILE } from '../../src/engine/profile.ts';
import { statsLayout } from '../../src/engine/stats-layout.ts';
import { EventQueue, slotOf } from '../../src/engine/virtual/event-queue.ts';
import { decodeSnapshot } from '../../src/metrics/read-snapshot.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import { virtualResults } from '../../src/run/simulated-results.ts';

const MIB = 2 ** 20;

interface Case {
  readonly variant?: string;
  readonly cpus?: number | null;
  readonly hosts?: number;
  readonly guests?: number;
  readonly containers?: number;
  readonly bytes?: number;
  readonly backing?: GuestPlan['memory']['backing'];
  readonly contiguityPages?: number;
  readonly memlockBytes?: number | null;
  readonly actors: readonly Partial<ActorPlan>[];
  readonly durationNs?: number | null;
  readonly costNs?: Readonly<Record<string, number>>;
}

function planOf(c: Case): RunPlan {
  const guests = Array.from({ length: c.guests ?? 1 }, (_, index): GuestPlan => ({
    index,
    class: 'test',
    seed: 17 + index,
    startNs: index * 1000,
    durationNs: c.durationNs ?? null,
    memory: {
      bytes: c.bytes ?? 4 * MIB,
      backing: c.backing ?? 'anon4k',
      contiguityPages: c.contiguityPages ?? 1,
      populated: true,
    },
    memlockBytes: c.memlockBytes ?? null,
    capIpcLock: false,
    iommu: 'type1v2',
    containers: c.containers ?? 2,
    actors: c.actors.map((actor, i) => ({
      name: `actor-${i}`,
      task: i === 0 ? 'main' : 'thread',
      workload: 'null',
      options: {},
      arrival: { kind: 'closed', options: {} },
      startNs: 0,
      iterations: null,
      ...actor,
    })),
  }));
  return {
    format: 1,
    name: 'test',
    seed: 1,
    variant: c.variant ?? 'E',
    pace: 1,
    durationNs: c.durationNs ?? null,
    profile: { ...DEFAULT_PROFILE, costNs: { ...DEFAULT_PROFILE.costNs, ...c.costNs } },
    faults: {},
    deferred: { batch: 100, flushMs: 1 },
    host: { count: c.hosts ?? 1, cpus: c.cpus ?? null },
    expect: [],
    thresholds: [],
    guests,
    hash: '0123456789abcdef0123',
  };
}

function simulate(c: Case, stepByStep = false): HostResult {
  const plan = planOf(c);
  // Odd instants: the statistics of each interval must be the same too.
  const grid = [{ fromNs: 5_003, everyNs: 9_991, toNs: 500_000 }];
  return simulateHost({ plan, guests: guestsOfHost(plan, 0), grid, stepByStep });
}

const mapper = (container: number, iterations: number, pages = 256): Partial<ActorPlan> => ({
  workload: 'map-unmap',
  options: { pages, slots: 2, stop_on_failure: false, container },
  iterations,
});
const mlocker: Partial<ActorPlan> = { workload: 'mlock-loop', options: { pages: 1 }, iterations: 60 };
const faulter: Partial<ActorPlan> = {
  workload: 'mmap-munmap',
  options: { pages: 16 },
  arrival: { kind: 'poisson', options: { perSecond: 50_000 } },
  iterations: 30,
};

/** Every step costs the same, so that steps of several threads end at one instant all the time. */
const ROUND = Object.fromEntries(Object.keys(DEFAULT_PROFILE.costNs).map((name) => [name, 100]));
const BUSY: readonly Partial<ActorPlan>[] = [mapper(0, 8), mapper(1, 8), mlocker, faulter];

const results = (plan: RunPlan, hosts: readonly HostResult[]): string => JSON.stringify(virtualResults(plan, hosts));

describe('the event queue', () => {
  it('is a total order: time, then slot, then sequence, whatever the heap does', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.record({ ns: fc.integer({ min: 0, max: 5 }), slot: fc.integer({ min: 0, max: 3 }) }),
            fc.constant('pop' as const),
          ),
          { maxLength: 200 },
        ),
        (program) => {
          const queue = new EventQueue();
          const model: { ns: number; slot: number; key: number }[] = [];
          const take = (): void => {
            model.sort((x, y) => x.ns - y.ns || x.slot - y.slot || x.key - y.key);
            const expected = model.shift();
            assert.equal(queue.peekNs(), expected?.ns ?? Number.POSITIVE_INFINITY);
            const key = queue.pop();
            assert.equal(key, expected?.key);
            if (key !== undefined) assert.equal(slotOf(key), expected?.slot);
            if (expected !== undefined) assert.equal(queue.poppedNs, expected.ns);
          };
          for (const one of program) {
            if (one === 'pop') {
              take();
            } else {
              // Time never runs backwards.
              const ns = queue.poppedNs + one.ns;
              model.push({ ns, slot: one.slot, key: queue.push(ns, one.slot) });
            }
          }
          while (model.length > 0) take();
        },
      ),
      { seed: 20_161_216, numRuns: 500 },
    );
  });
});

describe('running ahead changes nothing', () => {
  for (const { id } of VARIANTS) {
    for (const cpus of [null, 1, 2]) {
      it(`variant ${id} on ${cpus ?? 'unlimited'} CPUs: the results are those of one event per step`, () => {
        const c: Case = { variant: id, cpus, actors: BUSY, costNs: { line_transfer: 100, memory_4k: 50 } };
        const fast = simulate(c);
        const slow = simulate(c, true);
        assert.equal(fast.error, null);
        assert.ok(fast.events < slow.events, `${fast.events} events against ${slow.events}`);
        const { events: _fast, ...fastRest } = fast;
        const { events: _slow, ...slowRest } = slow;
        assert.deepEqual(fastRest, slowRest);
      });
    }
  }

  const pinners = (of: number, memlockPages: number | null, others: readonly Partial<ActorPlan>[] = []): Case => ({
    bytes: 2 * MIB,
    containers: of,
    memlockBytes: memlockPages === null ? null : memlockPages * 4096,
    actors: [
      ...Array.from({ length: of }, (_, part) => ({
        workload: 'parallel-pin',
        options: { of, part, unmap: part % 2 === 0, piece: 0.25 * MIB },
        iterations: 3,
      })),
      ...others,
    ],
  });
  for (const id of ['A', 'B', 'D', 'E', 'F', 'H2']) {
    for (const [name, c] of [
      ['together', pinners(4, null)],
      ['with a line that wanders', { ...pinners(3, null), costNs: { line_transfer: 70 } }],
      ['into a limit', pinners(4, 450)],
      ['beside mlock and faults', pinners(2, 1000, [mlocker, faulter])],
      ['on fewer CPUs', { ...pinners(4, null), cpus: 3, costNs: { time_slice: 20_000 } }],
      ['two guests of them on eight CPUs', { ...pinners(3, 480), guests: 2, cpus: 8 }],
      ['with round costs that make ties', { ...pinners(4, null), costNs: ROUND }],
    ] as const) {
      it(`variant ${id}: threads that pin ${name}`, () => {
        const { events: fastEvents, ...fast } = simulate({ ...c, variant: id });
        const { events: slowEvents, ...slow } = simulate({ ...c, variant: id }, true);
        assert.equal(fast.error, null);
        assert.ok(fastEvents < slowEvents, `${fastEvents} events against ${slowEvents}`);
        assert.deepEqual(fast, slow);
      });
    }
  }

  for (const { id } of VARIANTS) {
    it(`variant ${id}: guests that map beside one another, each with faults and an mlock loop of its own`, () => {
      const c: Case = {
        variant: id,
        guests: 3,
        bytes: 8 * MIB,
        memlockBytes: 7 * MIB,
        // They come now and then: a closed form that went past them would miss them.
        actors: [
          mapper(0, 2, 1500),
          { ...mlocker, iterations: 40, arrival: { kind: 'constant', options: { perSecond: 40_000 } } },
          { ...faulter, iterations: 20, arrival: { kind: 'poisson', options: { perSecond: 20_000 } } },
        ],
        costNs: { line_transfer: 100, memory_4k: 50 },
      };
      for (const more of [
        {},
        { backing: 'thp', contiguityPages: 512, memlockBytes: null },
        { cpus: 12 },
        { cpus: 3 },
      ] as const) {
        const plan = planOf({ ...c, ...more });
        const { events: fastEvents, ...fast } = simulateHost({ plan, guests: plan.guests });
        const { events: slowEvents, ...slow } = simulateHost({ plan, guests: plan.guests, stepByStep: true });
        assert.equal(fast.error, null);
        assert.ok(fastEvents < slowEvents, `${fastEvents} events against ${slowEvents}`);
        assert.deepEqual(fast, slow, JSON.stringify(more));
      }
    });

    it(`variant ${id}: the closed form of the huge guest is the step-by-step run of a smaller one, to the byte`, () => {
      const plan = planOf({ variant: id, bytes: 32 * MIB, actors: [mapper(0, 2, 5_345)] });
      const run = (stepByStep: boolean): HostResult => simulateHost({ plan, guests: plan.guests, stepByStep });
      assert.equal(results(plan, [run(false)]), results(plan, [run(true)]));
    });
  }

  it('taking statistics on the way changes nothing, and ends when nobody is at work', () => {
    const plan = planOf({ actors: BUSY, cpus: 2, guests: 3, variant: 'D' });
    const layout = statsLayout(plan);
    const { intervals: none, events: _all, ...expected } = simulateHost({ plan, guests: plan.guests });
    assert.deepEqual(none, []);
    const total = decodeSnapshot(layout, expected.snapshot);
    for (const everyNs of [20_000, 1_000_000]) {
      const [once, always] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      const grid = [
        { fromNs: 0, everyNs, toNs: always },
        { fromNs: 1234, everyNs: once, toNs: always },
      ];
      const { intervals, events: _events, ...rest } = simulateHost({ plan, guests: plan.guests, grid });
      assert.deepEqual(rest, expected);
      assert.deepEqual([intervals[0]?.endNs, intervals.at(-1)?.endNs], [1234, null]);
      assert.ok((intervals.at(-2)?.endNs ?? 0) <= rest.endNs);
      const sum = new Snapshot(layout);
      for (const { delta } of intervals) sum.add(decodeSnapshot(layout, delta));
      assert.deepEqual(sum.counters, total.counters);
      for (const [id, { cells, sumNs }] of total.data) {
        assert.deepEqual([sum.data.get(id)?.cells, sum.data.get(id)?.sumNs], [cells, sumNs]);
      }
    }
  });

  for (const { id } of VARIANTS) {
    it(`variant ${id}: mappings that begin in the middle of a huge page take what they take step by step`, () => {
      // A PC's memory from 1 MiB on: every mapping begins and ends half way through a huge page.
      const boot = { workload: 'boot', options: { piece: 16 * MIB, container: 0 }, iterations: 1 };
      const c: Case = { variant: id, bytes: 64 * MIB, backing: 'thp', contiguityPages: 512, actors: [boot] };
      const { events: _fast, ...fast } = simulate(c);
      const { events: _slow, ...slow } = simulate(c, true);
      assert.deepEqual(fast, slow);
    });
  }
});

describe('the same plan gives the same bytes', () => {
  it('twice, on one thread or several, whatever the number of hosts per thread', async () => {
    const plan = planOf({ variant: 'D', cpus: 2, hosts: 3, guests: 7, actors: BUSY });
    const { guests: _guests, ...head } = plan;
    const tasks = [0, 1, 2].map((index) => ({ plan: head, guests: guestsOfHost(plan, index) }));
    const once = results(plan, await simulateAll(tasks, { threads: 1 }));
    assert.equal(results(plan, await simulateAll(tasks, { threads: 1 })), once);
    assert.equal(results(plan, await simulateAll(tasks, { threads: 2 })), once);
    assert.equal(results(plan, await simulateAll(tasks, { threads: 3 })), once);
    const { accounting, coverage } = JSON.parse(once) as ReturnType<typeof virtualResults>;
    assert.equal(coverage.guestsFinished, 7);
    assert.equal(accounting.balance, 'exact');
  });
});

describe('a host that is told to stop', () => {
  for (const variant of ['D', 'E']) {
    it(`variant ${variant}: is left in the middle of an operation that would take minutes, and says so`, async () => {
      const bytes = 2 ** 40;
      const plan = planOf({
        variant,
        bytes,
        contiguityPages: 512,
        actors: [mapper(0, 1, bytes / 4096), BUSY[2] ?? {}],
      });
      const guests = plan.guests.map((guest) => ({ ...guest, memory: { ...guest.memory, populated: false } }));
      const { guests: _guests, ...head } = plan;
      const stop = new StopSignal();
      const [host] = await simulateAll([{ plan: head, guests }], {
        stop,
        onProgress: ({ simulatedNs }) => (simulatedNs[0] as number) > 1e6 && stop.set(),
      });
      assert.ok(host !== undefined && host.stoppedAtNs !== null);
      const [guest, ...others] = host.guests;
      assert.deepEqual(others, []);
      assert.deepEqual([guest?.state, guest?.restNs, guest?.endNs, guest?.error], ['stopped', null, null, null]);
      assert.ok(BigInt(guest?.lockedVmAfterPages ?? 0) < BigInt(bytes / 4096), 'the map ended');
      const { accounting, coverage, verdict } = virtualResults(plan, [host]);
      assert.equal(accounting.balance, 'unchecked');
      assert.equal(accounting.deferred.queued, accounting.deferred.applied + accounting.deferred.discarded);
      assert.deepEqual([coverage.guestsFinished, coverage.guestsStopped], [0, 1]);
      assert.match(accounting.notes.join('\n'), /1 guest was left in the middle of an operation/);
      assert.equal(verdict.exitCode, 105, verdict.reasons.join());
    });
  }

  it('ends in order when its operations are short', async () => {
    const plan = planOf({ variant: 'E', guests: 4, actors: BUSY.map((actor) => ({ ...actor, iterations: null })) });
    const { guests, ...head } = plan;
    const stop = new StopSignal();
    const [host] = await simulateAll([{ plan: head, guests }], {
      stop,
      onProgress: ({ simulatedNs }) => (simulatedNs[0] as number) > 0 && stop.set(),
    });
    assert.ok(host !== undefined && host.stoppedAtNs !== null);
    assert.ok(
      host.guests.length === 4 && host.guests.every(({ state, endNs }) => state === 'stopped' && endNs !== null),
    );
    const { accounting, coverage, verdict } = virtualResults(plan, [host]);
    assert.deepEqual([accounting.balance, verdict.exitCode], ['exact', 105]);
    assert.deepEqual([coverage.guestsFinished, coverage.guestsStopped], [0, 4]);
  });
});

describe('the emulated host', () => {
  const lockWait = (c: Case, mode: string): { count: number; maxNs: number } => {
    const plan = planOf(c);
    const { split } = virtualResults(plan, [simulate(c)]);
    return split.lockWait[mode] ?? { count: 0, maxNs: 0 };
  };
  const endNs = (c: Case): number => simulate(c).endNs;

  it('shares finite CPUs: two independent guests on one take as long as one after the other', () => {
    const work: Case = { actors: [mapper(0, 50)], guests: 2 };
    const alone = endNs({ ...work, guests: 1, cpus: 1 });
    const shared = endNs({ ...work, cpus: 1 });
    const apart = endNs({ ...work, cpus: 2 });
    assert.ok(Math.abs(apart - alone) < 2_000, `${apart} beside ${alone}`);
    assert.ok(Math.abs(shared / alone - 2) < 0.02, `${shared} beside ${alone}`);
  });

  it('preempts lock holders: with one CPU a wait for mmap_sem can last a whole time slice', () => {
    const actors = [mapper(0, 400), mapper(1, 400)];
    const slice = 3e6;
    assert.ok(lockWait({ actors, cpus: null }, 'mmap_write').maxNs < 50_000);
    const one = lockWait({ actors, cpus: 1, costNs: { time_slice: slice } }, 'mmap_write');
    if (one.count > 0) assert.ok(one.maxNs >= slice, `${one.maxNs} ns`);
    const long = lockWait({ actors, cpus: 1, costNs: { time_slice: 20_000, counter_rw: 900 } }, 'mmap_write');
    assert.ok(long.count > 0 && long.maxNs >= 20_000, `${long.count} waits, ${long.maxNs} ns at most`);
  });

  it('spins: a writer gets the lock of a running writer sooner than the wake-up latency', () => {
    const actors = [mapper(0, 50), mapper(1, 50)];
    const { count, maxNs } = lockWait({ actors, costNs: { wake_up: 1e6 } }, 'mmap_write');
    assert.ok(count > 0, 'nobody waited');
    assert.ok(maxNs < 1e6, `a wait of ${maxNs} ns, longer than a wake-up`);
  });

  it('sleeps on readers: a writer behind a reader pays the wake-up', () => {
    const { count, maxNs } = lockWait({ variant: 'E2', actors: [mapper(0, 50), mapper(1, 50)] }, 'mmap_write');
    assert.ok(count > 0 && maxNs >= DEFAULT_PROFILE.costNs.wake_up, `${count} waits, ${maxNs} ns at most`);
  });

  it('serves the invalidations of its guests one after the other', () => {
    const iotlb = 200_000;
    const c: Case = { actors: [mapper(0, 1, 1)], guests: 1, costNs: { iotlb_sync: iotlb } };
    const one = endNs(c);
    const eight = endNs({ ...c, guests: 8 });
    // 2 mappings a guest, each with one invalidation: 7 further guests wait for each other.
    assert.ok(eight - one > 7 * 2 * iotlb * 0.9, `${one} and ${eight}`);
    assert.ok(endNs({ ...c, guests: 8, hosts: 8 }) - one < iotlb, 'hosts must not share the queue');
  });

  it('applies every deferred update on kworkers, and the account is exact at rest', () => {
    const plan = planOf({ variant: 'D', cpus: 4, actors: BUSY });
    const { accounting, split } = virtualResults(plan, [simulateHost({ plan, guests: plan.guests })]);
    assert.ok(accounting.deferred.queued > 0, 'nothing was deferred');
    assert.equal(accounting.deferred.applied, accounting.deferred.queued);
    assert.equal(accounting.balance, 'exact');
    // Queue latency, start of the worker and the update itself.
    const settle = split.deferredSettle;
    assert.ok(settle !== null && settle.p50Ns >= DEFAULT_PROFILE.costNs.wake_up, `${settle?.p50Ns}`);
  });
});
