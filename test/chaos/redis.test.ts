// needs: redis-server
/** What Redis can do to a run: restart with and without its data, run full, be slow, hand a job out twice. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT } from '../../src/base/errors.ts';
import { runKeys } from '../../src/wire/keys.ts';
import { guestQueue, openProducer } from '../../src/wire/queue.ts';
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

  describe('that comes back without the last it had taken, as after a power failure', { concurrency: 1 }, () => {
    it('lost nothing that matters in steady state: the run goes on', async () => {
      await Fleet.with({ workers: 2, seconds: 8 }, async (fleet) => {
        await fleet.loaded();
        const restore = fleet.redis.remember();
        const intervals = (): number => fleet.read('intervals.jsonl').split('\n').length;
        const before = intervals();
        await until('there are later intervals', () => intervals() >= before + 2);
        await fleet.redis.kill();
        restore();
        await fleet.redis.start();
        assertWhole(await fleet.ended());
      });
    });

    it('ends the run, inconclusive, when what the coordinator decided is gone', async () => {
      await Fleet.with({ workers: 2, seconds: 60, coordinator: ['--min-workers', '3'] }, async (fleet) => {
        const registered = (): Promise<number> => fleet.redis.admin.xlen(runKeys('pinstorm', fleet.runId).events);
        await until('two have come', async () => /run /.test(fleet.coordinator.stderr) && (await registered()) === 3);
        const restore = fleet.redis.remember();
        fleet.join();
        await fleet.loaded();
        await fleet.redis.kill();
        restore();
        await fleet.redis.start();
        const { code, stderr } = await fleet.coordinator.ended;
        assert.equal(code, EXIT.inconclusive, stderr);
        assert.match(stderr, /Redis at .* came back without the latest it had taken/);
        await fleet.gone([EXIT.inconclusive, EXIT.ok]);
        await fleet.nothingLeft();
      });
    });

    it('has the guests of workers run again when what they said is gone', async () => {
      await Fleet.with({ workers: 2, seconds: 2 }, async (fleet) => {
        await fleet.event('start');
        await until('all guests have a worker', async () => (await fleet.claims()).length === 6);
        fleet.coordinator.process.kill('SIGSTOP');
        const restore = fleet.redis.remember();
        const { events } = runKeys('pinstorm', fleet.runId);
        await until('both have told of a guest that ended', async () => {
          const said = (await fleet.redis.admin.xrange(events, '-', '+')).map(([, fields]) => fields[1] ?? '');
          return ['w1', 'w2'].every((name) => said.some((text) => text.includes(`"outcomes","worker":"${name}"`)));
        });
        await fleet.redis.kill();
        restore();
        await fleet.redis.start();
        fleet.coordinator.process.kill('SIGCONT');
        fleet.join();
        const results = await fleet.ended({ workers: [EXIT.ok, EXIT.inconclusive] });
        assertWhole(results);
        assert.equal(results.coverage.workersLost, 2);
        assert.match(results.accounting.notes.join('\n'), /^worker w1 was lost: .*came back without the latest/m);
      });
    });
  });

  it('whose memory is full for a while is waited for, and nothing is lost', async () => {
    await Fleet.with({ workers: 2, seconds: 10, coordinator: ['--lease', '6s'] }, async (fleet) => {
      await fleet.loaded();
      await fleet.redis.admin.config('SET', 'maxmemory', '1');
      await fleet.event('redis_full');
      // Longer than the lease, in which nobody can say anything; the time is the experiment.
      await pause(7000);
      await fleet.redis.admin.config('SET', 'maxmemory', '0');
      const results = await fleet.ended();
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 0);
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
        const again = slices.map((slice) => ({ v: 1, slice, incarnation: 1 }));
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
