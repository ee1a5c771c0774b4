// needs: redis-server
/** A round of the chaos runner, or many. Another seed each time; the message of a failure says how to repeat it. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { soaked } from '../soak.ts';
import { FAILURES } from './failures.ts';
import { round } from './run.ts';

const ROUNDS = soaked(1, 100);

it('random failures lose and double no accounting update, and no verdict is wrong', async () => {
  const seed = Date.now() % 1_000_000;
  for (let i = 0; i < ROUNDS; i++) {
    const number = FAILURES.length + i;
    const { failure, lost, doubled, wrong } = await round(seed, number);
    const again = `again: node dist/test/chaos/run.js --seed ${seed} --from ${number} --rounds 1`;
    assert.deepEqual({ lost, doubled, wrong }, { lost: 0, doubled: 0, wrong: [] }, `${failure}; ${again}`);
  }
});
