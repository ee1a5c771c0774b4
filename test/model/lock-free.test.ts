/** Variant J: what a lock-free account does that one under mmap_sem does not. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StepActor } from '../../src/engine/explore/stepper.ts';
import { C, type Path } from '../../src/model/env.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { withReserve } from '../../src/model/kernels/j-proposed-atomic.ts';
import { S } from '../../src/model/steps.ts';
import { map, unmap, World } from './world.ts';

/** Steps an actor until it stands before `step`, or is done. */
function until(w: World, k: StepActor, step: number): void {
  do w.stepper.step(k);
  while (!k.done && k.nextStep !== step);
}

/**
 * Three mappers of 10, 10 and 4 pages under a limit of 16: the second passes the unlocked test and is lost at the
 * update.
 */
function doomed(variant: string): { w: World; big: StepActor; small: StepActor } {
  const tasks = ['main', 'thread', 'thread'] as const;
  const w = new World(variant, {
    limitPages: 16,
    containers: 3,
    tasks,
    backing: 'thp',
    contiguityPages: 512,
    pages: 512,
  });
  const [first, big, small] = [10, 10, 4].map((pages, i) =>
    w.actor(i, function* (k): Path<void> {
      yield* map(k, 0, 0, pages, i);
    }),
  ) as [StepActor, StepActor, StepActor];
  const update = variant === 'J' ? S.LockedVmAtomic : S.LockedVmCmpxchg;
  until(w, big, update);
  while (!first.done) w.stepper.step(first);
  // The big one makes its update, which fails, and stands before taking it back.
  w.stepper.step(big);
  return { w, big, small };
}

describe('a lock-free account', () => {
  it('J: a request that fits is refused beside a larger one that is lost (add-then-check)', () => {
    const { w, big, small } = doomed('J');
    assert.equal(w.lockedVm, 20n, 'the counter shows pages that nobody will hold');
    while (!small.done) w.stepper.step(small);
    w.runInOrder();
    assert.deepEqual([big.results, small.results], [[-12], [-12]]);
    assert.equal(w.lockedVm, 10n);
    assert.deepEqual(w.verdict(), ['over-penalty']);
  });

  it('J-cas: in the same schedule the counter never shows them, and the small request succeeds', () => {
    const { w, big, small } = doomed('J-cas');
    assert.equal(w.lockedVm, 10n);
    while (!small.done) w.stepper.step(small);
    w.runInOrder();
    assert.deepEqual([big.results, small.results], [[-12], [0]]);
    assert.equal(w.lockedVm, 14n);
    assert.deepEqual(w.verdict(), []);
  });

  for (const id of ['J', 'J-cas']) {
    it(`${id}: accounting takes mmap_sem never for write`, () => {
      const w = new World(id, { limitPages: null });
      w.actor(0, function* (k): Path<void> {
        yield* map(k, 0, 0, 64);
        yield* unmap(k, 0, 64);
      });
      w.runInOrder();
      assert.equal(w.stepper.counters[C.mmap_write_acquisitions], 0);
      assert.equal(w.lockedVm, 0n);
    });
  }
});

describe('J-cache, a reserve of locked_vm per pin loop', () => {
  it('takes mmap_sem for write once per block instead of once per chunk', () => {
    const writes = (id: string): number => {
      const w = new World(id, { limitPages: null, pages: 64 });
      w.actor(0, function* (k): Path<void> {
        yield* map(k, 0, 0, 64);
      });
      w.runInOrder();
      assert.equal(w.lockedVm, 64n, 'what was not used is given back');
      assert.deepEqual(w.verdict(), []);
      return w.stepper.counters[C.mmap_write_acquisitions] as number;
    };
    assert.deepEqual([writes('G'), writes('J-cache')], [64, 2]);
  });

  it('a block that does not fit is no reason to fail: exactly the limit can be mapped, in either size of block', () => {
    assert.equal(resolveVariant('J-cache').reservePages, 65_536);
    for (const variant of [resolveVariant('J-cache'), withReserve(5)]) {
      const w = new World(variant, { limitPages: 16, pages: 64 });
      const k = w.actor(0, function* (a): Path<void> {
        yield* map(a, 0, 0, 16);
        yield* map(a, 100, 0, 1);
        yield* unmap(a, 0, 16);
        yield* map(a, 100, 0, 17);
      });
      w.runInOrder();
      assert.deepEqual(k.results, [0, -12, 16, -12]);
      assert.equal(w.lockedVm, 0n);
    }
  });

  it('while a block is held, another loop can be refused pages that nobody uses', () => {
    const w = new World(withReserve(12), { limitPages: 16, pages: 64, containers: 2, tasks: ['main', 'thread'] });
    const [first, second] = [2, 6].map((pages, i) =>
      w.actor(i, function* (k): Path<void> {
        yield* map(k, 0, 0, pages, i);
      }),
    ) as [StepActor, StepActor];
    until(w, first, S.UpWrite);
    w.stepper.step(first);
    while (!second.done) w.stepper.step(second);
    w.runInOrder();
    assert.deepEqual([first.results, second.results], [[0], [-12]]);
    assert.equal(w.lockedVm, 2n);
    assert.deepEqual(w.verdict(), ['over-penalty']);
  });
});
