/**
 * How property tests draw: half of the values from a fixed seed, so that a mistake shows on every machine, and half
 * from a fresh one. A failure says how to see it again.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';

const {
  PINSTORM_PROPERTY_SEED: givenSeed,
  PINSTORM_PROPERTY_PATH: givenPath,
  PINSTORM_PROPERTY_RUNS: givenRuns,
} = process.env;
const SEEDS: readonly (readonly [kind: string, seed: number])[] =
  givenSeed === undefined
    ? [
        ['', 20_161_201],
        [', fresh seed', randomInt(2 ** 31)],
      ]
    : [['', Number(givenSeed)]];

/** A test that checks `property` on many values; `share` of all that are drawn. */
export type Check = <T>(name: string, share: number, arbitrary: fc.Arbitrary<T>, property: (value: T) => void) => void;

/** Draws `runs` values in all, called `what`, or as many as PINSTORM_PROPERTY_RUNS says. */
export function checker(runs: number, what: string): Check {
  const all = givenRuns === undefined ? runs : Number(givenRuns);
  return (name, share, arbitrary, property) => {
    const draw = (seed: number): void => {
      const result = fc.check(fc.property(arbitrary, property), {
        seed,
        numRuns: Math.ceil((all * share) / SEEDS.length),
        ...(givenPath === undefined ? {} : { path: givenPath, endOnFailure: true }),
      });
      if (!result.failed) return;
      const error = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
      assert.fail(
        `after ${result.numRuns} ${what} and ${result.numShrinks} shrinks: ${JSON.stringify(result.counterexample)}\n${error}\n` +
          `see it again: PINSTORM_PROPERTY_SEED=${seed} PINSTORM_PROPERTY_PATH=${result.counterexamplePath} test/run property/`,
      );
    };
    for (const [kind, seed] of SEEDS) void test(name + kind, () => draw(seed));
  };
}
