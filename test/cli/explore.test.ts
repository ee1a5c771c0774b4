// slow: explores cases whole
/** explore and replay as users run them: what is printed is what is parsed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before, describe, it } from 'node:test';
import { pinstorm as runHere, type Ended } from './in-process.ts';

const pinstorm = (...args: string[]): Promise<Ended> => runHere(args);

const tokenIn = (text: string): string => {
  const found = /^pinstorm replay (\S+)$/m.exec(text)?.[1];
  assert.ok(found !== undefined, text);
  return found;
};

describe('explore and replay', () => {
  let failing: Ended;
  let token: string;
  before(async () => {
    failing = await pinstorm('explore', 'cases/over-commit.yaml', '--variant', '4.10');
    token = tokenIn(failing.err);
  });

  it('a violation exits 112 and prints a chart of 80 columns and a token', async () => {
    assert.equal(failing.status, 112);
    assert.match(failing.out, /verdict: violated/);
    assert.match(failing.err, /^limit-bypass: 2 pages are held under a limit of 1$/m);
    assert.match(failing.err, /down_write_trylock: busy/);
    for (const line of failing.err.split('\n')) {
      assert.ok(line.startsWith('pinstorm replay ') || line.length <= 80, line);
    }
  });

  it('the token replays to the same failure', async () => {
    const replay = await pinstorm('replay', token);
    assert.equal(replay.status, 112);
    const last = (text: string): string => /^limit-bypass: .*$/m.exec(text)?.[0] ?? '';
    assert.equal(last(replay.err), last(failing.err));
    const rows = (text: string): string[] => text.split('\n').filter((line) => /^ +\d+ /.test(line));
    assert.deepEqual(rows(replay.out), rows(failing.err));
  });

  it('the same case is exhausted under 4.12, with exit status 0', async () => {
    const fine = await pinstorm('explore', 'cases/over-commit.yaml', '--json');
    assert.equal(fine.status, 0);
    const document = JSON.parse(fine.out) as { verdict: string; interleavings: number; failures: unknown[] };
    assert.equal(document.verdict, 'exhausted');
    assert.ok(document.interleavings > 1);
    assert.deepEqual(document.failures, []);
  });

  it('bounds are said', async () => {
    const bounded = await pinstorm('explore', 'cases/over-commit.yaml', '--strategy', 'pct', '--max-schedules', '5');
    assert.equal(bounded.status, 0);
    assert.match(bounded.out, /verdict: bounded by 5 schedules/);
    assert.match(bounded.out, /probability >= 1\/\(n k\^\(d-1\)\)/);
    const cut = await pinstorm('explore', 'cases/over-commit.yaml', '--max-steps', '10');
    assert.match(cut.out, /verdict: bounded by 10 steps/);
    const few = await pinstorm('explore', 'cases/over-commit.yaml', '--preemptions', '0');
    assert.match(few.out, /verdict: bounded by 0 preemptions/);
  });

  it('SIGINT ends a search with what it has', async () => {
    const args = ['dist/src/cli/main.js', 'explore', 'cases/false-refusal.yaml', '--full'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    // What is explored is said once the program listens to the signal.
    const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
    child.stderr.once('data', () => child.kill('SIGINT'));
    const [status] = await ended;
    assert.equal(status, 105);
    assert.match(stdout, /verdict: bounded by the user/);
  });

  it('a stale token says why', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'pinstorm-explore-'));
    try {
      const file = path.join(directory, 'case.yaml');
      const text = readFileSync('cases/over-commit.yaml', 'utf8');
      writeFileSync(file, text);
      const own = tokenIn((await pinstorm('explore', file, '--variant', 'D')).err);
      writeFileSync(file, text.replace('memlock: 1 page', 'memlock: 3 pages'));
      const changed = await pinstorm('replay', own);
      assert.equal(changed.status, 104);
      assert.match(changed.err, /is for another .*hash/);
      rmSync(file);
      assert.match((await pinstorm('replay', own)).err, /which is not here/);
    } finally {
      rmSync(directory, { recursive: true });
    }
    const damaged = await pinstorm('replay', token.slice(0, -2));
    assert.equal(damaged.status, 104);
    assert.match(damaged.err, /cut off or damaged/);
  });

  it('a scenario is explored with its first guest, and its failure replays', async () => {
    const args = ['--strategy', 'pct', '--max-steps', '1000', '--max-schedules', '100', '--variant', 'D'];
    const found = await pinstorm('explore', 'scenarios/accounting-stress.yaml', ...args);
    assert.match(found.out, /verdict: /);
    const word = /pinstorm replay (\S+)/.exec(found.out + found.err)?.[1];
    assert.ok(word !== undefined, found.out);
    assert.equal((await pinstorm('replay', word)).status, 112);
  });
});
