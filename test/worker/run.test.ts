// needs: promtool redis-server sh
/** Whole runs: real processes, a real Redis, real signals. After each test nothing of the run may be left. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import type { RunResults } from '../../src/report/results.ts';
import { runKeys, runsKey } from '../../src/wire/keys.ts';
import { guestQueue, openProducer } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun, resultsOf } from './live-run.ts';

const RUN = ['run', 'scenario.yaml', '--threads', '2'];

/** Tests that are about deferred updates wait for `loaded()` first: then there were some. */
function assertExact({ accounting, coverage }: RunResults, stopped = false): void {
  assert.equal(accounting.balance, 'exact');
  assert.equal(accounting.deferred.applied, accounting.deferred.queued);
  const { guestsPlanned, guestsFinished, guestsStopped = 0 } = coverage;
  assert.equal(guestsFinished + guestsStopped, guestsPlanned);
  assert.equal(guestsStopped > 0, stopped);
}

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

describe('metrics', () => {
  it('are served by the coordinator and by a worker of its own, while guests run, and promtool has nothing to say', async () => {
    const redis = await startPrivateRedis();
    const env = { PINSTORM_REDIS: redis.target.url };
    try {
      await inDirectory(CONTENTION(10), async (directory) => {
        const ports = [await freePort(), await freePort()].map(String) as [string, string];
        const run = new LiveRun(directory, ['coordinator', 'scenario.yaml', '--metrics-port', ports[0]], env);
        const worker = new LiveRun(
          directory,
          ['worker', '--capacity', '6', '--threads', '2', '--metrics-port', ports[1]],
          env,
        );
        await run.loaded();
        for (const port of ports) {
          const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
          assert.match(text, /^pinstorm_trylock_failures_total [1-9]/m);
          assert.match(text, /^pinstorm_guests{state="running"} [1-9]/m);
          assert.match(text, /^pinstorm_thread_idle_seconds_total /m);
          assert.match(text, /^pinstorm_deferred_jobs_total{state="applied"} [1-9]/m);
          const lint = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
          // Where Prometheus is not installed there is no promtool to ask.
          if (lint.error === undefined) assert.equal(lint.stdout + lint.stderr, '');
        }
        await run.ended;
        assert.equal((await worker.ended).code, 0);
      });
    } finally {
      await redis.close();
    }
  });
});

describe('hostile input', () => {
  it('in the guest queue and in the streams is refused and counted, and harms nothing', async () => {
    const redis = await startPrivateRedis();
    const admin = openRedis(redis.target, 'finite');
    try {
      await inDirectory(CONTENTION(10), async (directory) => {
        const run = new LiveRun(directory, [...RUN, '--redis', redis.target.url]);
        await run.loaded();
        const [runId] = await admin.hkeys(runsKey('pinstorm'));
        assert.ok(runId !== undefined);
        const guests = openProducer(redis.target, guestQueue('pinstorm', runId));
        const slice = { v: 1, slice: 0, incarnation: 1 };
        const jobs = [
          null,
          [],
          { ...slice, to: 1e9 },
          { ...slice, from: -1 },
          { ...slice, extra: 1 },
          { ...slice, v: 2 },
        ];
        await guests.addAll(jobs.map((data, i) => ({ id: `evil-${i}`, data })));
        // Well-formed, but that slice was claimed before: guests must not run twice.
        await guests.add('again-0', slice);
        const keys = runKeys('pinstorm', runId);
        const outcome = { guest: 0, incarnation: 9, state: 'completed', operations: 1, failedOperations: 0 };
        for (const text of [
          '{',
          '{"t":"final","worker":"w1"}',
          '{"__proto__":{"polluted":1},"t":"trouble","worker":"w1","error":""}',
          JSON.stringify({ t: 'outcomes', worker: 'w1', outcomes: [{ ...outcome, lockedVmAfterPages: '../x' }] }),
          JSON.stringify({ t: 'outcomes', worker: 'nobody', outcomes: [{ ...outcome, lockedVmAfterPages: '0' }] }),
        ]) {
          await admin.xadd(keys.events, '*', 'm', text);
          await admin.xadd(keys.control, '*', 'm', text);
        }
        await run.ended;
        const results = resultsOf(directory);
        assertExact(results);
        const notes = results.accounting.notes.join('\n');
        assert.match(notes, /^6 guest jobs refused$/m);
        assert.match(notes, /^1 guest jobs delivered again$/m);
        assert.match(notes, /^5 messages refused$/m);
        await guests.close();
      });
    } finally {
      admin.disconnect();
      await redis.close();
    }
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

describe('coordinator and worker', () => {
  it('meet in a given Redis, whichever comes first, and leave no key', async () => {
    const redis = await startPrivateRedis();
    const admin = openRedis(redis.target, 'finite');
    try {
      await inDirectory(CONTENTION(1), async (directory) => {
        const env = { PINSTORM_REDIS: redis.target.url };
        const early = new LiveRun(directory, ['worker', '--capacity', '6', '--threads', '2', '--name', 'early'], env);
        const run = new LiveRun(directory, ['coordinator', 'scenario.yaml', '--min-workers', '2', '--json'], env);
        const late = new LiveRun(directory, ['worker', '--capacity', '6', '--threads', '2', '--name', 'late'], env);
        const { stdout, stderr } = await run.ended;
        assert.notEqual(stdout, '', stderr);
        assertExact(JSON.parse(stdout) as RunResults);
        for (const worker of [early, late]) assert.equal((await worker.ended).code, 0);
      });
      await until('no key is left but the farewell', async () => {
        const keys = await admin.keys('*');
        for (const key of keys) assert.match(key, /:control$/, `left behind: ${key}`);
        return keys.length <= 1;
      });
    } finally {
      admin.disconnect();
      await redis.close();
    }
  });

  it('both end inconclusive when their Redis goes away for good', async () => {
    const redis = await startPrivateRedis();
    await inDirectory(CONTENTION(60), async (directory) => {
      const env = { PINSTORM_REDIS: redis.target.url };
      const run = new LiveRun(directory, ['coordinator', 'scenario.yaml'], env);
      const worker = new LiveRun(directory, ['worker', '--capacity', '6', '--threads', '2'], env);
      await run.loaded();
      await redis.close();
      for (const { code, stderr } of await Promise.all([run.ended, worker.ended])) {
        assert.equal(code, 113, stderr);
        assert.match(stderr, /Redis at .*redis\.sock was lost/);
      }
    });
  });
});
