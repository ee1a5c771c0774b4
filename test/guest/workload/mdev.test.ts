import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { statsLayout } from '../../../src/engine/stats-layout.ts';
import { decodeSnapshot } from '../../../src/metrics/read-snapshot.ts';
import { VARIANTS } from '../../../src/model/kernels/index.ts';
import { FILES_MAX } from '../../../src/model/paths/files.ts';
import { planOf, simulate } from './plan.ts';

const withMdev = VARIANTS.filter((v) => v.external !== null);

describe('mdev workloads', () => {
  for (const { id, deferring } of withMdev) {
    it(`${id}: a vCPU and a kernel thread pin while a device comes and goes; the account is right at rest`, () => {
      const { result, ok } = simulate(
        planOf(id, { mdev: 'only' }, [
          { workload: 'mdev-pin', options: { pages: '3 pages', window: '64 pages' } },
          { workload: 'mdev-pin', task: 'kthread', options: { pages: '5 pages', window: '64 pages', calls: 2 } },
          { workload: 'attach-detach', options: { hold: '20us' } },
        ]),
      );
      assert.equal(result.error, null);
      assert.equal(ok('attach'), 40);
      assert.equal(ok('detach'), 40);
      assert.ok(ok('pin') > 40, `${ok('pin')} pins`);
      const tolerated = deferring ? ['wrap'] : [];
      const violated = Object.entries(result.violationCounts).filter(([name, n]) => n > 0 && !tolerated.includes(name));
      assert.deepEqual(violated, []);
      assert.equal(result.driftPages, 0);
    });
  }

  it('two devices of one guest have groups of their own; a group without a free descriptor is refused politely', () => {
    const plan = planOf('H', { mdev: 'beside', containers: FILES_MAX }, [
      { workload: 'mdev-pin' },
      { workload: 'attach-detach' },
    ]);
    const { result, ok } = simulate(plan);
    assert.equal(result.error, null);
    assert.equal(ok('attach'), 0);
    assert.ok(result.marks.some((m) => m.label === 'attach-detach'));
    const two = simulate(
      planOf('H', { mdev: 'beside' }, [
        { workload: 'mdev-pin' },
        { workload: 'attach-detach' },
        { workload: 'attach-detach', options: { other_iommu: true } },
      ]),
    );
    assert.equal(two.ok('attach'), 80);
  });

  it('a page that stays pinned is only counted again: reference counts show in the lock acquisitions', () => {
    const acquisitions = (window: string): number => {
      const plan = planOf('H', { mdev: 'only' }, [
        { workload: 'mdev-pin', iterations: 100, options: { pages: '8 pages', calls: 16, window } },
      ]);
      const { result } = simulate(plan);
      return decodeSnapshot(statsLayout(plan), result.snapshot).counter('mmap_write_acquisitions');
    };
    assert.ok(acquisitions('8 pages') < acquisitions('256 pages') / 4);
  });
});
