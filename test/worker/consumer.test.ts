// needs: redis-server
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { openConsumer, openProducer } from '../../src/wire/queue.ts';
import { parseRedisUrl } from '../../src/wire/redis.ts';
import { Proxy } from '../chaos/proxy.ts';
import { until } from '../coordinator/until.ts';

const QUEUE = { prefix: '{test}', name: 'jobs' };

it('a consumer whose connections die without a word connects again, and is handed what lies in Redis', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pin-test-'));
  const redis = await startPrivateRedis();
  const proxy = await Proxy.open(directory, redis.target.label);
  const producer = openProducer(redis.target, QUEUE);
  const handled: string[] = [];
  const consumer = openConsumer(
    parseRedisUrl(proxy.url),
    QUEUE,
    {
      concurrency: 4,
      timing: { lockDurationMs: 400, stalledIntervalMs: 100 },
      onRefused: (error) => assert.fail(error),
    },
    async (id) => void handled.push(id),
  );
  try {
    await producer.add('before', 1);
    await until('the first job is handled', () => handled.includes('before'));
    proxy.mute();
    await producer.add('after', 2);
    await until('the second job is handled', () => handled.includes('after'));
    assert.ok(consumer.reopened > 0);
  } finally {
    await consumer.close(true);
    await producer.close();
    proxy.close();
    await redis.close();
    rmSync(directory, { recursive: true });
  }
});
