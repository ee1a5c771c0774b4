// slow: simulates guests of every workload
/** What happens to a guest beside its devices: hotplug, balloon, fork, khugepaged, smaps, live update. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ActorPlan, GuestPlan } from '../../../src/engine/plan.ts';
import { lockHoldSeries } from '../../../src/metrics/ops.ts';
import { LockKind } from '../../../src/model/env.ts';
import { VARIANTS } from '../../../src/model/kernels/index.ts';
import { planOf, simulate } from './plan.ts';

const MAPPER: Partial<ActorPlan> = { workload: 'map-unmap', options: { pages: '64 pages', slots: 2 } };
const MIB = 2 ** 20;

/** One actor of the workload beside a mapper with a container of its own, on two CPUs. */
function beside(variant: string, workload: string, options: ActorPlan['options'], guest: Partial<GuestPlan> = {}) {
  return simulate(
    planOf(variant, { containers: 2, capIpcLock: true, ...guest }, [MAPPER, { workload, options: { ...options } }]),
  );
}

describe("workloads of a guest's life", () => {
  const rows: [string, ActorPlan['options'], Record<string, number>][] = [
    ['hotplug', { size: '1MiB', modules: 2, hold: '10us', container: 1 }, { mmap: 40, munmap: 40 }],
    ['balloon', { piece: '64KiB', hold: '5us' }, { madvise: 40, fault: 40 }],
    ['virtio-mem', { block: '64KiB', blocks: 8, container: 1 }, {}],
    ['fork', { hold: '20us' }, { fork: 40, exit: 40 }],
    ['khugepaged', {}, { collapse: 40 }],
    ['smaps', {}, { smaps: 40 }],
  ];
  for (const { id, deferring } of VARIANTS) {
    for (const [workload, options, counts] of rows) {
      it(`${id}: ${workload} beside a mapper; the account is right at rest`, () => {
        const { result, ok } = beside(id, workload, options);
        assert.equal(result.error, null);
        assert.equal(result.guestsFinished, 1);
        assert.deepEqual(
          result.marks.filter(({ label }) => label.includes('failed')),
          [],
        );
        for (const [op, n] of Object.entries(counts)) assert.equal(ok(op as 'fork'), n, op);
        const violated = Object.keys(result.violationCounts).filter((name) => !(deferring && name === 'wrap'));
        assert.deepEqual(violated, []);
        assert.equal(result.driftPages, 0);
      });
    }
  }

  it('hotplug takes its modules back in the order they came, and all of them at the end', () => {
    const { ok } = beside('E', 'hotplug', { size: '1MiB', modules: 3, hold: '0', container: 1 });
    // 40 modules, and the 40 rounds of two maps of the mapper.
    assert.deepEqual([ok('map'), ok('unmap')], [120, 120]);
  });

  it('what a balloon frees stays pinned; a block that virtio-mem unplugs does not', () => {
    const pinned = (workload: string, options: ActorPlan['options']): [pinned: number, unpinned: number] => {
      const { snapshot, result } = simulate(planOf('E', {}, [{ workload, options, iterations: 16 }]));
      assert.deepEqual(result.violationCounts, {});
      return [snapshot.counter('pages_pinned'), snapshot.counter('pages_unpinned')];
    };
    // All 16 blocks are plugged; 16 times one of them is unplugged or plugged again. What is left goes with the
    // container.
    const [plugged, unplugged] = pinned('virtio-mem', { block: '64KiB', blocks: 16, plugged: 1 });
    assert.ok(plugged > 256 && plugged < 512, `${plugged}`);
    assert.equal(unplugged, plugged);
    const boot = { workload: 'boot', iterations: 1 };
    const balloon = { workload: 'balloon', options: { piece: '1MiB', hold: '0' }, startNs: 50_000_000, iterations: 16 };
    const { snapshot, ok } = simulate(planOf('E', {}, [boot, balloon]));
    assert.deepEqual([ok('madvise'), ok('fault')], [16, 16]);
    assert.equal(snapshot.counter('pages_pinned'), 160, 'the boot mapped 640 KiB, and nothing is pinned again');
  });

  it('fork holds the lock for write as long as the copy takes, smaps for read as long as the walk takes', () => {
    const bytes = 256 * MIB;
    const memory = { bytes, backing: 'anon4k', contiguityPages: 1, populated: true } as const;
    const held = (workload: string, kind: LockKind): number =>
      simulate(planOf('E', { memory }, [{ workload, iterations: 1 }])).snapshot.series(lockHoldSeries(kind))?.maxNs ??
      0;
    const pages = bytes / 4096;
    // 30 ns a page copied, 5 ns an entry walked in the default profile.
    const fork = held('fork', LockKind.MmapWrite);
    assert.ok(fork >= pages * 30 && fork < pages * 31, `${fork}`);
    const smaps = held('smaps', LockKind.MmapRead);
    assert.ok(smaps >= pages * 5 && smaps < pages * 5.1, `${smaps}`);
    const huge = simulate(
      planOf('E', { memory: { ...memory, backing: 'thp', contiguityPages: 512 } }, [
        { workload: 'smaps', iterations: 1 },
      ]),
    );
    assert.ok((huge.snapshot.series(lockHoldSeries(LockKind.MmapRead))?.maxNs ?? 0) < 10_000, 'one entry per 2 MiB');
  });

  it('khugepaged takes the lock for write only for what it collapses', () => {
    const writes = (suitable: number): number =>
      simulate(
        planOf('E', {}, [{ workload: 'khugepaged', options: { areas: 8, suitable }, iterations: 1 }]),
      ).snapshot.counter('mmap_write_acquisitions');
    assert.deepEqual([writes(0), writes(8), writes(4), writes(1)], [0, 1, 2, 8]);
  });

  it('a fault of a huge page clears 2 MiB and serves 512 pages', () => {
    const faults = (backing: string): { fault: number; reads: number } => {
      const options = { area: '4MiB', pages: '1024 pages', backing };
      const { snapshot, ok } = simulate(planOf('E', {}, [{ workload: 'fault', options, iterations: 1 }]));
      return { fault: ok('fault'), reads: snapshot.counter('mmap_read_acquisitions') };
    };
    assert.deepEqual(faults('anon4k'), { fault: 1, reads: 1024 });
    assert.deepEqual(faults('thp'), { fault: 1, reads: 2 });
  });

  for (const variant of VARIANTS.filter(({ vaddrUpdate, iommufd }) => vaddrUpdate && iommufd === null)) {
    it(`${variant.id}: live update takes all addresses and gives them back`, () => {
      const own = { workload: 'vaddr-update', options: { piece: '256KiB', blackout: '10us' }, iterations: 5 };
      const { result, ok } = simulate(planOf(variant.id, {}, [own]));
      assert.equal(result.error, null);
      assert.deepEqual(result.violationCounts, {});
      assert.deepEqual(result.marks, []);
      // Five rounds of one call that takes all addresses and three that give them back: 640 KiB are RAM.
      assert.equal(ok('vaddr_update'), 20);
      // A child takes over what its parent has mapped, and the charge with it. Before mappings recorded whose they are
      // (6.3), an UNMAP by another address space passed over them.
      const child = { ...own, task: 'child' as const, startNs: 100_000_000, options: { ...own.options, map: false } };
      const both = simulate(planOf(variant.id, {}, [own, child]));
      assert.equal(both.result.error, null);
      assert.deepEqual([both.result.violationCounts, both.result.driftPages], [{}, 0]);
      assert.equal(both.ok('vaddr_update'), variant.recordsMm ? 40 : 25);
      assert.equal(both.result.marks.length, variant.recordsMm ? 0 : 15);
    });
  }
});
