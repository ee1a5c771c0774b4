/** explore and replay as users run them: what is printed is what is parsed. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';

function pinstorm(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['dist/src/cli/main.js', ...args], { encoding: 'utf8' });
}

const tokenIn = (text: string): string => {
  const found = /^pinstorm replay (\S+)$/m.exec(text)?.[1];
  assert.ok(found !== undefined, text);
  return found;
};

describe('explore and replay', () => {
  const failing = pinstorm('explore', 'cases/over-commit.yaml', '--variant', '4.10');
  const token = tokenIn(failing.stderr);

  it('a violation exits 112 and prints a chart of 80 columns and a token', () => {
    assert.equal(failing.status, 112);
    assert.match(failing.stdout, /verdict: violated/);
    assert.match(failing.stderr, /^limit-bypass: 2 pages are held under a limit of 1$/m);
    assert.match(failing.stderr, /down_write_trylock: busy/);
    for (const line of failing.stderr.split('\n')) {
      assert.ok(line.startsWith('pinstorm replay ') || line.length <= 80, line);
    }
  });

  it('the token replays to the same failure', () => {
    const replay = pinstorm('replay', token);
    assert.equal(replay.status, 112);
    const last = (text: string): string => /^limit-bypass: .*$/m.exec(text)?.[0] ?? '';
    assert.equal(last(replay.stderr), last(failing.stderr));
    const rows = (text: string): string[] => text.split('\n').filter((line) => /^ +\d+ /.test(line));
    assert.deepEqual(rows(replay.stdout), rows(failing.stderr));
  });

  it('the same case is exhausted under 4.12, with exit status 0', () => {
    const fine = pinstorm('explore', 'cases/over-commit.yaml', '--json');
    assert.equal(fine.status, 0);
    const document = JSON.parse(fine.stdout) as { verdict: string; interleavings: number; failures: unknown[] };
    assert.equal(document.verdict, 'exhausted');
    assert.ok(document.interleavings > 1);
    assert.deepEqual(document.failures, []);
  });

  it('bounds are said', () => {
    const bounded = pinstorm('explore', 'cases/over-commit.yaml', '--strategy', 'pct', '--max-schedules', '5');
    assert.equal(bounded.status, 0);
    assert.match(bounded.stdout, /verdict: bounded by 5 schedules/);
    assert.match(bounded.stdout, /probability >= 1\/\(n k\^\(d-1\)\)/);
    const cut = pinstorm('explore', 'cases/over-commit.yaml', '--max-steps', '10');
    assert.match(cut.stdout, /verdict: bounded by 10 steps/);
    const few = pinstorm('explore', 'cases/over-commit.yaml', '--preemptions', '0');
    assert.match(few.stdout, /verdict: bounded by 0 preemptions/);
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

  it('a stale token says why', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'pinstorm-explore-'));
    try {
      const file = path.join(directory, 'case.yaml');
      const text = readFileSync('cases/over-commit.yaml', 'utf8');
      writeFileSync(file, text);
      const own = tokenIn(pinstorm('explore', file, '--variant', 'D').stderr);
      writeFileSync(file, text.replace('memlock: 1 page', 'memlock: 3 pages'));
      const changed = pinstorm('replay', own);
      assert.equal(changed.status, 104);
      assert.match(changed.stderr, /is for another .*hash/);
      rmSync(file);
      assert.match(pinstorm('replay', own).stderr, /which is not here/);
    } finally {
      rmSync(directory, { recursive: true });
    }
    const damaged = pinstorm('replay', token.slice(0, -2));
    assert.equal(damaged.status, 104);
    assert.match(damaged.stderr, /cut off or damaged/);
  });

  it('a scenario is explored with its first guest, and its failure replays', () => {
    const args = ['--strategy', 'pct', '--max-steps', '1000', '--max-schedules', '100', '--variant', 'D'];
    const found = pinstorm('explore', 'scenarios/accounting-stress.yaml', ...args);
    assert.match(found.stdout, /verdict: /);
    const word = /pinstorm replay (\S+)/.exec(found.stdout + found.stderr)?.[1];
    assert.ok(word !== undefined, found.stdout);
    assert.equal(pinstorm('replay', word).status, 112);
  });
});
