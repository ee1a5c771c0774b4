import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunPlan } from '../../src/engine/plan.ts';
import { planHash } from '../../src/scenario/plan.ts';
import { pinstorm } from './in-process.ts';

test('validate: a line for each good file', async () => {
  const { status, out, err } = await pinstorm([
    'validate',
    'scenarios/huge-guest.yaml',
    './scenarios/huge-guest.yaml',
    '--variant',
    '4.8',
    '--set',
    'guests=50',
  ]);
  assert.deepEqual(
    [status, out, err],
    [
      0,
      'scenarios/huge-guest.yaml: OK, 50 guests, variant A\n./scenarios/huge-guest.yaml: OK, 50 guests, variant A\n',
      '',
    ],
  );
});

test('validate: faults of every file on stderr, status 104', async () => {
  const { status, out, err } = await pinstorm([
    'validate',
    'nowhere.yaml',
    'scenarios/huge-guest.yaml',
    '--set',
    'seed=x',
  ]);
  assert.equal(status, 104);
  assert.equal(out, '');
  assert.equal(
    err,
    'pinstorm: error: nowhere.yaml: no such file\n' +
      '  fix: check the path; pinstorm scenarios lists what comes along\n' +
      '\n' +
      'scenarios/huge-guest.yaml is not a valid scenario: 1 fault\n' +
      "--set seed=x: seed: expected a number, got 'x'\n" +
      '  fix: write a number without a unit\n',
  );
});

test('validate --origin: flag, environment, file and default', async () => {
  const { status, out } = await pinstorm(['validate', 'scenarios/huge-guest.yaml', '--origin', '--pace', '2'], {
    PINSTORM_SEED: '7',
  });
  assert.equal(status, 0);
  assert.match(out, /^ {2}pace +2 +flag --pace 2$/m);
  assert.match(out, /^ {2}seed +7 +environment PINSTORM_SEED=7$/m);
  assert.match(out, /^ {2}guests\.huge\.memory\.size +4GiB +scenarios\/huge-guest\.yaml:\d+$/m);
  assert.match(out, /^ {2}guests\.huge\.count +1 +default$/m);
});

test('--set without = says what was expected', async () => {
  const { status, err } = await pinstorm(['plan', 'scenarios/huge-guest.yaml', '--set', 'seed']);
  assert.equal(status, 104);
  assert.equal(
    err,
    'pinstorm: error: --set: expected key=value, got "seed"\nhint: for example --set memory.size=4GiB\n',
  );
});

test('plan: the seed test locks 160 + 786 176 + 255 x 1 048 576 pages, within 80 columns', async () => {
  const { status, out } = await pinstorm(['plan', 'scenarios/huge-guest.yaml', '--set', 'memory.backing=anon4k']);
  assert.equal(status, 0);
  assert.match(
    out,
    new RegExp(`^locked at peak if every map succeeds: ${160 + 786_176 + 255 * 1_048_576} pages `, 'm'),
  );
  assert.match(out, /^huge +1 +4\.0GiB +anon4k /m);
  for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
});

test('plan --json: one document, the same on every call, its hash is right', async () => {
  const asJson = ['plan', 'scenarios/huge-guest.yaml', '--json', '--set', 'guests=50'];
  const first = await pinstorm([...asJson, '--seed', '7']);
  assert.equal(first.status, 0);
  assert.equal((await pinstorm(asJson, { PINSTORM_SEED: '7' })).out, first.out);
  const { hash, ...rest } = JSON.parse(first.out) as RunPlan;
  assert.equal(rest.guests.length, 50);
  assert.equal(rest.seed, 7);
  assert.equal(hash, planHash(rest));
});

test('plan --json of too many guests is refused', async () => {
  const { status, err } = await pinstorm(['plan', 'scenarios/huge-guest.yaml', '--json', '--set', 'guests=100001']);
  assert.equal(status, 104);
  assert.match(err, /100001 guests are too many to print; the maximum is 100000/);
});
