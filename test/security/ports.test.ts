// needs: redis-server
/** Who may reach what pinstorm listens on: this machine alone, unless the user says otherwise. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun } from '../worker/live-run.ts';
import { listening } from './sockets.ts';

const RUN = ['run', 'scenario.yaml', '--threads', '2', '--metrics-port', '0'];

/** All that the processes of a run with a private Redis listen on, once its metrics are served. */
async function addresses(args: readonly string[]): Promise<string[]> {
  let found: string[] = [];
  await inDirectory(CONTENTION(60), async (directory) => {
    const run = new LiveRun(directory, args);
    await until('a worker is there', () => run.pids('--supervised').length === 1);
    const pids = run.pids('');
    assert.ok(pids.length >= 4, 'the run, its worker, its Redis and the guard of that');
    found = pids.flatMap((pid) => listening(pid));
    run.process.kill('SIGKILL');
    await run.ended;
  });
  return found;
}

it('a run opens one port, for metrics, and only to this machine; Redis is a socket file', async () => {
  const found = await addresses(RUN);
  assert.equal(found.length, 1, found.join(' '));
  assert.match(found[0] ?? '', /^127\.0\.0\.1:\d+$/);
});

it('other machines reach the metrics when the user says so', async () => {
  const found = await addresses([...RUN, '--metrics-host', '0.0.0.0']);
  assert.equal(found.length, 1, found.join(' '));
  assert.match(found[0] ?? '', /^0\.0\.0\.0:\d+$/);
});

it('without --metrics-port nothing listens at all', async () => {
  assert.deepEqual(await addresses(RUN.slice(0, -2)), []);
});
