import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WORKLOADS } from '../../../src/guest/workload/index.ts';
import { actualSeries, OPS, OUTCOMES } from '../../../src/metrics/ops.ts';
import { planOf, simulate } from './plan.ts';

/** Options under which a workload performs all its operations within forty iterations. */
const OPTIONS: Readonly<Record<string, Record<string, unknown>>> = {
  fault: { area: '64KiB' },
  'huge-guest': { total: '8GiB' },
  'mdev-pin': { map: true },
  'parallel-pin': { unmap: true, piece: '256KiB' },
  balloon: { piece: '64KiB' },
  'virtio-mem': { block: '64KiB', blocks: 8 },
  hotplug: { size: '64KiB' },
};

for (const [name, { ops }] of WORKLOADS) {
  test(`${name} performs ${ops.join(', ')}, and nothing else`, () => {
    const guest =
      name === 'huge-guest'
        ? { memory: { bytes: 2 ** 32, backing: 'hugetlb1g' as const, contiguityPages: 1, populated: true } }
        : name === 'mdev-pin'
          ? { mdev: 'only' as const }
          : {};
    const plan = planOf('G', guest, [{ workload: name, options: (OPTIONS[name] ?? {}) as never }]);
    const { snapshot } = simulate(plan);
    const performed = OPS.filter((_, op) => OUTCOMES.some((_outcome, o) => snapshot.count(actualSeries(op, o)) > 0));
    assert.deepEqual(performed.toSorted(), [...ops].toSorted());
  });
}

test('a guest that is due after the run does nothing, and does not lengthen it', () => {
  for (const workload of ['fault', 'mlock-loop', 'vaddr-update', 'boot']) {
    const plan = { ...planOf('G', { startNs: 2e6 }, [{ workload }]), durationNs: 1e6 };
    const { result, snapshot } = simulate(plan);
    assert.ok(
      OPS.every((_, op) => OUTCOMES.every((_outcome, o) => snapshot.count(actualSeries(op, o)) === 0)),
      workload,
    );
    assert.ok(result.endNs <= 1.1e6, `${workload} ends at ${result.endNs} ns`);
  }
});
