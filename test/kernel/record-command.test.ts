/** What `pinstorm record` refuses before it looks at a device: on every host, with a group that none has. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pinstorm } from '../cli/in-process.ts';

const directory = mkdtempSync(join(tmpdir(), 'pinstorm-record-'));
after(() => rmSync(directory, { recursive: true }));
const out = join(directory, 'out');
const FILE = 'recordings/6.12/directed/zero-page-ro-type1v2.jsonl';

const ROWS: readonly (readonly [why: string, args: readonly string[], message: RegExp])[] = [
  ['no directory', ['--random', '5', '--group', '999999'], /no --out is given/],
  ['nothing to record', ['--group', '999999', '--out', out], /nothing to record/],
  ['two things to record', [FILE, '--random', '5', '--group', '999999', '--out', out], /both transcripts and --random/],
  ['no group', ['--random', '5', '--out', out], /no --group is given/],
  [
    'a group that is no number',
    [FILE, '--group', 'vfio', '--out', out],
    /--group: expected the number of an IOMMU group/,
  ],
  ['a group that there is not', [FILE, '--group', '999999', '--out', out], /no IOMMU group 999999|no IOMMU that is/],
];

for (const [why, args, message] of ROWS)
  test(`refused: ${why}`, async () => {
    const { status, err } = await pinstorm(['record', ...args]);
    assert.equal(status, 104, err);
    assert.match(err, message);
    assert.match(err, /\nhint: /);
    assert.ok(!existsSync(out));
  });

test('no variable of the environment names a group or allows root', async () => {
  const env = { PINSTORM_GROUP: '999999', PINSTORM_AS_ROOT: '1', PINSTORM_MEMORY: '1GiB', PINSTORM_OUT: out };
  const { status, err } = await pinstorm(['record', '--random', '5'], env);
  assert.equal(status, 104);
  assert.match(err, /no --group is given/);
  for (const name of ['PINSTORM_GROUP', 'PINSTORM_AS_ROOT', 'PINSTORM_MEMORY'])
    assert.match(err, new RegExp(`no command reads the variable ${name}`));
});
