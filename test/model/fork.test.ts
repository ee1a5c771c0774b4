/** What fork copies of pinned memory: 70e806e4e645 and d042035eaf5f, 5.9. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Path } from '../../src/model/env.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import { madviseDontneed, madvisePopulate } from '../../src/model/paths/madvise.ts';
import { fork } from '../../src/model/paths/process.ts';
import { S } from '../../src/model/steps.ts';
import { map, pin, unmap, unpin, World, type WorldOptions } from './world.ts';

/** Pages that forks copy at once, one figure per fork of `run`. */
function copied(variant: string, options: WorldOptions, run: (k: Parameters<typeof map>[0]) => Path<void>): number[] {
  const w = new World(variant, { limitPages: null, ...options });
  const figures: number[] = [];
  w.actor(0, function* (k): Path<void> {
    const atMany = k.atMany.bind(k);
    k.atMany = (step, object, ...rest: number[]): boolean => {
      if (step === S.CopyPresentPage) figures[figures.length - 1] = rest[0] ?? 0;
      if (step === S.ForkCopy) figures.push(0);
      return atMany(step, object);
    };
    yield* run(k);
  });
  w.runInOrder();
  return figures;
}

const early = new Set(['A', 'B', 'C', 'D', '4.10.17', 'E', '4.14.115', '4.18', 'E2', '5.3', 'F', 'J', 'J-cas']);

describe('fork of a process with pinned pages', () => {
  for (const { id } of VARIANTS) {
    it(`${id}: ${early.has(id) ? 'shares' : 'copies'} what is mapped, and nothing after the unmap`, () => {
      const figures = copied(id, { pages: 64 }, function* (k) {
        yield* fork(k, false);
        yield* map(k, 0, 8, 16);
        yield* fork(k, false);
        yield* unmap(k, 0, 16);
        yield* fork(k, false);
      });
      assert.deepEqual(figures, [0, early.has(id) ? 0 : 16, 0]);
    });
  }

  it('a page counts once, however many mappings hold it', () => {
    const figures = copied('H', { pages: 64 }, function* (k) {
      yield* map(k, 0, 0, 16);
      yield* map(k, 100, 8, 16);
      yield* fork(k, false);
    });
    assert.deepEqual(figures, [24]);
  });

  it('a huge page is copied whole when a part of it is pinned', () => {
    const figures = copied('H', { pages: 2048, backing: 'thp' }, function* (k) {
      yield* map(k, 0, 600, 8);
      yield* fork(k, false);
    });
    assert.deepEqual(figures, [512]);
  });

  it('memory that was given back whole is another, and is shared', () => {
    const figures = copied('H', { pages: 64 }, function* (k) {
      yield* map(k, 0, 8, 16);
      yield* madviseDontneed(k, BUFFER_PAGE + 8, 16);
      yield* madvisePopulate(k, BUFFER_PAGE + 8, 16, true);
      yield* fork(k, false);
    });
    assert.deepEqual(figures, [0]);
  });

  it('memory of a file is shared', () => {
    const figures = copied('H', { pages: 64, backing: 'memfd' }, function* (k) {
      yield* map(k, 0, 0, 16);
      yield* fork(k, false);
    });
    assert.deepEqual(
      figures.filter((n) => n > 0),
      [],
    );
  });

  it('without an IOMMU only the pages that an mdev driver holds are copied', () => {
    const figures = copied('H', { pages: 64, mdev: 'only' }, function* (k) {
      yield* map(k, 0, 0, 64);
      yield* pin(k, [3, 4, 9]);
      yield* fork(k, false);
      yield* unpin(k, [4]);
      yield* fork(k, false);
    });
    assert.deepEqual(figures, [3, 2]);
  });

  it('the pages stay the own ones of the parent, so a later map faults nothing', () => {
    const faults = (variant: string): number => {
      const w = new World(variant, { limitPages: null, pages: 64 });
      let n = 0;
      w.actor(0, function* (k): Path<void> {
        yield* map(k, 0, 0, 16);
        yield* fork(k, false);
        const atMany = k.atMany.bind(k);
        k.atMany = (step, object, ...rest: number[]): boolean => {
          if (step === S.Fault) n += rest[0] ?? 0;
          return atMany(step, object);
        };
        yield* map(k, 100, 0, 16);
      });
      w.runInOrder();
      assert.deepEqual(w.verdict(), []);
      return n;
    };
    assert.equal(faults('F'), 16);
    assert.equal(faults('5.10'), 0);
  });
});
