import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { machineFailure } from '../../src/base/machine-failure.ts';

const coded = (code: string): Error => Object.assign(new Error('x'), { code });

for (const [what, error, message] of [
  ['no thread', coded('ERR_WORKER_INIT_FAILED'), /no room for another thread/],
  ['no process', coded('EAGAIN'), /no room for another thread/],
  ['no memory for shared state', new RangeError('Array buffer allocation failed'), /not enough memory/],
  ['no file', coded('EMFILE'), /too many files/],
  ['a thread of a pool that was ended', new Error('worker exited with code: 1'), /a thread ended unasked/],
] as const) {
  it(`the machine's doing, status 113: ${what}`, () => {
    const failure = machineFailure(error);
    assert.equal(failure?.exitCode, EXIT.inconclusive);
    assert.match(failure.message, message);
    assert.ok(failure.hint);
  });
}

it("the machine's doing, status 113: a real thread that runs out of memory", async () => {
  const endless = 'const kept = []; for (;;) kept.push(new Array(1000).fill({}));';
  const thread = new Worker(endless, { eval: true, resourceLimits: { maxOldGenerationSizeMb: 8 }, stderr: true });
  const error = await new Promise<unknown>((resolve) => void thread.once('error', resolve));
  assert.equal(machineFailure(error)?.exitCode, EXIT.inconclusive);
});

it('says nothing of a bug, and repeats no message that is meant for users', () => {
  assert.equal(machineFailure(new TypeError('x is not a function')), undefined);
  assert.equal(machineFailure(new UserError(EXIT.invalid, 'allocation failed', null)), undefined);
  assert.equal(machineFailure('text'), undefined);
});
