/** What can never be measured, or does not fit, is refused before anything starts: 104 and one clear message. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pinstorm } from './in-process.ts';

const BOOT = 'scenarios/boot-storm.yaml';
const threshold = (metric: string, expression: string): string => `thresholds={'${metric}': '${expression}'}`;

const ROWS: readonly (readonly [why: string, args: readonly string[], message: RegExp])[] = [
  [
    'a ratio of trylocks under a variant that has none',
    ['plan', BOOT, '--variant', 'E', '--set', threshold('trylock_failure_ratio', 'rate < 50%')],
    /variant E never tries a lock, so this can never be measured/,
  ],
  [
    'deferred updates under a variant that defers none',
    ['plan', BOOT, '--variant', 'H', '--set', threshold('lock_wait{mode:kworker}', 'max < 1s')],
    /variant H never defers an update, so this can never be measured/,
  ],
  [
    'lateness in simulated time',
    ['simulate', BOOT, '--set', threshold('lateness', 'p(99) < 10ms')],
    /the threshold lateness: p\(99\) < 10ms can never be measured: in simulated time nothing is late/,
  ],
  [
    'an error of an operation that nobody performs',
    ['plan', BOOT, '--set', 'expect=[{ detach: EINVAL }]'],
    /no actor of this scenario performs detach/,
  ],
  [
    'an expectation of a variant that does not exist',
    ['plan', BOOT, '--set', 'expect={Q: [wrap]}'],
    /unknown variant 'Q'/,
  ],
];

describe('what can never be measured', () => {
  for (const [why, args, message] of ROWS) {
    it(`is refused: ${why}`, async () => {
      const out = mkdtempSync(join(tmpdir(), 'pin-test-'));
      try {
        const { status, err } = await pinstorm(args[0] === 'simulate' ? [...args, '--out', out] : args);
        assert.equal(status, 104, err);
        assert.match(err, message);
        assert.equal(err.match(/error:/g)?.length, 1, err);
        assert.deepEqual(readdirSync(out), []);
      } finally {
        rmSync(out, { recursive: true });
      }
    });
  }

  it('is taken where it may be empty', async () => {
    const given = threshold('trylock_failure_ratio', 'rate < 50% or empty');
    const { status, err } = await pinstorm(['plan', BOOT, '--variant', 'E', '--set', given]);
    assert.deepEqual([status, err], [0, '']);
  });
});
