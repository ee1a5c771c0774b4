// needs: redis-server
/** Experiments on workers: real processes and a real Redis. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { experimentsKey } from '../../src/wire/experiments.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';

const COMPARE = [
  'compare',
  'scenarios/boot-storm.yaml',
  '--variants',
  'D,E',
  '--repeat',
  '2',
  '--duration',
  '1s',
  '--json',
];
const SMALL = ['--set', 'host.count=3', '--set', 'guests.small.count=6'];

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function start(...args: string[]): { kill: (signal: NodeJS.Signals) => void; ended: Promise<Ended> } {
  const child = spawn(process.execPath, ['dist/src/cli/main.js', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, out, err })));
  return { kill: (signal) => child.kill(signal), ended };
}

describe('experiments on workers', { concurrency: 1 }, () => {
  let redis: PrivateRedis;
  let url = '';
  before(async () => {
    redis = await startPrivateRedis();
    url = redis.target.label;
  });
  after(() => redis.close());

  const worker = () => start('worker', '--redis', url, '--threads', '2');

  it('two processes give the bytes of a local run, and leave no key', async () => {
    const local = await start(...COMPARE, ...SMALL).ended;
    assert.equal(local.code, 0, local.err);
    const workers = [worker(), worker()];
    const remote = await start(...COMPARE, ...SMALL, '--redis', url).ended;
    assert.equal(remote.code, 0, remote.err);
    assert.equal(remote.out, local.out);
    for (const { ended } of workers) assert.equal((await ended).code, 0, (await ended).err);
    const client = openRedis(redis.target, 'finite');
    assert.deepEqual(await client.keys('*'), []);
    client.disconnect();
  });

  it('a worker that leaves is followed by another', async () => {
    const local = await start(...COMPARE, ...SMALL).ended;
    const first = worker();
    const remote = start(...COMPARE, ...SMALL, '--redis', url);
    const client = openRedis(redis.target, 'finite');
    await until(
      'the first results are there',
      async () => {
        const [id] = await client.hkeys(experimentsKey(redis.target.prefix));
        return id !== undefined && (await client.hlen(`{${redis.target.prefix}:${id}}:results`)) > 0;
      },
      60_000,
    );
    client.disconnect();
    first.kill('SIGTERM');
    const second = worker();
    const { code, out, err } = await remote.ended;
    assert.equal(code, 0, err);
    assert.equal(out, local.out);
    await Promise.all([first.ended, second.ended]);
  });

  it('without a worker it says how to start one, and ends at the first interrupt', async () => {
    const run = start(...COMPARE, ...SMALL, '--redis', url);
    const client = openRedis(redis.target, 'finite');
    await until(
      'the experiment is there',
      async () => (await client.hlen(experimentsKey(redis.target.prefix))) > 0,
      60_000,
    );
    run.kill('SIGINT');
    const { code, err } = await run.ended;
    assert.equal(code, 105);
    assert.match(err, /stopped by the user before a repetition was complete/);
    assert.deepEqual(await client.keys('*'), []);
    client.disconnect();
  });
});
