/** What Redis can do to a run: restart with and without its data, run full, be slow, hand a job out twice. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { guestQueue, openProducer } from '../../src/coordinator/queue.ts';
import { until } from '../coordinator/until.ts';
import { assertWhole, Fleet } from './fleet.ts';

describe('Redis', { concurrency: 1 }, () => {
  it('may be killed and come back with its data: the run goes on', async () => {
    await Fleet.with({ workers: 2 }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.kill();
      await fleet.redis.start();
      assertWhole(await fleet.ended());
    });
  });

  it('that comes back without its data ends the run, inconclusive, and says so', async () => {
    await Fleet.with({ workers: 2, seconds: 60 }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.kill();
      rmSync(join(fleet.directory, 'appendonlydir'), { recursive: true });
      await fleet.redis.start();
      const { code, stderr } = await fleet.coordinator.ended;
      assert.equal(code, EXIT.inconclusive, stderr);
      assert.match(stderr, /Redis at .* has lost the data of the run/);
      // The coordinator's farewell may reach them before they miss anything.
      await fleet.gone([EXIT.inconclusive, EXIT.ok]);
      await fleet.nothingLeft();
    });
  });

  it('whose memory is full for a while is waited for, and nothing is lost', async () => {
    await Fleet.with({ workers: 2 }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.admin.config('SET', 'maxmemory', '1');
      await fleet.event('redis_full');
      await fleet.redis.admin.config('SET', 'maxmemory', '0');
      assertWhole(await fleet.ended());
    });
  });

  it('whose memory stays full ends the run with a message', async () => {
    await Fleet.with({ workers: 1, seconds: 60, coordinator: ['--lease', '1s'] }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.admin.config('SET', 'maxmemory', '1');
      const { code, stderr } = await fleet.coordinator.ended;
      assert.equal(code, EXIT.inconclusive, stderr);
      assert.match(stderr, /the memory of Redis at .* is full/);
      await fleet.redis.admin.config('SET', 'maxmemory', '0');
      await fleet.gone([EXIT.inconclusive, EXIT.ok]);
      await fleet.nothingLeft();
    });
  });

  it('that does not answer for longer than the lease loses nobody', async () => {
    await Fleet.with({ workers: 2, seconds: 6 }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.admin.call('CLIENT', 'PAUSE', '4000', 'ALL');
      const results = await fleet.ended();
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 0);
    });
  });

  it('may hand out every guest job once more: it runs once', async () => {
    await Fleet.with({ workers: 2 }, async (fleet) => {
      await fleet.loaded();
      const guests = openProducer(fleet.redis.target, guestQueue('pinstorm', fleet.runId));
      try {
        const slices = [0, 1, 2, 3, 4, 5];
        const again = slices.map((slice) => ({ v: 1, slice, from: slice, to: slice + 1, incarnation: 1 }));
        await guests.addAll(again.map((data, i) => ({ id: `again-${i}`, data })));
        await until('all were taken', async () => (await guests.counts()).waiting === 0);
      } finally {
        await guests.close();
      }
      const results = await fleet.ended();
      assertWhole(results);
      assert.match(results.accounting.notes.join('\n'), /^[1-6] guest jobs delivered again$/m);
    });
  });
});
