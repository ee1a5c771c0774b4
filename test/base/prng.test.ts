import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestSeed, stream } from '../../src/base/prng.ts';

test('a stream is a function of seed and purpose, and nothing else', () => {
  const draw = (seed: number, purpose: string): number[] => {
    const prng = stream(seed, purpose);
    return Array.from({ length: 4 }, () => prng.nextU32());
  };
  assert.deepEqual(draw(1, 'memory.size'), draw(1, 'memory.size'));
  const seen = new Set<string>();
  for (let seed = 0; seed < 1000; seed++) {
    for (const purpose of ['memory.size', 'memory.backing', 'start']) seen.add(draw(seed, purpose).join());
  }
  assert.equal(seen.size, 3000);
});

test('pinned draws: a change of the generator changes every plan, so it must be deliberate', () => {
  const prng = stream(1, 'pinned');
  assert.deepEqual([prng.nextU32(), prng.nextU32(), prng.nextU32()], [2731671060, 606521139, 3643639499]);
  assert.equal(guestSeed(1, 0), 804215951);
});

test('no two guests of a run share a seed', () => {
  const seeds = new Set<number>();
  for (let index = 0; index < 200_000; index++) seeds.add(guestSeed(7, index));
  assert.equal(seeds.size, 200_000);
});

test('draws have the moments they claim', () => {
  const prng = stream(42, 'moments');
  const n = 100_000;
  let floats = 0;
  let gaps = 0;
  const dice = [0, 0, 0, 0, 0, 0];
  const weighted = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    floats += prng.float();
    gaps += prng.exponential(250);
    const face = prng.below(6);
    dice[face] = (dice[face] ?? 0) + 1;
    const pick = prng.weighted([5, 0, 3]);
    weighted[pick] = (weighted[pick] ?? 0) + 1;
  }
  // Five standard errors of each mean.
  assert.ok(Math.abs(floats / n - 0.5) < 5 * Math.sqrt(1 / 12 / n));
  assert.ok(Math.abs(gaps / n - 250) < 5 * (250 / Math.sqrt(n)));
  for (const count of dice) assert.ok(Math.abs(count / n - 1 / 6) < 5 * Math.sqrt(5 / 36 / n));
  assert.equal(weighted[1], 0);
  assert.ok(Math.abs((weighted[0] ?? 0) / n - 5 / 8) < 5 * Math.sqrt(15 / 64 / n));
});
