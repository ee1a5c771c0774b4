/**
 * Deferred updates per second from the hand-over ring through BullMQ to the arena, beside bare BullMQ with the same
 * payload, batch size and concurrency, in the same process and the same run.
 *
 *   node dist/bench/deferred.bench.js [updates per round] [rounds]
 *
 * The ring is a stand-in that is always full, and an apply adds to a typed array: what is measured is the pipeline.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { Queue, Worker } from 'bullmq';
import { startPrivateRedis } from '../src/coordinator/private-redis.ts';
import type { DeferredPort } from '../src/emulator/emulator.ts';
import type { DeferredUpdate } from '../src/engine/wall/wall-control.ts';
import { IdSet } from '../src/emulator/id-set.ts';
import { openRedis, type RedisTarget } from '../src/wire/redis.ts';
import { encodeJob } from '../src/wire/deferred-job.ts';
import { DeferredPipeline } from '../src/worker/deferred.ts';

const BATCH = 100;
const JOBS_IN_FLIGHT = 64;
const CONCURRENCY = 16;
const total = Number(process.argv[2] ?? 300_000);
const rounds = Number(process.argv[3] ?? 5);

const update = (opId: number): DeferredUpdate => ({
  opId,
  mm: 1024 + (opId % 50) * 64,
  guest: opId % 50,
  incarnation: 1,
  npage: opId % 3 === 0 ? -512 : 512,
  queuedAtNs: Number(process.hrtime.bigint()),
});

/** A ring that is full until `total` updates have been taken. */
function endlessRing(): DeferredPort & { applied(): number } {
  let next = 1;
  const pages = new Float64Array(64);
  const ids = new IdSet(1);
  return {
    drainDeferred(max, out) {
      let n = 0;
      for (; n < max && next <= total; n++) out.push(update(next++));
      return n;
    },
    onDeferred() {},
    applyDeferred(u) {
      if (!ids.add(u.opId)) return false;
      pages[u.guest] = (pages[u.guest] ?? 0) + u.npage;
      return true;
    },
    applied: () => ids.size,
    discardDeferred() {},
  };
}

async function pipeline(target: RedisTarget, round: number): Promise<number> {
  const ring = endlessRing();
  const start = performance.now();
  const pipe = new DeferredPipeline(target, { prefix: `{bench:p${round}}`, name: 'deferred' }, ring, {
    batch: BATCH,
    flushMs: 1,
    jobsMax: JOBS_IN_FLIGHT,
    concurrency: CONCURRENCY,
  });
  const report = await pipe.drain(60_000);
  const seconds = (performance.now() - start) / 1000;
  await pipe.close();
  if (report.applied !== total || report.missingCount !== 0 || ring.applied() !== total) {
    throw new Error(`not exact: ${JSON.stringify(report)}`);
  }
  return total / seconds;
}

/** BullMQ alone: the same jobs, a handler that does nothing. */
async function bare(target: RedisTarget, round: number): Promise<number> {
  const prefix = `{bench:b${round}}`;
  const connection = openRedis(target, 'finite');
  const workerConnection = openRedis(target, 'endless');
  const start = performance.now();
  const queue = new Queue('deferred', {
    connection,
    prefix,
    streams: { events: { maxLen: 100 } },
    defaultJobOptions: { removeOnComplete: true },
  });
  const jobs = Math.ceil(total / BATCH);
  let sent = 0;
  let done = 0;
  await new Promise<void>((resolve, reject) => {
    const send = (): void => {
      if (sent === jobs) return;
      const first = sent++ * BATCH + 1;
      const data = encodeJob(Array.from({ length: BATCH }, (_, i) => update(first + i)));
      queue.add('deferred', data, { jobId: `d-${sent}` }).catch(reject);
    };
    const worker = new Worker(
      'deferred',
      () => {
        if (++done === jobs) resolve();
        send();
        return Promise.resolve();
      },
      { connection: workerConnection, prefix, concurrency: CONCURRENCY, removeOnComplete: { count: 0 } },
    );
    worker.on('error', reject);
    for (let i = 0; i < JOBS_IN_FLIGHT; i++) send();
  });
  const seconds = (performance.now() - start) / 1000;
  connection.disconnect();
  workerConnection.disconnect();
  return total / seconds;
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

const redis = await startPrivateRedis();
try {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    theirs.push(Math.round(await bare(redis.target, round)));
    ours.push(Math.round(await pipeline(redis.target, round)));
  }
  const result = {
    benchmark: 'deferred',
    node: process.version,
    cpu: cpus()[0]?.model,
    cpus: cpus().length,
    updatesPerRound: total,
    batch: BATCH,
    bareUpdatesPerSecond: { all: [...theirs], median: median(theirs) },
    pinstormUpdatesPerSecond: { all: [...ours], median: median(ours) },
    ratio: Math.round((median(ours) / median(theirs)) * 1000) / 1000,
  };
  mkdirSync('bench/results', { recursive: true });
  writeFileSync('bench/results/deferred.json', `${JSON.stringify(result, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
} finally {
  await redis.close();
}
process.exit(0);
