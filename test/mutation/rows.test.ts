/** Each planted bug still has its place and its tests, so that the next run of test/mutation/run can try it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { ALL_MUTATIONS } from './all.ts';

test('the place of each planted bug occurs exactly once, and its tests exist', () => {
  const faults: string[] = [];
  for (const { rule, file, from, to, tests } of ALL_MUTATIONS) {
    const count = readFileSync(`dist/src/${file}`, 'utf8').split(from).length - 1;
    if (count !== 1) faults.push(`${rule}: dist/src/${file} has its place ${count} times: ${from}`);
    if (to === from) faults.push(`${rule}: changes nothing`);
    if (tests.length === 0) faults.push(`${rule}: names no test`);
    for (const name of tests)
      if (!existsSync(`dist/test/${name}`)) faults.push(`${rule}: there is no dist/test/${name}`);
  }
  assert.deepEqual(faults, []);
});

test('no two planted bugs have the same name', () => {
  const names = ALL_MUTATIONS.map((m) => m.rule);
  assert.deepEqual(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  );
});
