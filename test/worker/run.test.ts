// needs: redis-server sh
/** Whole runs: real processes, a real Redis, real signals. After each test nothing of the run may be left. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { RunResults } from '../../src/report/results.ts';
import { until } from '../coordinator/until.ts';
import { assertExact, CONTENTION, inDirectory, LiveRun, resultsOf } from './live-run.ts';

const RUN = ['run', 'scenario.yaml', '--threads', '2'];

describe('pinstorm run', { concurrency: 1 }, () => {
  it('runs guests on two workers and prints exactly one JSON document', async () => {
    await inDirectory(CONTENTION(1), async (directory) => {
      const { code, stdout, stderr } = await new LiveRun(directory, [...RUN, '--workers', '2', '--json']).ended;
      const results = JSON.parse(stdout) as RunResults;
      assertExact(results);
      assert.deepEqual(results, resultsOf(directory));
      assert.equal(code, results.verdict.exitCode, stderr);
      assert.equal(results.health.workers, 2);
      assert.doesNotMatch(stderr, /internal error|\n {4}at /);
    });
  });

  it('stays exact when a worker is stopped for three seconds', async () => {
    await inDirectory(CONTENTION(12), async (directory) => {
      const run = new LiveRun(directory, [...RUN, '--workers', '2']);
      await run.loaded();
      const [worker] = run.pids('--supervised');
      assert.ok(worker !== undefined);
      process.kill(worker, 'SIGSTOP');
      const resumeAt = performance.now() + 3000;
      await until('three seconds have passed', () => performance.now() >= resumeAt);
      process.kill(worker, 'SIGCONT');
      await run.ended;
      assertExact(resultsOf(directory));
    });
  });

  it('is inconclusive, and says what is missing, when a worker is killed', async () => {
    await inDirectory(CONTENTION(60), async (directory) => {
      const run = new LiveRun(directory, [...RUN, '--workers', '2', '--on-worker-loss', 'partial']);
      await run.loaded();
      const [worker] = run.pids('--supervised');
      process.kill(worker as number, 'SIGKILL');
      const { code, stderr } = await run.ended;
      assert.equal(code, 113, stderr);
      const { coverage, accounting, verdict } = resultsOf(directory);
      assert.equal(verdict.verdict, 'inconclusive');
      assert.equal(coverage.workersLost, 1);
      assert.ok(coverage.guestsLost > 0);
      const { guestsPlanned, guestsFinished, guestsStopped = 0, guestsFailed, guestsLost } = coverage;
      assert.equal(guestsFinished + guestsStopped + guestsFailed + guestsLost, guestsPlanned);
      assert.equal(accounting.deferred.applied + accounting.deferred.discarded, accounting.deferred.queued);
      assert.match(
        accounting.notes.join('\n'),
        /worker w\d was lost before its final account: its process ended, ended by SIGKILL/,
      );
    });
  });

  it('stops when a threshold with abortOnFail is crossed', async () => {
    const thresholds =
      "thresholds: { 'ops{op:map}': { threshold: 'count < 100 during late', abortOnFail: true, delayAbortEval: 1s } }\n" +
      'stages: [{ name: early, duration: 1s }, { name: late }]\n';
    await inDirectory(CONTENTION(60) + thresholds, async (directory) => {
      const { code, stdout, stderr } = await new LiveRun(directory, RUN).ended;
      const results = resultsOf(directory);
      assertExact(results, true);
      assert.equal(code, 99, stdout);
      assert.match(results.verdict.reasons.join('\n'), /threshold crossed: .*, which stopped the run at/);
      assert.equal(results.stoppedByUser, false);
      const { ok, observed, stoppedAtSeconds = 0 } = results.thresholds[0] ?? {};
      assert.ok(ok === false && (observed ?? 0) >= 100 && stoppedAtSeconds > 1, JSON.stringify(results.thresholds));
      assert.ok(results.durationNs < 50e9);
      assert.match(stderr, /stopping, a threshold is crossed: ops\{op:map\} count < 100 during late/);
      const events = readFileSync(join(directory, 'runs', 'latest', 'events.jsonl'), 'utf8');
      assert.match(events, /"kind":"stage","stage":"late".*"kind":"threshold".*"kind":"stop","by":"threshold"/s);
    });
  });

  it('ends gracefully with a full report on the first SIGINT', async () => {
    await inDirectory(CONTENTION(60), async (directory) => {
      const run = new LiveRun(directory, RUN);
      await run.loaded();
      run.process.kill('SIGINT');
      const { stdout } = await run.ended;
      const results = resultsOf(directory);
      assertExact(results, true);
      assert.equal(results.stoppedByUser, true);
      assert.match(results.verdict.reasons.join('\n'), /^stopped by the user before its end(, and saturated)?$/m);
      assert.match(stdout, /VERDICT/);
      assert.match(stdout, /guests \.+ 0 of 6 finished, 6 stopped\n/);
    });
  });

  it('ends at once on the second SIGINT, even if a worker hangs', async () => {
    await inDirectory(CONTENTION(60), async (directory) => {
      const run = new LiveRun(directory, RUN);
      await run.loaded();
      process.kill(run.pids('--supervised')[0] as number, 'SIGSTOP');
      run.process.kill('SIGINT');
      run.process.kill('SIGTERM');
      const started = performance.now();
      const { code, stderr } = await run.ended;
      assert.equal(code, 105, stderr);
      assert.ok(performance.now() - started < 5000);
    });
  });

  it('leaves no process and no file behind when it is killed itself', async () => {
    await inDirectory(CONTENTION(60), async (directory) => {
      const run = new LiveRun(directory, [...RUN, '--workers', '2']);
      await run.loaded();
      assert.equal(run.pids('--supervised').length, 2);
      run.process.kill('SIGKILL');
      await run.ended;
    });
  });

  for (const [what, part] of [
    ['its Redis dies', 'redis-server unixsocket:'],
    ['the guard of its Redis dies', '/bin/sh'],
  ] as const) {
    it(`is inconclusive when ${what}`, async () => {
      await inDirectory(CONTENTION(60), async (directory) => {
        const run = new LiveRun(directory, RUN);
        await run.loaded();
        const pids = run.pids(part);
        assert.ok(pids.length > 0);
        for (const pid of pids) process.kill(pid, 'SIGKILL');
        const { code, stderr } = await run.ended;
        assert.equal(code, 113, stderr);
        assert.match(stderr, /the private redis-server ended/);
      });
    });
  }

  it('refuses what cannot work with one message, status 104, and nothing left', async () => {
    await inDirectory(CONTENTION(1), async (directory) => {
      const taken = createServer().listen(0, '127.0.0.1');
      await once(taken, 'listening');
      const { port } = taken.address() as { port: number };
      for (const [args, message] of [
        [[...RUN, '--metrics-port', `${port}`], /port \d+ on 127.0.0.1 is in use/],
        [
          [...RUN, '--redis', '/nonexistent/redis.sock'],
          /cannot reach Redis at \/nonexistent\/redis.sock: no such socket/,
        ],
        [[...RUN, '--redis', 'localhost'], /invalid Redis address/],
        [['coordinator', 'scenario.yaml'], /--redis is missing/],
        [['run', 'nowhere.yaml'], /nowhere.yaml: no such file/],
      ] as const) {
        const { code, stdout, stderr } = await new LiveRun(directory, args).ended;
        assert.equal(code, 104, stderr);
        assert.match(stderr, message);
        assert.doesNotMatch(stderr, /\n\s+at /);
        assert.equal(stdout, '');
      }
      taken.close();
    });
  });
});
