/** Places for results that cannot take them: refused at once, with one message and one status for each kind. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { writeFailure } from '../../src/base/write-failure.ts';
import { makeDirectory, tryDirectory, tryFile, writeResult } from '../../src/report/place.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-place-'));
after(() => rmSync(root, { recursive: true }));
const at = (name: string): string => join(root, name);

function failure(work: () => void): string {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    return `${error.exitCode} ${error.message.replaceAll(root, 'ROOT')}; ${error.hint}`;
  }
  return 'written';
}

test('a directory is made with those above it, and nothing stays of the trial', () => {
  tryDirectory(at('a/b/c'));
  assert.deepEqual(readdirSync(at('a/b/c')), []);
  tryDirectory(at('a/b/c'));
  makeDirectory(at('a/b/c'));
});

test('a place that takes nothing is refused: also one where the system has no directory and makes none', () => {
  writeFileSync(at('file'), '');
  symlinkSync(at('loop'), at('loop'));
  const another = 'choose another place with --out DIR';
  const rows: [string, string][] = [
    ['/proc/x/y', '104 cannot write /proc/x/y: there is no such directory, and none can be made; ' + another],
    ['/proc/x', '104 cannot write /proc/x: there is no such directory, and none can be made; ' + another],
    [at('file'), `104 cannot write ROOT/file: a file is in the way; ${another}`],
    [at('file/below'), `104 cannot write ROOT/file/below: a part of the path is a file; ${another}`],
    [
      at('x'.repeat(300)),
      `104 cannot write ROOT/${'x'.repeat(300)}: the name is too long; choose a shorter one with --out DIR`,
    ],
    [at('loop'), `104 cannot write ROOT/loop: its symbolic links go round in a circle; ${another}`],
  ];
  for (const [path, expected] of rows)
    assert.equal(
      failure(() => tryDirectory(path)),
      expected,
    );
});

test('a full disk is 113, wherever it is noticed', () => {
  const full =
    /^113 cannot write \/dev\/full: no space is left; free some space or choose another place with --csv FILE$/;
  assert.match(
    failure(() => writeResult('/dev/full', 'x', '--csv FILE')),
    full,
  );
  const codes = { ENOSPC: 113, EDQUOT: 113, EFBIG: 113, EIO: 113, EACCES: 104, EROFS: 104, EISDIR: 104, ESTALE: 104 };
  for (const [code, status] of Object.entries(codes)) {
    assert.equal(writeFailure('x', Object.assign(new Error(code), { code }), '--out DIR').exitCode, status, code);
  }
});

test('a file is tried without being made or changed', () => {
  tryFile(at('new.csv'), '--csv FILE');
  assert.equal(existsSync(at('new.csv')), false);
  writeFileSync(at('old.csv'), 'kept');
  tryFile(at('old.csv'), '--csv FILE');
  assert.equal(readFileSync(at('old.csv'), 'utf8'), 'kept');
  assert.equal(
    failure(() => tryFile(at('none/new.csv'), '--csv FILE')),
    '104 cannot write ROOT/none/new.csv: there is no such directory, and none can be made; choose another place with --csv FILE',
  );
  assert.match(
    failure(() => tryFile(root, '--csv FILE')),
    /^104 cannot write ROOT: it is a directory; name a file/,
  );
});

test('a directory that may only be read is refused to those who may not', () => {
  tryDirectory(at('read-only'));
  chmodSync(at('read-only'), 0o555);
  const uid = process.getuid?.() === 0 ? 65_534 : undefined;
  chmodSync(root, 0o755);
  const source = `
    const { tryDirectory } = await import(${JSON.stringify(new URL('../../src/report/place.js', import.meta.url).href)});
    try { tryDirectory(${JSON.stringify(at('read-only/x'))}); } catch (error) { process.stdout.write(error.exitCode + ' ' + error.message); }`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8', uid });
  assert.match(said, /^104 cannot write .*read-only\/x: permission denied$/);
});
