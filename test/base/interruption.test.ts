/** Waits that one event may end, over a long run. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Interruption } from '../../src/base/interruption.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('a wait that is over leaves nothing behind, not even its result', async () => {
  const interruption = new Interruption();
  const results: WeakRef<object>[] = [];
  for (let i = 0; i < 100; i++) {
    const result = await interruption.orEnd(Promise.resolve({ message: 'x'.repeat(1000) }));
    results.push(new WeakRef(result));
    await assert.rejects(interruption.orEnd(Promise.reject(new Error('no'))), /no/);
  }
  assert.equal(interruption.size, 0);
  await turn();
  collectGarbage();
  const kept = results.filter((result) => result.deref() !== undefined).length;
  // The last one may still be in a register.
  assert.ok(kept <= 1, `${kept} of ${results.length} results are still there`);
});

test('it ends the waits under way and those to come, with the first error', async () => {
  const interruption = new Interruption();
  const waits = [new Promise(() => {}), new Promise(() => {})].map((work) => interruption.orEnd(work));
  interruption.interrupt(new Error('first'));
  interruption.interrupt(new Error('second'));
  for (const wait of waits) await assert.rejects(wait, /first/);
  await assert.rejects(interruption.orEnd(new Promise(() => {})), /first/);
  await assert.rejects(interruption.orEnd(Promise.reject(new Error('late'))), /first/);
  assert.equal(interruption.size, 0);
});
