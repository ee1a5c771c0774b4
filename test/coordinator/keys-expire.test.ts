// needs: redis-server
/** What a Redis brings back of a run that has ended goes away by itself. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { VERSION } from '../../src/base/version.ts';
import { Lead } from '../../src/coordinator/lead.ts';
import type { RunPlan } from '../../src/engine/plan.ts';
import { claimSlice, takeName } from '../../src/wire/claims.ts';
import { runKeys, runsKey } from '../../src/wire/keys.ts';
import { guestQueue, KEYS_LIVE_MS, openProducer, runTag } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { publishRun, removeRun } from '../../src/wire/runs.ts';
import { Server } from '../chaos/server.ts';

it('keys of a run that come back with an older snapshot expire, and the next run removes the rest', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pin-test-'));
  const server = await new Server(directory).start();
  const { admin, target } = server;
  const redis = openRedis(target, 'finite');
  const guests = openProducer(target, guestQueue('p', 'old'));
  const list = runsKey('p');
  try {
    const record = { version: VERSION, planHash: 'a'.repeat(64), leaseMs: 1000 };
    const keys = runKeys('p', 'old');
    await publishRun(redis, 'p', 'old', record, {} as RunPlan);
    await guests.addAll([{ id: 'slice-0-1', data: { v: 1, slice: 0, incarnation: 1 } }]);
    await claimSlice(redis, keys, { v: 1, slice: 0, incarnation: 1 }, await takeName(redis, keys, 'w1'));
    const lead = new Lead(redis, keys, { target, runId: 'old', leaseMs: 1000 });
    await lead.hold();
    await lead.note({ after: '0', decision: { d: 'finish' } });
    await Promise.all([lead.hold(), guests.renew()]);
    // A list that BullMQ makes and removes all the time: it may lie there without an end.
    await redis.lpush('{p:old:w1}:deferred-w1:wait', 'd-1');
    const restore = server.remember();
    await removeRun(redis, 'p', 'old');
    assert.deepEqual(await admin.keys('*'), []);
    await server.kill();
    restore();
    await server.start();
    const back = (await admin.keys(`${runTag('p', 'old')}*`)).toSorted();
    for (const kind of [
      'plan',
      'events',
      'intervals',
      'journal',
      'claims',
      'workers',
      'guests:meta',
      'guests:slice-0-1',
    ])
      assert.ok(back.includes(`${runTag('p', 'old')}:${kind}`), `${kind}: ${back.join(' ')}`);
    for (const key of back) {
      const ms = await admin.pttl(key);
      assert.ok(ms > 0 && ms <= KEYS_LIVE_MS, `${key} expires in ${ms} ms`);
    }
    // A day later.
    await admin.unlink(...back);
    assert.equal((await admin.keys('*')).length, 2, 'the list of runs, and the queue that does not expire');
    await publishRun(redis, 'p', 'new', record, {} as RunPlan);
    assert.deepEqual(Object.keys(await admin.hgetall(list)), ['new']);
    assert.deepEqual(await admin.keys('*old*'), []);
  } finally {
    await guests.close();
    redis.disconnect();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
