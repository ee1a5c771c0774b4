import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../../../src/base/errors.ts';
import { caseHash, checkModel, decodeToken, encodeToken, type Token } from '../../../src/engine/explore/codec.ts';
import { MODEL_VERSION } from '../../../src/model/version.ts';
import { actor, caseOf, hold, map } from './cases.ts';

const token: Token = {
  modelVersion: MODEL_VERSION,
  variant: 'D',
  caseFile: 'cases/over-commit.yaml',
  caseHash: '0123456789ab',
  failure: 'limit-bypass',
  dropped: [0, 3],
  faults: [true, false, true],
  choices: [0, 0, 1, 1, 1, 0, 2],
};

const tokens: fc.Arbitrary<Token> = fc.record(
  {
    modelVersion: fc.nat(),
    variant: fc.string(),
    caseFile: fc.string({ unit: 'grapheme' }),
    caseHash: fc.stringMatching(/^[0-9a-f]{12}$/),
    failure: fc.string(),
    dropped: fc.array(fc.nat(100)),
    faults: fc.array(fc.boolean()),
    choices: fc.array(fc.nat(300), { maxLength: 500 }),
  },
  { noNullPrototype: true },
);

const fault = (word: string): string => {
  try {
    decodeToken(word);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 104);
    return error.message;
  }
  return 'none';
};

describe('replay token', () => {
  it('decodes to what was encoded', () => {
    fc.assert(
      fc.property(tokens, (t) => {
        assert.deepEqual(decodeToken(encodeToken(t)), t);
      }),
    );
  });

  it('is short, and the same for the same schedule', () => {
    assert.equal(
      encodeToken(token),
      'p1-AQMBRBZjYXNlcy9vdmVyLWNvbW1pdC55YW1sDGxpbWl0LWJ5cGFzcwEjRWeJqwIAAwMFAwQGCgMFF3SwFQ',
    );
    const long = encodeToken({ ...token, choices: [...Array.from({ length: 5000 }, () => 0), 1] });
    assert.ok(long.length < encodeToken(token).length + 4);
  });

  it('says what is wrong with it', () => {
    const word = encodeToken(token);
    assert.match(fault('hello'), /begins with p1-/);
    assert.match(fault(`p2${word.slice(2)}`), /format 2/);
    assert.match(fault(word.slice(0, -3)), /cut off or damaged/);
    assert.match(fault(`${word.slice(0, 20)}.${word.slice(21)}`), /character "\." at 21/);
    assert.match(fault(`${word.slice(0, 20)}${word[20] === 'A' ? 'B' : 'A'}${word.slice(21)}`), /damaged/);
    assert.throws(() => checkModel({ ...token, modelVersion: MODEL_VERSION + 1 }), /model version/);
  });

  it('no damage decodes to something else', () => {
    const word = encodeToken(token);
    fc.assert(
      fc.property(fc.nat(word.length - 1), fc.stringMatching(/^[\w-]$/), (at, char) => {
        const damaged = word.slice(0, at) + char + word.slice(at + 1);
        if (Buffer.from(damaged.slice(3), 'base64url').equals(Buffer.from(word.slice(3), 'base64url'))) return;
        assert.notEqual(fault(damaged), 'none');
      }),
    );
  });

  it('hashes what decides how a case runs, and nothing else', () => {
    const plan = caseOf('a', [actor('x', 'main', map(0, 1)), actor('y', 'thread', hold('read'))]);
    assert.equal(caseHash({ ...plan, name: 'b', about: 'prose', variant: 'A' }), caseHash(plan));
    assert.notEqual(caseHash({ ...plan, memlockPages: 17 }), caseHash(plan));
    assert.notEqual(caseHash({ ...plan, actors: plan.actors.toReversed() }), caseHash(plan));
  });
});
