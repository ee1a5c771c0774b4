import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { caseOf, parseCase } from '../../src/scenario/case.ts';
import { parsedFile } from './read.ts';

const GOOD = `case: small
memlock: 1 page
actors:
  - name: a
    task: main
    ops:
      - map: { iova: 0, pages: 2 }
      - exit
`;

const refusal = (text: string): string => {
  try {
    parseCase('x.yaml', text);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 104);
    return error.message;
  }
  return 'none';
};

describe('case files', () => {
  it('read to a plan, with defaults', () => {
    const { plan, defect } = parseCase('x.yaml', GOOD);
    assert.equal(defect, null);
    assert.equal(plan.memlockPages, 1);
    assert.equal(plan.memoryPages, 8);
    assert.deepEqual(plan.actors[0]?.ops, [{ op: 'map', iova: 0, page: 0, pages: 2, container: 0 }, { op: 'exit' }]);
  });

  const wrong: readonly (readonly [why: string, text: string, ...expected: RegExp[]])[] = [
    [
      'a misspelt operation',
      GOOD.replace('map:', 'mpa:'),
      /x\.yaml:7:9: .*unknown operation 'mpa'/,
      /did you mean 'map'/,
    ],
    ['a misspelt argument', GOOD.replace('pages: 2', 'page_count: 2'), /x\.yaml:7:.*unknown key/, /'pages' is missing/],
    ['a misspelt key', GOOD.replace('memlock', 'memlok'), /x\.yaml:2:1: memlok: unknown key/, /did you mean 'memlock'/],
    ['no main thread', GOOD.replace('main', 'thread'), /exactly one main thread/],
    ['a kill of nobody', GOOD.replace('- exit', '- kill: { actor: b }'), /x\.yaml:8:.*unknown actor 'b'/],
    [
      'a container that is not there',
      GOOD.replace('iova: 0', 'iova: 0, container: 1'),
      /there is no container 1/,
      /containers: 2/,
    ],
    ['an unknown variant', `variant: Z\n${GOOD}`, /x\.yaml:1:10: variant: unknown variant/],
    ['an unknown fault site', `faults: { work_itm: 1 }\n${GOOD}`, /unknown fault site 'work_itm'/, /work_item/],
    ['an unknown invariant', `expect: { A: [balanc] }\n${GOOD}`, /unknown invariant 'balanc'/],
    ['two operations in one', GOOD.replace('- exit', '- { exit: {}, exec: {} }'), /expected one operation/],
    ['too many pages', GOOD.replace('pages: 2', 'pages: 100000'), /too large/],
  ];
  for (const [why, text, ...expected] of wrong) {
    it(`refuses ${why}`, () => {
      for (const pattern of expected) assert.match(refusal(text), pattern);
    });
  }

  it('the ones that come with pinstorm are valid', () => {
    const files = readdirSync('cases', { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.yaml'));
    assert.ok(files.length > 0);
    for (const file of files) assert.ok(caseOf(parsedFile(`cases/${file}`)).plan.actors.length > 0);
  });
});
