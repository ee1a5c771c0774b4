// needs: redis-server
/** What Redis acknowledged and has lost is noticed, also when it has taken more since. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { Receipts } from '../../src/wire/receipts.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { Server } from '../chaos/server.ts';

it('a Redis that comes back without what it had taken is noticed, by what was taken before it went', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pin-test-'));
  const server = await new Server(directory).start();
  const redis = openRedis(server.target, 'finite');
  const add = async (): Promise<string> => (await redis.xadd('s', '*', 'm', 'x')) ?? '';
  const powerFails = async (restore: () => void): Promise<void> => {
    await server.kill();
    restore();
    await server.start();
  };
  try {
    const receipts = new Receipts(redis);
    receipts.entry('s', await add());
    await redis.hset('h', '3', '1:w');
    receipts.field('h', '3', '1:w');
    const whole = server.remember();
    await powerFails(whole);
    // Taken after the return: says nothing of what came before.
    receipts.entry('s', await add());
    assert.ok(await receipts.intact(), 'it had everything');
    assert.ok(await receipts.intact(), 'still');

    const before = server.remember();
    await redis.hset('h', '4', '1:w');
    receipts.field('h', '4', '1:w');
    await powerFails(before);
    receipts.entry('s', await add());
    receipts.field('h', '3', '1:w');
    assert.equal(await receipts.intact(), false, 'the field is gone');

    const later = new Receipts(redis);
    const short = server.remember();
    later.entry('s', await add());
    await powerFails(short);
    later.entry('s', await add());
    assert.equal(await later.intact(), false, 'the entry is gone');
    assert.equal(await later.intact(), false, 'and stays gone');
  } finally {
    redis.disconnect();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
