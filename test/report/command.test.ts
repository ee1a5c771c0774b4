import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, test } from 'node:test';
import { buildResults } from '../../src/report/build.ts';
import { PLAIN } from '../../src/report/format.ts';
import { RunDirectory } from '../../src/report/run-dir.ts';
import { renderSummary } from '../../src/report/summary.ts';
import { failing, RECORD } from './sample.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-report-'));
after(() => rmSync(root, { recursive: true }));
const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const pinstorm = (...args: string[]) =>
  spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });

test('pinstorm report prints a run from its directory, exact as JSON', () => {
  const directory = new RunDirectory(root, RECORD, '', {});
  const cutOff = pinstorm('report', directory.path);
  assert.equal(cutOff.status, 0, cutOff.stderr);
  assert.match(cutOff.stdout, /The run did not end/);
  const results = buildResults(failing());
  directory.finish(results, '');
  assert.equal(pinstorm('report', join(root, 'latest')).stdout, renderSummary(results, PLAIN));
  assert.deepEqual(JSON.parse(pinstorm('report', directory.path, '--json').stdout), results);
});

test('every format goes where it should, and what cannot be written is one message', () => {
  const directory = new RunDirectory(root, RECORD, '', {}).path;
  const plain = pinstorm('report', directory);
  assert.match(plain.stderr, /^pinstorm: report .*report\.html\n$/);
  assert.match(readFileSync(join(directory, 'report.html'), 'utf8'), /^<!doctype html>/);
  const page = join(root, 'page.html');
  assert.equal(pinstorm('report', directory, '--format', 'html', '--out', page).stdout, '');
  assert.equal(readFileSync(page, 'utf8'), readFileSync(join(directory, 'report.html'), 'utf8'));
  assert.equal(pinstorm('report', directory, '--format', 'text').stdout, plain.stdout);
  assert.match(pinstorm('report', directory, '--format', 'csv').stdout, /^start_seconds,end_seconds/);
  assert.match(pinstorm('report', directory, '--format', 'junit').stdout, /^<\?xml/);
  assert.equal(
    pinstorm('report', directory, '--format', 'hgrm').stderr,
    `pinstorm: 0 files in ${join(directory, 'hgrm')}\n`,
  );
  for (const format of ['html', 'csv', 'junit', 'hgrm', 'text', 'json']) {
    const { status, stderr } = pinstorm('report', directory, '--format', format, '--out', join(page, 'below-a-file'));
    assert.equal(status, 104, format);
    assert.match(stderr, /^pinstorm: error: cannot write .*below-a-file \(ENOTDIR\)\nhint: choose another /);
  }
  assert.equal(pinstorm('report', directory, '--json', '--format', 'csv').status, 104);
});

test('a directory that is none exits with 104 and one message', () => {
  const { status, stdout, stderr } = pinstorm('report', join(root, 'nope'));
  assert.equal(status, 104);
  assert.equal(stdout, '');
  assert.match(stderr, /nope does not exist/);
  assert.doesNotMatch(stderr, /\n\s+at /);
});
