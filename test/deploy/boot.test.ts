// needs: redis-cli redis-server sh
/**
 * The processes of compose.yaml, booted from the commands it gives, on this machine: Redis with a password, a
 * coordinator that serves metrics, two workers, Prometheus. What differs is said here: ports, directories, and no
 * container around them.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openRedis, parseRedisUrl } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun, resultsOf } from '../worker/live-run.ts';
import { composeFile, manifests, type Service } from './files.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const PASSWORD = 'boot0123456789abcdef';

/** Starts a service's own command with some words of it replaced. */
function start(
  service: Service,
  replace: readonly (readonly [from: string, to: string])[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): ChildProcess {
  const words = [...(service.entrypoint ?? []), ...(service.command ?? [])].map((word) =>
    replace.reduce((text, [from, to]) => text.replaceAll(from, to), word),
  );
  const [program = '', ...args] = words;
  return spawn(program, args, {
    ...options,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
}

/** A Redis as the service describes it. */
async function withRedis(directory: string, body: (url: string) => Promise<void>): Promise<void> {
  const { redis } = composeFile({ REDIS_PASSWORD: PASSWORD }).services;
  assert.ok(redis !== undefined);
  const port = await freePort();
  mkdirSync(join(directory, 'data'));
  const server = start(
    redis,
    [
      ['6379', `${port}`],
      ['/data', join(directory, 'data')],
    ],
    { cwd: directory, env: redis.environment ?? {} },
  );
  try {
    const [, check = ''] = redis.healthcheck?.test ?? [];
    await until('the health check of Redis passes', () => {
      const script = check.replace('redis-cli', `redis-cli -p ${port}`);
      return spawnSync('sh', ['-c', script], { env: { ...process.env, ...redis.environment } }).status === 0;
    });
    assert.doesNotMatch(readFileSync(`/proc/${server.pid}/cmdline`, 'utf8'), new RegExp(PASSWORD));
    await body(`redis://:${PASSWORD}@127.0.0.1:${port}`);
  } finally {
    await stopped(server);
  }
}

describe('deployment', { concurrency: 1 }, () => {
  it('the services of compose.yaml come up, Prometheus scrapes the run, and all end as they should', async () => {
    await inDirectory(CONTENTION(6), async (directory) => {
      await withRedis(directory, async (url) => {
        const metrics = await freePort();
        const { coordinator, worker, prometheus } = composeFile({
          REDIS_PASSWORD: PASSWORD,
          SCENARIO: 'scenario.yaml',
          MIN_WORKERS: '2',
        }).services;
        assert.ok(coordinator?.command !== undefined && worker?.command !== undefined && prometheus !== undefined);
        assert.equal(coordinator.environment?.['PINSTORM_REDIS'], `redis://:${PASSWORD}@redis:6379`);
        const args = coordinator.command.map(
          (word) => ({ '9464': `${metrics}`, '0.0.0.0': '127.0.0.1', '/runs': 'runs' })[word] ?? word,
        );
        const env = { PINSTORM_REDIS: url };
        const run = new LiveRun(directory, [...args, '--json'], env);
        const workers = [1, 2].map(
          () => new LiveRun(directory, [...worker.command!, '--threads', '2', '--capacity', '100'], env),
        );
        const [, ...health] = coordinator.healthcheck?.test ?? [];
        const [, ...rest] = health.map((word) => word.replace('9464', `${metrics}`));
        await until('the health check of the coordinator passes', () => spawnSync(process.execPath, rest).status === 0);

        const web = await freePort();
        cpSync('deploy/prometheus', join(directory, 'prometheus'), { recursive: true });
        writeFileSync(join(directory, 'prometheus/targets.yml'), `- targets: ['127.0.0.1:${metrics}']\n`);
        const config = join(directory, 'prometheus/prometheus.yml');
        writeFileSync(config, readFileSync(config, 'utf8').replaceAll('interval: 5s', 'interval: 1s'));
        const monitor = start(
          {
            ...prometheus,
            command: ['prometheus', ...(prometheus.command ?? []), `--web.listen-address=127.0.0.1:${web}`],
          },
          [
            ['/etc/prometheus', join(directory, 'prometheus')],
            ['=/prometheus', `=${join(directory, 'tsdb')}`],
          ],
          { cwd: directory },
        );
        try {
          await run.loaded();
          const count = async (query: string): Promise<number> => {
            try {
              const answer = await fetch(`http://127.0.0.1:${web}/api/v1/query?query=${encodeURIComponent(query)}`);
              return Number(
                ((await answer.json()) as { data: { result: { value: [number, string] }[] } }).data.result[0]
                  ?.value[1] ?? 0,
              );
            } catch {
              return 0;
            }
          };
          await until(
            'Prometheus has the run',
            async () => (await count('sum(pinstorm_ops_total) or sum(pinstorm_op_duration_seconds_count)')) > 0,
          );
          const { code, stdout, stderr } = await run.ended;
          assert.ok(code === 0 || code === 114, `${code}: ${stderr}`);
          assert.equal((JSON.parse(stdout) as { accounting: { balance: string } }).accounting.balance, 'exact');
          assert.equal(resultsOf(directory).coverage.guestsFinished, 6);
          for (const { ended } of workers) assert.equal((await ended).code, 0, 'a worker ends with its run');
        } finally {
          await stopped(monitor);
        }
      });
    });
  });

  it('the lists that the autoscaler asks for hold the jobs of the run, before it starts and while it goes', async () => {
    const triggers = manifests('deploy/kubernetes/overlays/keda/autoscale.yaml').flatMap(
      ({ spec }) => (spec?.['triggers'] ?? []) as { metadata: { listName: string } }[],
    );
    const [waiting = '', active = ''] = triggers.map(({ metadata }) => metadata.listName);
    const job = manifests('deploy/kubernetes/base/coordinator.yaml').find(({ kind }) => kind === 'Job');
    assert.ok(job?.spec !== undefined);
    const { containers } = (job.spec['template'] as { spec: { containers: { args: string[] }[] } }).spec;
    const replace: Record<string, string> = {
      '/scenario/scenario.yaml': 'scenario.yaml',
      '2': '1',
      '9464': '0',
      '0.0.0.0': '127.0.0.1',
      '/runs': 'runs',
    };
    const args = (containers[0]?.args ?? []).map((word) => replace[word] ?? word);
    await inDirectory(CONTENTION(60), async (directory) => {
      await withRedis(directory, async (url) => {
        const admin = openRedis(parseRedisUrl(url), 'finite');
        try {
          const run = new LiveRun(directory, args, { PINSTORM_REDIS: url });
          await until('all six guests wait for workers', async () => (await admin.llen(waiting)) === 6);
          assert.equal(await admin.llen(active), 0);
          const worker = new LiveRun(directory, ['worker', '--capacity', '6', '--threads', '2'], {
            PINSTORM_REDIS: url,
          });
          await until('all six run', async () => (await admin.llen(active)) === 6);
          assert.equal(await admin.llen(waiting), 0);
          const twin = await new LiveRun(directory, args, { PINSTORM_REDIS: url }).ended;
          assert.equal(twin.code, 104);
          assert.match(twin.stderr, /there is a run fleet already/);
          run.process.kill('SIGTERM');
          await Promise.all([run.ended, worker.ended]);
          assert.equal((await admin.exists(waiting)) + (await admin.exists(active)), 0);
        } finally {
          admin.disconnect();
        }
      });
    });
  });
});
