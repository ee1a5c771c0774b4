import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stream } from '../../../src/base/prng.ts';
import type { ArrivalPlan } from '../../../src/engine/plan.ts';
import { arrivalOf } from '../../../src/guest/arrival/arrival.ts';

const SECOND = 1e9;

/** The first `n` intended starts, each iteration taking `tookNs`. */
function starts(plan: ArrivalPlan, n: number, tookNs = 0, startNs = 0): number[] {
  const arrival = arrivalOf(plan, startNs, stream(7, 'arrival'));
  const out: number[] = [];
  let endNs = startNs;
  for (let i = 0; i < n; i += 1) {
    const at = arrival.next(endNs);
    out.push(at);
    endNs = Math.max(at, endNs) + tookNs;
  }
  return out;
}

describe('arrivals', () => {
  it('closed waits for the end of the last iteration and then thinks', () => {
    assert.deepEqual(starts({ kind: 'closed', options: { thinkNs: 10 } }, 4, 5, 100), [100, 115, 130, 145]);
  });

  it('constant keeps its rate however long an iteration takes', () => {
    assert.deepEqual(starts({ kind: 'constant', options: { perSecond: 1000 } }, 4, 5e6), [0, 1e6, 2e6, 3e6]);
  });

  it('poisson has exponential gaps around its mean, the same for the same seed', () => {
    const plan: ArrivalPlan = { kind: 'poisson', options: { perSecond: 1000 } };
    const at = starts(plan, 20_000);
    assert.deepEqual(at, starts(plan, 20_000));
    const gaps = at.map((t, i) => t - (at[i - 1] ?? 0));
    const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
    const variance = gaps.reduce((a, g) => a + (g - mean) ** 2, 0) / gaps.length;
    assert.ok(Math.abs(mean / 1e6 - 1) < 0.03, `mean gap ${mean} ns`);
    // An exponential distribution's deviation equals its mean.
    assert.ok(Math.abs(Math.sqrt(variance) / mean - 1) < 0.05, `deviation ${Math.sqrt(variance)} ns`);
  });

  it('ramp: as many starts as the area under the rate, before, in and after the ramp', () => {
    const at = starts({ kind: 'ramp', options: { fromPerSecond: 100, toPerSecond: 300, overNs: 10 * SECOND } }, 4000);
    const until = (seconds: number): number => at.filter((t) => t < seconds * SECOND).length;
    assert.ok(Math.abs(until(5) - (100 * 5 + (20 * 25) / 2)) <= 1);
    assert.ok(Math.abs(until(10) - 2000) <= 1);
    assert.ok(Math.abs(until(12) - 2600) <= 1);
    for (let i = 1; i < at.length; i += 1) assert.ok((at[i] as number) > (at[i - 1] as number));
  });

  it('ramp down to nothing ends', () => {
    const at = starts({ kind: 'ramp', options: { fromPerSecond: 10, toPerSecond: 0, overNs: 2 * SECOND } }, 12);
    assert.equal(at.filter(Number.isFinite).length, 10);
  });

  it('burst: all at once, again and again', () => {
    const at = starts({ kind: 'burst', options: { operations: 3, everyNs: 50 } }, 7, 1, 1000);
    assert.deepEqual(at, [1000, 1000, 1000, 1050, 1050, 1050, 1100]);
  });

  it('options the planner should have refused are refused here too', () => {
    assert.throws(
      () => arrivalOf({ kind: 'constant', options: {} }, 0, stream(1, 'x')),
      /'perSecond' must be a number/,
    );
    assert.throws(() => arrivalOf({ kind: 'closed', options: { thinkNs: -1 } }, 0, stream(1, 'x')), /'thinkNs'/);
  });
});
