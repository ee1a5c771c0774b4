/** Slices of guests and the workers that have room for them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import type { WorkerState } from '../../src/coordinator/run-state.ts';
import { capacityForAll, Slices } from '../../src/coordinator/slices.ts';
import { planSlices, sliceGuests } from '../../src/wire/plan-slices.ts';

const planOf = (uids: readonly (number | undefined)[], variant = 'D') =>
  planSlices({ variant, guests: uids.map((uid) => ({ uid })) as never });
const slicesOf = (guests: number): Slices =>
  new Slices({} as never, {} as never, () => ({}) as never, planOf(Array.from({ length: guests })), {} as never);
const workers = (capacities: readonly number[]): WorkerState[] =>
  capacities.map((capacity, i) => ({ registration: { worker: `w${i}`, capacity } }) as WorkerState);

it('where workers have room for all slices, their shares hold all, and nobody is given more than it can hold', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5000 }),
      fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 30 }),
      (guests, capacities) => {
        const slices = slicesOf(guests);
        const all = workers(capacities);
        const shares = slices.shares(all, slices.count);
        let sum = 0;
        for (const { registration } of all) {
          const share = shares[registration.worker] ?? NaN;
          assert.ok(share * slices.size <= registration.capacity);
          sum += share;
        }
        assert.ok(sum >= Math.min(slices.room(all), slices.count), `${sum} shares of ${slices.count} slices`);
      },
    ),
    { seed: 20_161_216, numRuns: 1000 },
  );
});

it('capacities below the size of a slice hold nothing', () => {
  const slices = slicesOf(2000);
  assert.equal(slices.size, sliceGuests(2000));
  assert.equal(slices.room(workers([3, 3, 3, 3])), 0);
  assert.equal(slices.room(workers([2000, 3])), slices.count);
  // In proportion to guests, small workers would be promised slices that they cannot hold.
  const shares = slices.shares(workers([2000, ...Array.from({ length: 30 }, () => 3)]), slices.count);
  assert.equal(shares['w0'], slices.count);
});

it('a worker of the run itself has room for all guests', () => {
  const odd = Array.from({ length: 1025 });
  for (const uids of [[], [7], [7, 7, 7, 7, 1, 2, 3, 4, 5], [1, 7, 7, 7, 2], odd] as (number | undefined)[][]) {
    const plan = { variant: 'I', guests: uids.map((uid) => ({ uid })) as never };
    const slices = new Slices({} as never, {} as never, () => ({}) as never, planSlices(plan), {} as never);
    assert.ok(slices.room(workers([capacityForAll(plan)])) >= slices.count, `${uids.length} guests`);
    assert.ok(capacityForAll(plan) < 2 * Math.max(1, uids.length) + slices.size);
  }
});

it('a slice is open until its last guest has ended', () => {
  const slices = slicesOf(1024);
  const ended = new Set(Array.from({ length: 1023 }, (_, guest) => guest));
  assert.deepEqual([...slices.open((guest) => ended.has(guest))], [511]);
});

it('each guest is in one slice; where users are charged, the guests of a uid are in the same one', () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }), { minLength: 1, maxLength: 1500 }),
      fc.constantFrom('D', 'I', 'I-mm'),
      (uids, variant) => {
        const slices = planOf(uids, variant);
        assert.deepEqual(
          slices.flat().toSorted((a, b) => a - b),
          uids.map((_, i) => i),
        );
        if (variant !== 'I') {
          assert.ok(slices.every(({ length }) => length <= sliceGuests(uids.length)));
          return;
        }
        const at = new Map<number, number>();
        slices.forEach((guests, slice) => {
          for (const guest of guests) {
            const uid = uids[guest];
            if (uid !== undefined) assert.equal(at.get(uid) ?? slice, slice);
            if (uid !== undefined) at.set(uid, slice);
          }
        });
      },
    ),
    { seed: 20_161_216, numRuns: 300 },
  );
});

it('guests of one uid need one worker with room for all of them', () => {
  const slices = new Slices({} as never, {} as never, () => ({}) as never, planOf([7, 7, 7, 8], 'I'), {} as never);
  assert.deepEqual([slices.count, slices.size], [2, 3]);
  assert.equal(slices.room(workers([2, 2])), 0);
  assert.match(slices.roomHint(workers([2, 2])), /capacity of 3: so many guests share the quota of one uid/);
  assert.equal(slices.room(workers([3, 4])), 2);
  assert.match(slices.roomHint(workers([4])), /start more workers/);
});
