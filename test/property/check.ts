/**
 * How property tests draw: in CI a fresh seed, which is printed, elsewhere a fixed one. A failure says how to see it again.
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
const inCi = process.env['CI'] !== undefined;
const SEED = givenSeed === undefined ? (inCi ? randomInt(2 ** 31) : 20_161_201) : Number(givenSeed);

/** A test that checks `property` on many values; `share` of all that are drawn. */
export type Check = <T>(name: string, share: number, arbitrary: fc.Arbitrary<T>, property: (value: T) => void) => void;

/** Draws `runs` values in all, called `what`, or as many as PINSTORM_PROPERTY_RUNS says. */
export function checker(runs: number, what: string): Check {
  const all = givenRuns === undefined ? runs : Number(givenRuns);
  process.stdout.write(`# property tests: PINSTORM_PROPERTY_SEED=${SEED}, ${all} ${what}\n`);
  return (name, share, arbitrary, property) => {
    void test(name, () => {
      const result = fc.check(fc.property(arbitrary, property), {
        seed: SEED,
        numRuns: Math.ceil(all * share),
        ...(givenPath === undefined ? {} : { path: givenPath, endOnFailure: true }),
      });
      if (!result.failed) return;
      const error = result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance);
      assert.fail(
        `after ${result.numRuns} ${what} and ${result.numShrinks} shrinks: ${JSON.stringify(result.counterexample)}\n${error}\n` +
          `see it again: PINSTORM_PROPERTY_SEED=${SEED} PINSTORM_PROPERTY_PATH=${result.counterexamplePath} test/run property/`,
      );
    });
  };
}
