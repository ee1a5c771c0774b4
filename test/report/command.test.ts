import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { buildResults } from '../../src/report/build.ts';
import { PLAIN } from '../../src/report/format.ts';
import { RunDirectory } from '../../src/report/run-dir.ts';
import { renderSummary } from '../../src/report/summary.ts';
import { pinstorm as runHere, type Ended } from '../cli/in-process.ts';
import { failing, RECORD } from './sample.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-report-'));
after(() => rmSync(root, { recursive: true }));
const pinstorm = (...args: string[]): Promise<Ended> => runHere(args, { LC_ALL: 'C' });

test('pinstorm report prints a run from its directory, exact as JSON', async () => {
  const directory = new RunDirectory(root, RECORD, '', {});
  const cutOff = await pinstorm('report', directory.path);
  assert.equal(cutOff.status, 0, cutOff.err);
  assert.match(cutOff.out, /The run did not end/);
  const results = buildResults(failing());
  directory.finish(results, '');
  assert.equal((await pinstorm('report', join(root, 'latest'))).out, renderSummary(results, PLAIN));
  assert.deepEqual(JSON.parse((await pinstorm('report', directory.path, '--json')).out), results);
});

test('every format goes where it should, and what cannot be written is one message', async () => {
  const directory = new RunDirectory(root, RECORD, '', {}).path;
  const plain = await pinstorm('report', directory);
  assert.match(plain.err, /^pinstorm: report .*report\.html\n$/);
  assert.match(readFileSync(join(directory, 'report.html'), 'utf8'), /^<!doctype html>/);
  const page = join(root, 'page.html');
  assert.equal((await pinstorm('report', directory, '--format', 'html', '--out', page)).out, '');
  assert.equal(readFileSync(page, 'utf8'), readFileSync(join(directory, 'report.html'), 'utf8'));
  assert.equal((await pinstorm('report', directory, '--format', 'text')).out, plain.out);
  assert.match((await pinstorm('report', directory, '--format', 'csv')).out, /^start_seconds,end_seconds/);
  assert.match((await pinstorm('report', directory, '--format', 'junit')).out, /^<\?xml/);
  assert.equal(
    (await pinstorm('report', directory, '--format', 'hgrm')).err,
    `pinstorm: 0 files in ${join(directory, 'hgrm')}\n`,
  );
  for (const format of ['html', 'csv', 'junit', 'hgrm', 'text', 'json']) {
    const { status, err } = await pinstorm(
      'report',
      directory,
      '--format',
      format,
      '--out',
      join(page, 'below-a-file'),
    );
    assert.equal(status, 104, format);
    assert.match(
      err,
      /^pinstorm: error: cannot write .*below-a-file: a part of the path is a file\nhint: choose another /,
    );
  }
  assert.equal((await pinstorm('report', directory, '--json', '--format', 'csv')).status, 104);
});

test('a directory that is none exits with 104 and one message', async () => {
  const { status, out, err } = await pinstorm('report', join(root, 'nope'));
  assert.equal(status, 104);
  assert.equal(out, '');
  assert.match(err, /nope does not exist/);
  assert.doesNotMatch(err, /\n\s+at /);
});
