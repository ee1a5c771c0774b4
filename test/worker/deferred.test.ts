// needs: redis-server
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { IdSet } from '../../src/emulator/id-set.ts';
import { openProducer, type QueueName } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { decodeJob, encodeJob } from '../../src/wire/deferred-job.ts';
import { type DeferredOptions, DeferredPipeline } from '../../src/worker/deferred.ts';
import { until } from '../coordinator/until.ts';
import { FakeRing } from './fake-ring.ts';

let redis: PrivateRedis;
let admin: Redis;
before(async () => {
  redis = await startPrivateRedis();
  admin = openRedis(redis.target, 'finite');
});
after(async () => {
  admin.disconnect();
  await redis.close();
});

let serial = 0;
async function withPipeline(
  options: Partial<DeferredOptions>,
  body: (emulator: FakeRing, pipeline: DeferredPipeline, queue: QueueName) => Promise<void>,
): Promise<void> {
  const queue = { prefix: `{test:${++serial}}`, name: 'deferred-w1' };
  const emulator = new FakeRing();
  const pipeline = new DeferredPipeline(redis.target, queue, emulator, { batch: 100, flushMs: 1, ...options });
  try {
    await body(emulator, pipeline, queue);
  } finally {
    await pipeline.close();
  }
}

describe('deferred pipeline', () => {
  it('applies everything queued exactly once, in full and in partly filled jobs', async () => {
    await withPipeline({}, async (emulator, pipeline) => {
      for (let i = 0; i < 2550; i++) emulator.push(i % 7, i % 2 === 0 ? 3 : -1);
      const report = await pipeline.drain(20_000);
      assert.deepEqual(
        { queued: report.queued, applied: report.applied, jobs: report.jobs, missing: report.missing },
        { queued: 2550, applied: 2550, jobs: 26, missing: [] },
      );
      assert.deepEqual(emulator.pages, emulator.intended);
    });
  });

  it('flushes a single update without waiting for a full job', async () => {
    await withPipeline({ batch: 1000 }, async (emulator, pipeline) => {
      emulator.push(1, 5);
      await until('the update is applied', () => pipeline.counts().applied === 1);
    });
  });

  it('applies an update once though its job is delivered again while the first delivery still waits', async () => {
    const timing = { lockDurationMs: 100, stalledIntervalMs: 50 };
    await withPipeline({ timing }, async (emulator, pipeline) => {
      let release: () => void = () => {};
      emulator.hold = new Promise((resolve) => (release = resolve));
      for (let i = 0; i < 10; i++) emulator.push(1, 1);
      // A process that is stopped renews no lock; blocking the event loop past the lock's life is the same.
      await until('the job is being applied', () => pipeline.counts().queued === 10);
      await until('a second delivery', () => {
        const end = performance.now() + 150;
        while (performance.now() < end);
        return pipeline.counts().duplicates >= 10;
      });
      assert.equal(emulator.applied, 0);
      release();
      const report = await pipeline.drain(10_000);
      assert.equal(report.applied, 10);
      assert.equal(emulator.pages.get(1), 10);
    });
  });

  it('leaves updates in the ring while Redis is slow, and loses none', async () => {
    await withPipeline({ batch: 10, jobsMax: 3 }, async (emulator, pipeline) => {
      // The server stands still for all clients; then it goes on.
      await admin.client('PAUSE', 300, 'ALL');
      for (let i = 0; i < 500; i++) emulator.push(2, 1);
      await until('the books are full', () => pipeline.counts().queued === 30);
      assert.equal(emulator.ring.length, 470);
      const report = await pipeline.drain(20_000);
      assert.equal(report.applied, 500);
      assert.equal(emulator.pages.get(2), 500);
    });
  });

  it('sends jobs again that Redis lost with its data', async () => {
    await withPipeline({ resendMs: 100, concurrency: 1 }, async (emulator, pipeline, queue) => {
      let release: () => void = () => {};
      emulator.hold = new Promise((resolve) => (release = resolve));
      for (let i = 0; i < 1000; i++) emulator.push(3, 2);
      const key = `${queue.prefix}:${queue.name}`;
      await until('nine jobs wait, one is held', async () => (await admin.llen(`${key}:wait`)) === 9);
      await admin.flushall();
      release();
      const report = await pipeline.drain(20_000);
      assert.equal(report.applied, 1000);
      assert.ok(report.resent > 0);
      assert.equal(emulator.pages.get(3), 2000);
    });
  });

  it("fails with the reason when Redis refuses the queue's jobs: one of its keys is of a wrong type", async () => {
    const broken = (name: string) =>
      withPipeline({ resendMs: 500 }, async (emulator, pipeline, queue) => {
        emulator.push(1, 1);
        await until('the queue works', () => pipeline.counts().applied === 1);
        const key = `${queue.prefix}:${queue.name}:${name}`;
        await admin.multi().del(key).set(key, 'x').exec();
        for (let i = 0; i < 10; i++) emulator.push(1, 1);
        await until(`the pipeline without ${name} has failed`, () => pipeline.failure !== undefined);
        assert.match(String(pipeline.failure), /WRONGTYPE/, name);
      });
    // Side by side: BullMQ looks again after waiting up to ten seconds for a job.
    await Promise.all(['wait', 'active', 'marker', 'meta'].map(broken));
  });

  it('fails when Redis takes the jobs and hands out none', async () => {
    const timing = { lockDurationMs: 100, stalledIntervalMs: 50 };
    await withPipeline({ resendMs: 20, unheardMs: 200, timing }, async (emulator, pipeline, queue) => {
      emulator.push(1, 1);
      await until('the queue works', () => pipeline.counts().applied === 1);
      // A held apply is no such silence, however long it lasts.
      let release: () => void = () => {};
      emulator.hold = new Promise((resolve) => (release = resolve));
      emulator.push(1, 1);
      await until('the job was sent again many times', () => pipeline.counts().resent > 50);
      assert.equal(pipeline.failure, undefined);
      release();
      await until('it is applied', () => pipeline.counts().applied === 2);
      await admin.hset(`${queue.prefix}:${queue.name}:meta`, 'paused', '1');
      emulator.push(1, 1);
      await until('the pipeline has failed', () => pipeline.failure !== undefined);
      assert.match(String(pipeline.failure), /takes the deferred updates and has handed out none for/);
    });
  });

  it('says exactly what is missing when an apply never ends', async () => {
    await withPipeline({ batch: 5 }, async (emulator, pipeline) => {
      emulator.hold = new Promise(() => {});
      for (let i = 0; i < 12; i++) emulator.push(4, 1);
      const report = await pipeline.drain(200);
      assert.equal(report.missingCount, 12);
      assert.deepEqual(report.missing, [[1, 12]]);
    });
  });

  it('discards and counts the updates of a dead incarnation', async () => {
    await withPipeline({ isLive: (update) => update.incarnation === 2 }, async (emulator, pipeline) => {
      emulator.push(5, 1, 0, 1);
      emulator.push(5, 1, 0, 2);
      const report = await pipeline.drain(10_000);
      assert.equal(report.applied, 1);
      assert.equal(report.discarded, 1);
      assert.equal(report.missingCount, 0);
    });
  });

  it('refuses and counts malformed and foreign jobs, and goes on', async () => {
    await withPipeline({}, async (emulator, pipeline, queue) => {
      const producer = openProducer(redis.target, queue);
      const forged = encodeJob([{ opId: 1, mm: 6, guest: 0, incarnation: 1, npage: 1e6, queuedAtNs: 0 }]);
      const hostile = [
        null,
        7,
        'x',
        [],
        {},
        { ...forged, u: [1] },
        JSON.parse('{"__proto__":{"polluted":1},"v":1}') as unknown,
      ];
      await producer.addAll([...hostile, forged].map((data, i) => ({ id: `evil-${i}`, data })));
      // Not even JSON: written behind BullMQ's back.
      await admin.hset(`${queue.prefix}:${queue.name}:evil-raw`, { name: 'x', data: '{', opts: '{}', timestamp: '0' });
      await admin.lpush(`${queue.prefix}:${queue.name}:wait`, 'evil-raw');
      await producer.add('wake-up', {});
      await until('all are refused', () => pipeline.counts().refused === hostile.length + 3);
      emulator.push(6, 1);
      const report = await pipeline.drain(10_000);
      assert.equal(report.applied, 1);
      assert.equal(emulator.pages.get(6), 1);
      assert.equal(({} as { polluted?: number }).polluted, undefined);
      await producer.close();
    });
  });

  it('a planted bug, no operation-id check and every job delivered twice, is found by the oracle', async () => {
    await withPipeline({}, async (emulator, pipeline) => {
      emulator.checkIds = false;
      const apply = emulator.applyDeferred.bind(emulator);
      emulator.applyDeferred = (update) => {
        void apply(update);
        return apply(update);
      };
      for (let i = 0; i < 50; i++) emulator.push(8, 1);
      await pipeline.drain(10_000);
      assert.deepEqual(emulator.violations(), [8]);
    });
  });
});

describe('job encoding', () => {
  const int = fc.integer({ min: 0, max: 2 ** 31 - 1 });
  const update = fc.record(
    {
      opId: fc.integer({ min: 1, max: 2 ** 40 }),
      mm: int,
      guest: int,
      incarnation: int,
      npage: fc.maxSafeInteger(),
      queuedAtNs: fc.integer({ min: 0, max: 2 ** 52 }),
    },
    { noNullPrototype: true },
  );

  it('survives the way through JSON', () => {
    fc.assert(
      fc.property(fc.array(update, { minLength: 1, maxLength: 100 }), (updates) => {
        assert.deepEqual(decodeJob(JSON.parse(JSON.stringify(encodeJob(updates)))), updates);
      }),
      { seed: 20170322 },
    );
  });

  it('never throws and never yields anything but whole numbers', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.jsonValue(), fc.record({ v: fc.constant(1), id: int, ns: int, u: fc.jsonValue() })),
        (data) => {
          for (const x of decodeJob(data) ?? []) assert.ok(Object.values(x).every(Number.isSafeInteger));
        },
      ),
      { seed: 20170322, numRuns: 2000 },
    );
  });
});

describe('id set', () => {
  it('agrees with a plain Set for any order, and names what is missing', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 80 }), (ids) => {
        const plain = new Set<number>();
        const set = new IdSet(1);
        for (const id of ids) {
          assert.equal(set.add(id), !plain.has(id));
          plain.add(id);
        }
        assert.equal(set.size, plain.size);
        const missing = set.missing(40, 100).flatMap(([a, b]) => Array.from({ length: b - a + 1 }, (_, i) => a + i));
        assert.deepEqual(
          missing,
          Array.from({ length: 40 }, (_, i) => i + 1).filter((id) => !plain.has(id)),
        );
      }),
      { seed: 20170322 },
    );
  });
});
