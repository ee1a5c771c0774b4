import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Turns } from '../../src/emulator/turns.ts';

/** Keeps the processor for at least so long. */
function spin(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

it('work that is long in all leaves the event loop its turns, and keeps its order', async () => {
  const turns = new Turns();
  const done: number[] = [];
  let sinceTurn = 0;
  let longest = 0;
  await new Promise<void>((resolve) => {
    for (let i = 0; i < 60; i++) {
      turns.add(() => {
        done.push(i);
        spin(1);
        longest = Math.max(longest, ++sinceTurn);
        // Added while a turn is taken, it comes after all that is there.
        if (i === 0) turns.add(resolve);
      });
    }
    const look = (): void => {
      sinceTurn = 0;
      if (done.length < 60) setImmediate(look);
    };
    look();
  });
  assert.deepEqual(done, [...Array(60).keys()]);
  // A turn ends after 5 ms, so after five works of a millisecond at most.
  assert.ok(longest <= 5, `${longest} in one turn`);
  await new Promise<void>((resolve) => turns.add(resolve));
});
