import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ARENA_WORDS_MAX, arenaWords, capacityFor } from '../../src/model/arena.ts';

it('the size of an arena that cannot be had is its size all the same', () => {
  const words = (guests: number): number =>
    arenaWords(capacityFor({ guests, actorsPerGuest: 2, mappingsPerGuest: 1000, extraActors: 0 }));
  const one = words(1000) / 1000;
  for (const guests of [10_000, 100_000, 1_000_000, 10_000_000]) {
    const perGuest = words(guests) / guests;
    assert.ok(Math.abs(perGuest / one - 1) < 0.05, `${perGuest} words a guest for ${guests}, ${one} for 1000`);
  }
  assert.ok(words(1_000_000) > ARENA_WORDS_MAX);
});
