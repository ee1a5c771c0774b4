/** What can never be measured, or does not fit, is refused before anything starts: 104 and one clear message. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pinstorm } from './in-process.ts';

const BOOT = 'scenarios/boot-storm.yaml';
const threshold = (metric: string, expression: string): string => `thresholds={'${metric}': '${expression}'}`;

const STAGE = 'stages=[{ name: boot, duration: 5s }]';
/** 10 000 guests of 4096 mappings each. */
const HUGE =
  'guests=[{ class: g, count: 10000, memory: { size: 64MiB, backing: anon4k }, ' +
  'actors: [{ name: m, workload: map-unmap, options: { pages: 1, slots: 4096 } }] }]';

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
    'errors of a window, which an experiment cannot judge',
    ['compare', BOOT, '--variants', 'D,E', '--set', threshold('op_errors{op:map}', 'rate < 1% over 5s')],
    /op_errors\{op:map\}: rate < 1% over 5s cannot be judged here: an experiment judges errors over whole runs/,
  ],
  [
    'errors of a stage, which an experiment cannot judge',
    ['compare', BOOT, '--variants', 'D,E', '--set', STAGE, '--set', threshold('op_errors', 'rate < 1% during boot')],
    /op_errors: rate < 1% during boot cannot be judged here/,
  ],
  [
    'more structures than 31 bits index, on one host',
    ['simulate', BOOT, '--set', HUGE],
    /10000 guests need \d.* and 8\.0GiB is all that can be had\nhint: use more emulated hosts/,
  ],
  [
    'more structures than 31 bits index, live',
    ['run', BOOT, '--set', HUGE],
    /10000 guests need \d.* and 8\.0GiB is all that can be had\nhint: use fewer guests/,
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
        const { status, err } = await pinstorm(
          args[0] === 'simulate' || args[0] === 'run' ? [...args, '--out', out] : args,
        );
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
