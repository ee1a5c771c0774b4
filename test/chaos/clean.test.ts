// needs: redis-server
/** Runs side by side in one Redis, and what a crash leaves there. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { until } from '../coordinator/until.ts';
import { LiveRun } from '../worker/live-run.ts';
import { assertAccounts, Fleet } from './fleet.ts';

it('pinstorm clean shows what a crash left and removes that alone', async () => {
  await Fleet.with({ workers: 1, seconds: 300, coordinator: ['--lease', '2s'] }, async (fleet) => {
    const clean = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await new LiveRun(fleet.directory, ['clean', ...args], {
        PINSTORM_REDIS: fleet.redis.url,
      }).ended;
      assert.equal(code, EXIT.ok, stderr);
      return stdout;
    };
    await fleet.loaded();
    const crashed = fleet.runId;
    assert.match(await clean('--yes'), new RegExp(`^${crashed} .* kept: its coordinator was there [0-9] s ago$`, 'm'));
    fleet.coordinator.process.kill('SIGKILL');
    fleet.workers[0]?.process.kill('SIGKILL');
    await fleet.coordinator.ended;
    // Another run goes on beside it; its worker was told which one is meant.
    fleet.coordinator = fleet.coordinate(['--min-workers', '1', '--out', 'other']);
    await until('its name is known', () => / run ([a-z0-9-]+);/.test(fleet.coordinator.stderr));
    const other = fleet.runId;
    fleet.join(['--run', other]);
    const left = new RegExp(`^${crashed} .* left behind$`, 'm');
    await until('nobody waits for the crashed one', async () => left.test(await clean()));
    assert.match(await clean('--yes'), new RegExp(`^${crashed} .* removed$`, 'm'));
    const keys = await fleet.redis.admin.keys('*');
    assert.deepEqual(
      keys.filter((key) => key.includes(crashed)),
      [],
    );
    assert.ok(keys.some((key) => key.includes(other)));
    fleet.coordinator.process.kill('SIGINT');
    assertAccounts(await fleet.ended());
    assert.match(await clean(), /^no run has keys at /);
  });
});
