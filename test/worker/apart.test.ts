// needs: promtool redis-server
/** Coordinator and workers that meet in a given Redis: what they serve, and what others write there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import type { RunResults } from '../../src/report/results.ts';
import { runKeys, runsKey } from '../../src/wire/keys.ts';
import { guestQueue, openProducer } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';
import { assertExact, CONTENTION, inDirectory, LiveRun, resultsOf } from './live-run.ts';

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
        const run = new LiveRun(directory, ['run', 'scenario.yaml', '--threads', '2', '--redis', redis.target.url]);
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
