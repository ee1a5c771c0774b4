// slow: draws many inputs, and the largest ones
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { MAX_SOURCE_BYTES } from '../../src/scenario/source.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { soaked } from '../soak.ts';
import { type Target, TARGETS } from './fuzz-targets.ts';
import { fuzz, fuzzTarget } from './fuzz.ts';

/** Inputs of a seed that is drawn. */
const FRESH = soaked(800, 100_000);

describe('fuzzing', () => {
  it('finds nothing in the corpus, in inputs of a fixed seed, and in those of a new one', (t) => {
    const seed = randomInt(2 ** 31);
    t.diagnostic(`seed ${seed}: node dist/test/security/fuzz.js --inputs ${FRESH} --seed ${seed}`);
    for (const reports of [fuzz(1, 400), fuzz(seed, FRESH)]) {
      for (const { target, inputs, accepted, kinds } of reports) {
        assert.ok(inputs > 0 && kinds >= 2, `${target}: all ${inputs} inputs ended alike`);
        assert.ok(accepted < inputs, `${target}: everything was accepted`);
      }
    }
  });

  const planted = (run: (input: string) => string): Target => ({
    name: 'planted',
    weight: 1,
    corpus: ['a'],
    mutate: (random, seed) => seed + String.fromCharCode(random.below(128)),
    run,
  });
  for (const [what, why, run] of [
    [
      'throws',
      /planted, input \d+: threw TypeError/,
      (input: string) => String(input.length > 1 ? (null as unknown as string).length : 0),
    ],
    [
      'is slow',
      /took \d+/,
      (input: string) => {
        const until = process.cpuUsage().user + 2_200_000;
        while (input.length > 1 && process.cpuUsage().user < until);
        return 'slow';
      },
    ],
    [
      'pollutes a prototype',
      /a prototype changed/,
      (input: string) => {
        (Object.prototype as Record<string, unknown>)['polluted'] = input;
        return 'polluted';
      },
    ],
  ] as const) {
    it(`finds a planted parser that ${what}, and says how to repeat it`, () => {
      try {
        assert.throws(
          () => fuzzTarget(planted(run), 1, 100),
          (error: Error) => {
            assert.match(error.message, why);
            assert.match(error.message, /repeat with: .*--seed 1 --target 'planted' --only \d+/);
            return true;
          },
        );
      } finally {
        delete (Object.prototype as Record<string, unknown>)['polluted'];
      }
    });
  }

  it('covers every target with a corpus that is accepted somewhere', () => {
    for (const target of TARGETS) {
      assert.ok(
        target.corpus.some((input) => target.run(input) === 'accepted'),
        target.name,
      );
    }
  });
});

describe('the worst a scenario of the largest size can do', () => {
  const n = MAX_SOURCE_BYTES;
  /** Where the time grows with the length: a quarter of it, to spare the tests. */
  const q = n / 4;
  const keys = Array.from({ length: q / 12 }, (_, i) => `k${i}: 1`).join('\n');
  const aliases = `a: &a [${'x,'.repeat(60_000)}]\n${Array.from({ length: 800 }, (_, i) => `b${i}: *a`).join('\n')}`;
  for (const [what, text] of [
    ['closing brackets', ']'.repeat(n)],
    // Recursion of the YAML library would end the process in these, and no handler could help.
    ['keys of keys of keys', '? '.repeat(n / 2)],
    ['lists of lists', '- '.repeat(n / 2)],
    ['open brackets', '['.repeat(n)],
    ['a list of everything', `[${'a,'.repeat(q / 2 - 2)}]`],
    ['other keys', keys],
    ['one key over and over', 'a: 1\n'.repeat(q / 5)],
    ['aliases of a long list', aliases],
    ['documents', '---\n'.repeat(n / 4)],
  ] as const) {
    it(`${what}: refused in seconds`, () => {
      const started = process.cpuUsage();
      assert.throws(
        () => validateScenario('x.yaml', text, REGISTRY),
        (error: Error) => {
          assert.ok(error instanceof UserError, error.stack);
          assert.ok(error.message.length < 100_000);
          return true;
        },
      );
      const { user } = process.cpuUsage(started);
      assert.ok(user < 10e6, `${user / 1e6} s of CPU`);
    });
  }
});
