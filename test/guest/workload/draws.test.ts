/**
 * A workload that is not marked as drawing does the same under every seed: `compare` and `sweep` run it once and say
 * so.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GuestPlan } from '../../../src/engine/plan.ts';
import { WORKLOADS } from '../../../src/guest/workload/index.ts';
import { planOf, simulate } from './plan.ts';

const LARGE = { bytes: 6 * 2 ** 30, backing: 'hugetlb1g', contiguityPages: 2 ** 18, populated: true } as const;

/** What a workload needs that the plan of these tests does not have. */
const GUESTS: Readonly<Record<string, Partial<GuestPlan>>> = {
  balloon: { memory: { bytes: 16 * 2 ** 20, backing: 'thp', contiguityPages: 512, populated: true } },
  'huge-guest': { memory: LARGE },
  'mdev-pin': { mdev: 'only' },
};

/** Options under which it draws, or works at all in a small guest. */
const OPTIONS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  balloon: { piece: '4KiB' },
  'huge-guest': { total: '8GiB' },
  'virtio-mem': { block: '4KiB', blocks: 64 },
};

/**
 * What shows a difference that the workload's own operations do not have: which pages are not in huge ones any more.
 */
const AFTER: Readonly<Record<string, string>> = { balloon: 'map-unmap' };

describe('workloads that draw', () => {
  for (const [workload, { draws = false }] of WORKLOADS) {
    it(`${workload} ${draws ? 'differs' : 'is the same'} under another seed`, () => {
      const run = (seed: number) => {
        const actor = { workload, iterations: 20, options: OPTIONS[workload] as never };
        const after = AFTER[workload];
        const later = { workload: after ?? '', startNs: 1e9, iterations: 1, options: { pages: '16MiB' } as never };
        const actors = after === undefined ? [actor] : [actor, later];
        const { result } = simulate({ ...planOf('H', { ...GUESTS[workload], seed }, actors), seed });
        assert.equal(result.error, null);
        assert.ok(
          result.guests.some(({ operations }) => operations > 0),
          'it did nothing',
        );
        return result;
      };
      const [one, other] = [run(17), run(18)];
      if (draws) assert.notDeepEqual(other, one);
      else assert.deepEqual(other, one);
    });
  }
});
