/** Slices of guests and the workers that have room for them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { sliceGuests } from '../../src/coordinator/protocol.ts';
import type { WorkerState } from '../../src/coordinator/run-state.ts';
import { Slices } from '../../src/coordinator/slices.ts';

const slicesOf = (guests: number): Slices =>
  new Slices({} as never, {} as never, () => ({}) as never, guests, {} as never);
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

it('a slice is open until its last guest has ended', () => {
  const slices = slicesOf(1024);
  const ended = new Set(Array.from({ length: 1023 }, (_, guest) => guest));
  assert.deepEqual([...slices.open((guest) => ended.has(guest))], [511]);
});
