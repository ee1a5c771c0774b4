// needs: redis-server
/** A coordinator that is killed, and another one that takes its place. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { runKeys, runsKey } from '../../src/wire/keys.ts';
import { assertWhole, Fleet } from './fleet.ts';

describe('a coordinator', { concurrency: 1 }, () => {
  it('that is killed is replaced by another one, which goes on in the same run directory', async () => {
    await Fleet.with({ workers: 2, seconds: 6 }, async (fleet) => {
      await fleet.loaded();
      // What it had decided must be known to the next one too.
      fleet.workers[0]?.process.kill('SIGKILL');
      await fleet.event('rerun');
      const { runId } = fleet;
      fleet.coordinator.process.kill('SIGKILL');
      await fleet.coordinator.ended;
      fleet.coordinator = fleet.coordinate(['--resume', runId]);
      const results = await fleet.ended();
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 1);
      assert.ok((results.coverage.guestsRerun ?? 0) > 0);
      assert.equal(results.run.id, runId);
      const directories = readdirSync(join(fleet.directory, 'runs')).filter((name) => name !== 'latest');
      assert.equal(directories.length, 1, directories.join(' '));
      const kinds = fleet.read('events.jsonl').match(/"kind":"\w+"/g) ?? [];
      for (const kind of ['start', 'worker_lost', 'rerun', 'resumed', 'end']) {
        assert.equal(kinds.filter((k) => k === `"kind":"${kind}"`).length, 1, `${kind} in ${kinds.join(' ')}`);
      }
      const intervals = fleet.read('intervals.jsonl').trimEnd().split('\n');
      assert.deepEqual(
        intervals.map((line) => (JSON.parse(line) as { seq: number }).seq),
        intervals.map((_, i) => i),
      );
      const guests = fleet.read('guests.jsonl').trimEnd().split('\n');
      const last = new Map(guests.map((line) => JSON.parse(line) as { guest: number }).map((row) => [row.guest, row]));
      assert.equal(last.size, 6);
    });
  });

  it('of another plan, of no run, or of one that has a coordinator, is refused; one that has ended is reported', async () => {
    await Fleet.with({ workers: 1, seconds: 300, coordinator: ['--lease', '60s'] }, async (fleet) => {
      await fleet.booting();
      const other = await fleet.coordinate(['--resume', fleet.runId, '--seed', '1']).ended;
      assert.equal(other.code, EXIT.invalid, other.stderr);
      assert.match(other.stderr, /was started with another plan/);
      const early = await fleet.coordinate(['--resume', fleet.runId]).ended;
      assert.equal(early.code, EXIT.invalid, early.stderr);
      assert.match(early.stderr, /the coordinator of run .* is alive/);
      const none = await fleet.coordinate(['--resume', 'nothing']).ended;
      assert.equal(none.code, EXIT.invalid, none.stderr);
      assert.match(none.stderr, /there is no run nothing/);
      const { runId } = fleet;
      const { admin } = fleet.redis;
      const [plan, list] = [runKeys('pinstorm', runId).plan, runsKey('pinstorm')];
      const [dump, record] = await Promise.all([admin.dumpBuffer(plan), admin.hget(list, runId)]);
      const results = await fleet.stopped();
      // As if it had died before it took the run out of Redis.
      await admin.restore(plan, 0, dump);
      await admin.hset(list, runId, record ?? '');
      fleet.coordinator = fleet.coordinate(['--resume', runId]);
      assert.deepEqual(await fleet.results(), results, 'one that has ended is reported as it was');
      assert.match((await fleet.coordinator.ended).stderr, /run .* had ended: run directory .*, with report\.html/);
      await fleet.nothingLeft();
      const directories = readdirSync(join(fleet.directory, 'runs')).filter((name) => name !== 'latest');
      assert.equal(directories.length, 1, directories.join(' '));
    });
  });

  it('that stays away is not waited for for ever: its workers end, inconclusive', async () => {
    await Fleet.with({ workers: 1, seconds: 60, coordinator: ['--lease', '1s'] }, async (fleet) => {
      await fleet.booting();
      fleet.coordinator.process.kill('SIGKILL');
      await fleet.gone([EXIT.inconclusive]);
      assert.match((await fleet.workers[0]?.ended)?.stderr ?? '', /the coordinator is gone/);
      await fleet.redis.admin.flushall();
    });
  });
});
