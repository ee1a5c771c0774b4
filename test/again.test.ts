/** A failing test says how to run it alone; what cannot run by itself says nothing. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import reporter, { again } from './again.ts';

test('the command names the source, and the test whatever is in its name', () => {
  for (const file of ['dist/test/model/x.test.js', 'test/model/x.test.ts']) {
    assert.equal(
      again("it's 1 + 1 (or 3)", file),
      String.raw`again: test/run test/model/x.test.ts -- --test-name-pattern='^it'\''s 1 \+ 1 \(or 3\)$'`,
    );
  }
});

test('each failed test once, and neither its suite nor its file', async () => {
  const file = resolve('dist/test/a.test.js');
  const failed = (name: string, type: string) => ({ type: 'test:fail', data: { name, file, details: { type } } });
  async function* events() {
    yield { type: 'test:pass', data: { name: 'fine', file } };
    yield* [failed('bad', 'test'), failed('bad', 'test'), failed('group', 'suite'), failed(file, 'test')];
  }
  const lines: string[] = [];
  for await (const line of reporter(events())) lines.push(line);
  assert.deepEqual(lines, [`${again('bad', file)}\n`]);
});
