/** Where a guest's memory lies: as a PC has it, whatever the workload. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ActorPlan } from '../../../src/engine/plan.ts';
import {
  ramBelow,
  ramPage,
  ramPages,
  ramPieces,
  repeatedRam,
  slotPage,
} from '../../../src/guest/workload/guest-memory.ts';
import { planOf, simulate } from './plan.ts';

const MIB = 256;
const GIB = 1024 * MIB;
const RAM: readonly (readonly [number, number])[] = [
  [0, 160],
  [MIB, 3 * GIB],
  [4 * GIB, 2 ** 35],
];

function assertInRam(first: number, pages: number): void {
  const range = RAM.find(([from, end]) => first >= from && first + pages <= end);
  assert.ok(range !== undefined, `${first} and ${pages} pages behind it`);
}

describe('the memory of a guest', () => {
  for (const [buffer, piece] of [
    [1, 1],
    [160, 64],
    [256, 1024],
    [257, 1024],
    [3 * GIB, GIB],
    [3 * GIB + 1, 1024 * GIB],
    [8 * GIB, 16_384],
    [2 ** 34, GIB],
  ] as const) {
    it(`${buffer} pages in pieces of ${piece} lie in RAM, each page of it once`, () => {
      const pieces = ramPieces(buffer, piece);
      let pages = 0;
      let end = 0;
      for (const one of pieces) {
        assertInRam(one.iovaPage, one.pages);
        assert.ok(one.iovaPage >= end && one.pages <= piece && one.bufferPage + one.pages <= buffer);
        end = one.iovaPage + one.pages;
        assert.equal(ramPage(pages), one.iovaPage, 'pages of RAM are counted as they are mapped');
        pages += one.pages;
      }
      assert.equal(pages, ramPages(buffer));
    });
  }

  it('slots lie at multiples of their size, one beside the other, none over a hole', () => {
    for (const pages of [1, 3, 64, 200, 512, GIB, 3 * GIB, 5 * GIB]) {
      let end = 0;
      for (let slot = 0; slot < 10_000; slot += 1) {
        const at = slotPage(slot, pages);
        if (at === Number.POSITIVE_INFINITY) break;
        assertInRam(at, pages);
        assert.ok(at >= end && at % pages === 0, `slot ${slot} of ${pages} pages`);
        end = at + pages;
      }
    }
    assert.equal(slotPage(2 ** 40, 1), Number.POSITIVE_INFINITY);
  });

  it('a buffer that is shown over and over fills the RAM exactly', () => {
    for (const buffer of [1, 512, 3 * GIB, 4 * GIB, 8 * GIB]) {
      const end = buffer === 1 ? 300 : 20 * GIB;
      let pages = 0;
      for (const one of repeatedRam(end, buffer)) {
        assertInRam(one.iovaPage, one.pages);
        assert.ok(one.bufferPage + one.pages <= buffer);
        pages += one.pages;
      }
      assert.equal(pages, ramBelow(end));
    }
    // vfio-huge-guest-test: two mappings below 4 GiB, 255 of the whole buffer above.
    const maps = [...repeatedRam(1024 * GIB, 4 * GIB)];
    assert.deepEqual([maps.length, maps[1]?.bufferPage, maps[2]?.iovaPage], [257, MIB, 4 * GIB]);
  });

  const bytes = 6 * 2 ** 30;
  const memory = { bytes, backing: 'hugetlb2m', contiguityPages: 512, populated: true } as const;
  const rows: [string, ActorPlan['options'], string | undefined][] = [
    ['boot', { piece: '64MiB' }, undefined],
    ['huge-guest', { total: '8GiB' }, undefined],
    ['map-unmap', { pages: '512MiB', slots: 16 }, undefined],
    ['vaddr-update', {}, undefined],
    ['parallel-pin', { piece: '512MiB' }, undefined],
    ['virtio-mem', { block: '512MiB', blocks: 12, plugged: 1 }, undefined],
    ['hotplug', { size: '4GiB', modules: 2, backing: 'thp' }, undefined],
    ['mdev-pin', { pages: '512 pages', window: '6GiB' }, 'beside'],
  ];
  for (const [workload, options, mdev] of rows) {
    it(`${workload}: a guest of 6 GiB is mapped whole under the interrupt window's rules`, () => {
      const guest = { memory, ...(mdev === 'beside' ? { mdev: 'beside' as const } : {}) };
      const variant = workload === 'vaddr-update' ? 'G' : 'H';
      const { result, ok } = simulate(planOf(variant, guest, [{ workload, options: { ...options }, iterations: 2 }]));
      assert.equal(result.error, null);
      assert.deepEqual(
        result.marks.filter(({ value }) => /^E[A-Z]+$/.test(value)),
        [],
      );
      assert.ok(ok('map') > 0);
    });
  }

  it('a boot and a live update of the same pieces fit together', () => {
    const { result, ok } = simulate(
      planOf('H', { memory }, [
        { workload: 'boot', options: { piece: '64MiB' }, iterations: 1 },
        { workload: 'vaddr-update', options: { map: false }, startNs: 1e11, iterations: 3 },
      ]),
    );
    assert.deepEqual([result.error, result.marks], [null, []]);
    assert.equal(ok('vaddr_update'), 3 * (1 + ok('map')));
  });
});
