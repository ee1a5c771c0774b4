// needs: redis-server
/**
 * Who runs which guests, when answers of Redis are lost on their way, workers leave at the wrong moment, and names are
 * used twice: real processes, a real Redis, a proxy between them.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import type { GuestRow } from '../../src/report/run-dir.ts';
import { runKeys } from '../../src/wire/keys.ts';
import { until } from '../coordinator/until.ts';
import { assertWhole, Fleet } from './fleet.ts';

/** A part of the script by which a worker claims, and of the one that takes a lost worker's slices. */
const CLAIM = `return worker == ARGV[3] and 'mine' or 'taken'`;
const RECLAIM = 'table.insert(out, fresh)';

const registered = (fleet: Fleet): Promise<number> =>
  /run /.test(fleet.coordinator.stderr)
    ? fleet.redis.admin.xlen(runKeys('pinstorm', fleet.runId).events)
    : Promise.resolve(0);
const gathered = (fleet: Fleet, workers: number): Promise<void> =>
  until(`${workers} workers have come`, async () => (await registered(fleet)) === 1 + workers);
const guests = (fleet: Fleet): GuestRow[] =>
  fleet
    .read('guests.jsonl')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as GuestRow);

describe('guests are handed out', { concurrency: 1 }, () => {
  it('and run though the answer to a claim was lost with its connection', async () => {
    await Fleet.with({ workers: 0, seconds: 2 }, async (fleet) => {
      const cut = fleet.proxy.loseAnswerTo(CLAIM);
      fleet.join([], { PINSTORM_REDIS: fleet.proxy.url });
      await fleet.during('the lost answer', cut);
      assertWhole(await fleet.ended());
    });
  });

  it('and run again whole though the answer to the taking of slices was lost', async () => {
    await Fleet.with({ workers: 2, seconds: 3, coordinatorByProxy: true }, async (fleet) => {
      await fleet.loaded();
      const cut = fleet.proxy.loseAnswerTo(RECLAIM);
      fleet.workers[0]?.process.kill('SIGKILL');
      await fleet.during('the lost answer', cut);
      const results = await fleet.ended();
      assertWhole(results);
      assert.ok((results.coverage.guestsRerun ?? 0) > 0, 'what the lost worker had runs again');
      const last = new Map(guests(fleet).map((row) => [row.guest, row]));
      assert.deepEqual(new Set([...last.values()].map(({ worker }) => worker)), new Set(['w2']));
      const merged = results.latency.reduce((sum, { actual }) => sum + (actual?.count ?? 0), 0);
      const byGuest = [...last.values()].reduce((sum, { operations }) => sum + operations, 0);
      assert.equal(merged, byGuest, 'the figures are those of the guests that count');
    });
  });

  it('and those of a worker that leaves while it claims run elsewhere', async () => {
    await Fleet.with({ workers: 0, seconds: 2 }, async (fleet) => {
      fleet.proxy.delayMs = 100;
      const leaving = fleet.join([], { PINSTORM_REDIS: fleet.proxy.url });
      await fleet.during('a claim', fleet.proxy.seen(CLAIM));
      leaving.process.kill('SIGTERM');
      fleet.join();
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.stopped] });
      assertWhole(results);
      for (const { state, operations } of guests(fleet)) assert.ok(state === 'completed' && operations > 0);
    });
  });

  it('late, when a worker was held up, and then do all they were to do', async () => {
    // Nobody may count as lost while the other worker starts on a busy machine.
    const coordinator = ['--min-workers', '2', '--lease', '60s'];
    await Fleet.with({ workers: 1, seconds: 2, coordinator }, async (fleet) => {
      await gathered(fleet, 1);
      const held = fleet.workers[0]!;
      held.process.kill('SIGSTOP');
      fleet.join();
      await fleet.event('start');
      const { events } = runKeys('pinstorm', fleet.runId);
      await until('the other one has ended a guest', async () => {
        const said = await fleet.redis.admin.xrange(events, '-', '+');
        return said.some(([, fields]) => fields[1]?.includes('"outcomes","worker":"w2"') === true);
      });
      held.process.kill('SIGCONT');
      const results = await fleet.ended();
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 0);
      assert.match(
        results.accounting.notes.join('\n'),
        /^[1-6] guests began up to \d+\.\d s late: taking and building them took longer/m,
      );
      const lived = guests(fleet).map(({ endSeconds, worker }) => [worker, endSeconds ?? 0] as const);
      for (const [worker, end] of lived) if (worker === 'w1') assert.ok(end > 3.5, `ended after ${end} s`);
    });
  });

  it('but not to one that left while workers gathered', async () => {
    await Fleet.with({ workers: 1, seconds: 1, coordinator: ['--min-workers', '2'] }, async (fleet) => {
      await gathered(fleet, 1);
      fleet.workers[0]?.process.kill('SIGTERM');
      await fleet.workers[0]?.ended;
      fleet.join();
      fleet.join();
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.stopped] });
      assertWhole(results);
      assert.doesNotMatch(results.accounting.notes.join('\n'), /again/);
      assert.equal(results.health.workers, 2);
    });
  });

  it('to two workers of one name as to two workers', async () => {
    await Fleet.with({ workers: 2, seconds: 1, worker: ['--name', 'twin'] }, async (fleet) => {
      assertWhole(await fleet.ended());
      assert.deepEqual(new Set(guests(fleet).map(({ worker }) => worker)), new Set(['twin', 'twin-2']));
      // Nobody waits in silence.
      assert.match(fleet.coordinator.stderr, /waiting for workers: 0 of 2; start one with pinstorm worker --redis /);
      for (const { stderr } of fleet.workers) assert.match(stderr, /taking guests of run .*\n(.*\n)*.*done with run /);
    });
  });
});

describe('the id of a run', { concurrency: 1 }, () => {
  it('belongs to one: a second coordinator of it is refused and harms nothing', async () => {
    await Fleet.with({ workers: 1, seconds: 60, coordinator: ['--run', 'one'] }, async (fleet) => {
      await fleet.booting();
      const second = await fleet.coordinate(['--run', 'one']).ended;
      assert.equal(second.code, EXIT.invalid, second.stderr);
      assert.match(second.stderr, /there is a run one already/);
      // It lives until here, however long the second one takes to start.
      assertWhole(await fleet.stopped());
    });
  });

  it('can be used again at once, and the farewell of the run before does not end the new one', async () => {
    await Fleet.with({ workers: 1, seconds: 1, coordinator: ['--run', 'one'] }, async (fleet) => {
      assertWhole(await fleet.ended());
      fleet.coordinator = fleet.coordinate(['--run', 'one']);
      fleet.join();
      assertWhole(await fleet.ended());
    });
  });
});
