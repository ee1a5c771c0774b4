// needs: prometheus promtool redis-server
/** A real Prometheus scrapes a running pinstorm; what it stored is asked back over its HTTP API. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { it } from 'node:test';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun } from './live-run.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

it('Prometheus scrapes a run, its histograms give quantiles, and promtool has nothing to say', async () => {
  const version = spawnSync('prometheus', ['--version']);
  assert.equal(version.error, undefined, 'Prometheus is missing: apt-get install --no-install-recommends prometheus');
  await inDirectory(CONTENTION(8), async (directory) => {
    const [target, own] = [await freePort(), await freePort()];
    const run = new LiveRun(directory, ['run', 'scenario.yaml', '--threads', '2', '--metrics-port', `${target}`]);
    const config = join(directory, 'prometheus.yaml');
    writeFileSync(
      config,
      `global: { scrape_interval: 500ms }\nscrape_configs:\n  - job_name: pinstorm\n    static_configs: [{ targets: ['127.0.0.1:${target}'] }]\n`,
    );
    const data = join(directory, 'data');
    mkdirSync(data);
    const prometheus = spawn(
      'prometheus',
      [`--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=127.0.0.1:${own}`],
      { stdio: 'ignore' },
    );
    try {
      await run.loaded();
      const query = async (expression: string): Promise<number> => {
        const url = `http://127.0.0.1:${own}/api/v1/query?query=${encodeURIComponent(expression)}`;
        const answer = (await (await fetch(url)).json()) as { data: { result: { value: [number, string] }[] } };
        return Number(answer.data.result[0]?.value[1] ?? Number.NaN);
      };
      const finite = (expression: string) => async (): Promise<boolean> => {
        try {
          return Number.isFinite(await query(expression));
        } catch {
          return false;
        }
      };
      const p99 = 'histogram_quantile(0.99, sum by (le) (rate(pinstorm_op_duration_seconds_bucket{op="map"}[5s])))';
      await until('Prometheus knows the p99 of map', finite(p99));
      assert.ok((await query(p99)) > 0);
      assert.ok((await query('sum(pinstorm_trylock_failures_total)')) > 0);
      assert.equal(await query('up{job="pinstorm"}'), 1);
      const text = await (await fetch(`http://127.0.0.1:${target}/metrics`)).text();
      const lint = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
      assert.equal(lint.stdout + lint.stderr, '');
    } finally {
      prometheus.kill('SIGKILL');
      await once(prometheus, 'close');
    }
    await run.ended;
  });
});
