import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { canonicalJson } from '../../src/base/canonical-json.ts';
import type { RunPlan } from '../../src/engine/plan.ts';
import { memlockWarnings, planText } from '../../src/scenario/plan-text.ts';
import { Planner, planRun } from '../../src/scenario/plan.ts';
import { type ResolvedScenario, validateScenario } from '../../src/scenario/validate.ts';
import { assertGenerated } from '../generated.ts';
import { REGISTRY } from './registry.ts';

const SEED = 20161206;
const MIXED = readFileSync('test/golden/mixed.yaml', 'utf8');
const resolve = (text: string): ResolvedScenario => validateScenario('t.yaml', text, REGISTRY);
const plan = (text: string): RunPlan => planRun(resolve(text), REGISTRY);

const fleet = (count: number, extra = ''): string =>
  `name: fleet\n${extra}\nguests:\n  - class: g\n    count: ${count}\n` +
  '    memory: { size: { choose: [1GiB, 2GiB, 4GiB], weights: [5, 3, 1] } }\n    start: { spread: 10s }\n' +
  '    actors:\n      - { name: a, task: main, workload: map-unmap }\n      - { name: v, count: 8, workload: fault }\n';

test('the plan of a scenario with every kind of key is pinned', async () => {
  await assertGenerated('test/golden/mixed.plan.json', JSON.stringify(plan(MIXED)));
});

test('the table of that plan is pinned and fits 80 columns', async () => {
  const { scenario } = resolve(MIXED);
  const text = planText(plan(MIXED), scenario.description, REGISTRY);
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  await assertGenerated('test/golden/mixed.plan.md', `\`\`\`\n${text}\`\`\`\n`);
});

test('every operation has a threshold of errors, unless the scenario has its own', () => {
  const of = (keys: string) =>
    plan(fleet(1, keys)).thresholds.map(({ metric, expression }) => `${metric} ${expression}`);
  assert.deepEqual(of(''), [
    'op_errors{op:map} rate == 0 or empty',
    'op_errors{op:unmap} rate == 0 or empty',
    'op_errors{op:fault} rate == 0 or empty',
  ]);
  assert.deepEqual(
    of('expect: [{ map: [ENOMEM, EEXIST] }]')[0],
    'op_errors{op:map,expected:enomem+eexist} rate == 0 or empty',
  );
});

test('a threshold of errors of its own replaces that of the operation, one of a stage does not', () => {
  const of = (keys: string) =>
    plan(fleet(1, keys)).thresholds.map(({ metric, expression }) => `${metric} ${expression}`);
  assert.deepEqual(of("thresholds: { 'op_errors{expected:eexist, op:map}': rate < 1% }").slice(1), [
    'op_errors{op:unmap} rate == 0 or empty',
    'op_errors{op:fault} rate == 0 or empty',
  ]);
  const ofStage = "stages: [{ name: a }]\nthresholds: { 'op_errors{op:map}': rate == 0 during a }";
  assert.ok(of(ofStage).includes('op_errors{op:map} rate == 0 or empty'));
});

test('a limit below what guests lock is warned of, unless the refusals are expected', () => {
  const warnings = (keys: string, memlock: string) =>
    memlockWarnings(
      plan(
        fleet(2, keys)
          .replace('    start:', `    memlock: ${memlock}\n    start:`)
          .replace('map-unmap', 'map-unmap, options: { size: 1MiB }'),
      ),
      REGISTRY,
    );
  assert.deepEqual(warnings('', '64KiB'), [
    '2 guests of class g lock up to 1.0MiB each, and memlock is 64KiB: operations will be refused',
  ]);
  assert.deepEqual(warnings('', '1MiB'), []);
  assert.deepEqual(warnings('expect: [{ map: ENOMEM }]', '64KiB'), []);
});

test('the hash is the SHA-256 of the canonical JSON of all the rest', () => {
  for (const text of [MIXED, fleet(3000)]) {
    const { hash, ...rest } = plan(text);
    assert.equal(hash, createHash('sha256').update(canonicalJson(rest)).digest('hex'));
  }
});

test('whatever changes the run changes the hash, and nothing else does', () => {
  const { hash } = plan(fleet(5));
  assert.equal(plan(`# a comment\n${fleet(5)}`).hash, hash);
  assert.equal(plan(fleet(5, 'variant: e')).hash, hash);
  for (const extra of [
    'seed: 2',
    'variant: D',
    'pace: 2',
    'duration: 9s',
    'faults: { work_item: 0.5 }',
    'expect: [wrap]',
  ]) {
    assert.notEqual(plan(fleet(5, extra)).hash, hash, extra);
  }
});

test('a plan is frozen to the last value', () => {
  const frozen = (value: unknown): boolean =>
    typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
  assert.ok(frozen(plan(MIXED)));
});

test('a guest does not depend on which others are made, nor in which order', () => {
  const { scenario } = resolve(MIXED);
  const all = plan(MIXED).guests;
  fc.assert(
    fc.property(fc.shuffledSubarray(all.map((guest) => guest.index)), (indices) => {
      const planner = new Planner(scenario);
      for (const index of indices) assert.deepEqual(planner.guest(index), all[index]);
    }),
    { seed: SEED, numRuns: 50 },
  );
});

test('on any number of workers the guests are the same', () => {
  const { scenario } = resolve(fleet(257));
  const whole = new Planner(scenario);
  const expected = Array.from({ length: 257 }, (_, index) => canonicalJson(whole.guest(index)));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), (workers) => {
      const made = Array.from({ length: workers }, (_, k) => {
        const planner = new Planner(scenario);
        const [first, end] = [k, k + 1].map((n) => Math.floor((257 * n) / workers)) as [number, number];
        return Array.from({ length: end - first }, (__, i) => canonicalJson(planner.guest(first + i)));
      }).flat();
      assert.deepEqual(made, expected);
    }),
    { seed: SEED, numRuns: 20 },
  );
});

test('what is drawn lies where the scenario says, and in the proportions it says', () => {
  const { guests } = plan(fleet(9000));
  const counts = new Map<number, number>();
  for (const guest of guests) {
    counts.set(guest.memory.bytes, (counts.get(guest.memory.bytes) ?? 0) + 1);
    assert.ok(guest.startNs >= 0 && guest.startNs < 10e9);
  }
  // Expected 5000, 3000, 1000 of 9000; five standard deviations.
  for (const [bytes, share] of [
    [2 ** 30, 5 / 9],
    [2 ** 31, 3 / 9],
    [2 ** 32, 1 / 9],
  ] as const) {
    assert.ok(Math.abs((counts.get(bytes) ?? 0) - 9000 * share) < 5 * Math.sqrt(9000 * share * (1 - share)));
  }
  const meanStart = guests.reduce((sum, guest) => sum + guest.startNs, 0) / guests.length;
  assert.ok(Math.abs(meanStart - 5e9) < 5 * (10e9 / Math.sqrt(12 * 9000)));
});

test('an actor with a chance is drawn for each guest by itself: the others stay the same', () => {
  const withChance = (chances: readonly number[]): RunPlan =>
    plan(
      'name: fleet\nguests:\n  - class: g\n    count: 4000\n    memory: { size: 1GiB }\n    actors:\n' +
        '      - { name: a, task: main, workload: map-unmap }\n' +
        chances.map((chance, i) => `      - { name: b${i}, chance: ${chance}, workload: fault, count: 2 }\n`).join(''),
    );
  const has = ({ guests }: RunPlan, name: string): boolean[] =>
    guests.map(({ actors }) => actors.some((actor) => actor.name === `${name}-0`));
  const share = (list: readonly boolean[]): number => list.filter(Boolean).length / list.length;
  const one = withChance([0.3]);
  const two = withChance([0.3, 0.6]);
  assert.ok(Math.abs(share(has(two, 'b0')) - 0.3) < 0.03 && Math.abs(share(has(two, 'b1')) - 0.6) < 0.03);
  assert.deepEqual(has(two, 'b0'), has(one, 'b0'), 'each actor has a stream of its own');
  const both = has(two, 'b0').map((b, i) => b && (has(two, 'b1')[i] ?? false));
  assert.ok(Math.abs(share(both) - 0.18) < 0.03, 'drawn independently');
  assert.equal(new Set(two.guests.map(({ actors }) => actors)).size, 4, 'equal lists are one object');
  assert.throws(
    () =>
      plan(
        fleet(1)
          .replace('workload: map-unmap', 'workload: map-unmap, chance: 0.5')
          .replace(', count: 8', ', count: 8, chance: 0'),
      ),
    /drawn without any actor/,
  );
  assert.deepEqual([share(has(withChance([0]), 'b0')), share(has(withChance([1]), 'b0'))], [0, 1]);
});

test('a range is drawn on its steps, both ends included', () => {
  const text = fleet(500).replace(
    '{ choose: [1GiB, 2GiB, 4GiB], weights: [5, 3, 1] }',
    '{ uniform: [8GiB, 16GiB], step: 4GiB }',
  );
  const sizes = new Set(plan(text).guests.map((guest) => guest.memory.bytes / 2 ** 30));
  assert.deepEqual(
    [...sizes].toSorted((a, b) => a - b),
    [8, 12, 16],
  );
});

test('guests that arrive at a rate have exponential gaps', () => {
  const { guests } = plan(fleet(4000).replace('{ spread: 10s }', '{ at: 1s, rate: 100/s }'));
  const starts = guests.map((guest) => guest.startNs);
  assert.deepEqual(
    starts,
    starts.toSorted((a, b) => a - b),
  );
  assert.ok((starts[0] ?? 0) >= 1e9);
  const mean = ((starts.at(-1) ?? 0) - 1e9) / 4000;
  assert.ok(Math.abs(mean - 1e7) < 5 * (1e7 / Math.sqrt(4000)));
});

test('10 000 guests are planned in under a second, a million fit in memory', () => {
  let started = performance.now();
  assert.equal(plan(fleet(10_000)).guests.length, 10_000);
  const ms = performance.now() - started;
  assert.ok(ms < 1000, `10 000 guests took ${ms.toFixed(0)} ms`);
  const planner = new Planner(resolve(fleet(1_000_000, 'host: { count: 64 }')).scenario);
  started = performance.now();
  assert.equal(planner.guest(999_999).index, 999_999);
  assert.ok(performance.now() - started < 100);
  assert.throws(() => planner.guest(1_000_000), RangeError);
  assert.throws(() => planner.guest(-1), RangeError);
});
