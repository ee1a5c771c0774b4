// slow: starts processes
/** Ctrl-C while simulating: real processes, real signals. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { StopSignal } from '../../src/base/stop-signal.ts';
import { loadRun } from '../../src/report/load.ts';
import { progressText } from '../../src/run/simulation-progress.ts';
import { runCells } from '../../src/study/experiment.ts';
import { parsedFile } from '../scenario/read.ts';
import { endlessScenario, SIMULATING, start } from './endless.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-interrupts-'));
after(() => rmSync(dir, { recursive: true }));

const ENDLESS = endlessScenario(dir);

describe('interrupts', { concurrency: 1 }, () => {
  it('simulate ends gracefully on the first, with a full report of what is complete', async () => {
    const { child, ended, shows } = start('simulate', ENDLESS, '--out', join(dir, 'once'));
    await shows(SIMULATING);
    child.kill('SIGINT');
    const { code, out, err } = await ended;
    assert.equal(code, 105, err);
    assert.match(out, /VERDICT\n.*exit status 105\n.*stopped by the user/);
    assert.match(err, /stopping; once more to stop at once/);
    const results = loadRun(join(dir, 'once', 'latest'));
    assert.deepEqual([results.stoppedByUser, results.accounting.balance], [true, 'exact']);
    assert.ok(results.durationNs > 0 && results.latency.length > 0);
    assert.match(readFileSync(join(dir, 'once', 'latest', 'events.jsonl'), 'utf8'), /"kind":"stop","by":"user"/);
  });

  it('without a terminal any more it ends as gracefully', async () => {
    const { child, ended, shows } = start('simulate', ENDLESS, '--out', join(dir, 'hung-up'));
    await shows(SIMULATING);
    child.kill('SIGHUP');
    const { code, out, err } = await ended;
    assert.equal(code, 105, err);
    assert.match(out, /VERDICT\n.*exit status 105/);
  });

  it('ends a command whose output nobody takes', async () => {
    const args = ['plan', 'scenarios/boot-storm.yaml', '--set', 'guests.small.count=20000', '--json'];
    const child = spawn(process.execPath, ['dist/src/cli/main.js', ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    // The pipe is full, and nothing of it is read from here on.
    await once(child.stdout, 'readable');
    child.kill('SIGINT');
    assert.deepEqual(await once(child, 'exit'), [105, null]);
    child.stdout.destroy();
  });

  it('an experiment gives the repetitions that every cell has completed', async () => {
    const stop = new StopSignal();
    const set = (path: string, value: string) => ({ path, value, origin: { kind: 'flag' as const, text: 'test' } });
    const cells = ['A', 'B', 'E'].map((value) => ({ labels: { variant: value }, overrides: [set('variant', value)] }));
    // Four hosts are the first repetition of the three cells and one of the next repetition.
    const progress = () => ({ update: ({ done }: { done: number }) => done >= 4 && stop.set(), end: () => {} });
    const options = { repeat: 30, threads: 1, stop, progress };
    const results = await runCells(parsedFile('scenarios/huge-guest.yaml'), [], cells, options);
    const [a, b, e] = results.map(({ seeds }) => [...seeds]);
    assert.deepEqual([b, e], [a, a]);
    assert.ok(a !== undefined && a.length >= 1 && a.length < 30, `${a?.length} repetitions`);
    assert.ok(results.every(({ figures }) => figures.length === a.length));
  });

  it('sweep says so when nothing is complete', async () => {
    const { child, ended, shows } = start('sweep', ENDLESS, '--set', 'variant=E', '--repeat', '1');
    await shows(SIMULATING);
    child.kill('SIGTERM');
    const { code, out, err } = await ended;
    assert.deepEqual([code, out], [105, '']);
    assert.match(err, /stopped by the user before a repetition was complete/);
  });

  it('the second ends at once', async () => {
    const { child, ended, shows } = start('simulate', ENDLESS, '--out', join(dir, 'twice'));
    await shows(SIMULATING);
    child.kill('SIGINT');
    child.kill('SIGTERM');
    const { code, err } = await ended;
    assert.equal(code, 105);
    assert.match(err, /stopped at once by the user|stopping; once more/);
  });
});

describe('the progress of simulations', () => {
  const of = (plannedNs: readonly (number | null)[], simulatedNs: number[], done: number, elapsedMs = 1000): string =>
    progressText({ done, simulatedNs: Float64Array.from(simulatedNs) }, plannedNs, elapsedMs);

  it('goes by simulated time and by hosts that are done', () => {
    assert.equal(of([10e9], [2.5e9], 0), '[======                  ] 25%, 3s left');
    assert.equal(of([10e9, 10e9], [10e9, 5e9], 1), '[==================      ] 75%, 1 of 2 hosts done, 333ms left');
    assert.equal(of([null, null], [1e9, 0], 1), '[============            ] 50%, 1 of 2 hosts done, 1s left');
    assert.equal(of([null], [1.5e9], 0), '1.5s simulated in 1s');
    assert.equal(of([10e9], [0], 0), '[                        ] 0%');
  });

  it('fits into 80 columns', () => {
    const planned = Array.from({ length: 300_000 }, () => 1e12);
    const line = of(planned, [1], 123_456, 123_456_789_000);
    assert.ok(line.length < 80, line);
  });
});
