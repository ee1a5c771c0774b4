import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { kneeOf, mannWhitney, median, medianInterval } from '../../src/base/statistics.ts';

const close = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) < 1e-9, `${actual}, expected ${expected}`);

describe('mannWhitney', () => {
  it('gives the exact two-sided p-values of the tables', () => {
    close(mannWhitney([1, 2, 3], [4, 5, 6]), 0.1);
    close(mannWhitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]), 2 / 252);
    close(mannWhitney([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]), 2 / 252);
    // U = 4 of 16 with four values each: 24 of 70 arrangements are at least as far out.
    close(mannWhitney([1, 2, 4, 7], [3, 5, 6, 8]), 24 / 70);
  });

  it('is 1 where nothing differs, and counts ties exactly', () => {
    close(mannWhitney([3, 3, 3], [3, 3, 3]), 1);
    // All of one sample below all of the other, equal within each: still 2 of the 20 arrangements.
    close(mannWhitney([1, 1, 1], [2, 2, 2]), 0.1);
  });

  it('refuses an empty sample', () => {
    assert.throws(() => mannWhitney([], [1]), RangeError);
  });
});

describe('median', () => {
  it('of odd and even counts', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 3, 2]), 2.5);
    assert.throws(() => median([]), RangeError);
  });

  it('has the binomial interval', () => {
    // n = 10: the 2nd and the 9th value, 1 - 2 * 11 / 1024.
    const ten = medianInterval([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert.deepEqual([ten.low, ten.high], [2, 9]);
    close(ten.coverage, 1 - 22 / 1024);
    const five = medianInterval([5, 1, 4, 2, 3]);
    assert.deepEqual([five.low, five.high], [1, 5]);
    close(five.coverage, 1 - 2 / 32);
    assert.deepEqual(medianInterval([7]), { low: 7, high: 7, coverage: 0 });
  });
});

describe('kneeOf', () => {
  it('finds where a curve flattens, and nothing in a straight line', () => {
    assert.equal(kneeOf([1, 2, 4, 8, 16, 32], [1, 2, 4, 8, 8.2, 8.3]), 8);
    assert.equal(kneeOf([1, 2, 3, 4], [1, 2, 3, 4]), null);
    assert.equal(kneeOf([1, 2, 3, 4], [1, 1, 1, 4]), null);
  });
});
