import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { createRegistry, serveMetrics, type LiveGauges, type MetricSources } from '../../src/metrics/exposition.ts';
import { LATENESS, lockHoldSeries, lockWaitSeries, Op, Outcome, SCHEDULE_LAG } from '../../src/metrics/ops.ts';
import { liveView } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';

const layout = new StatsLayout(
  ['trylock_attempts', 'trylock_failures', 'deferred_queued', 'deferred_applied', 'deferred_lost', 'limit_refusals'],
  { exactEdgesNs: [1_500_000] },
);
const blocks = [0, 1].map(() => new StatsBlock(layout, new SharedArrayBuffer(layout.bytes)));
const gauges: LiveGauges = {
  deferredBacklog: 3,
  deferredOldestAgeSeconds: 0.25,
  lockedVmDriftPages: 0,
  invariantViolations: { over_penalty: 1 },
  guests: { running: 50 },
  threads: 2,
  saturated: false,
};
const sources: MetricSources = {
  run: { runId: 'r-1', scenario: 'a "quoted" name', variant: 'A', version: '0.1.0' },
  stats: liveView(layout, blocks),
  gauges: () => gauges,
  pool: () => {
    const time = { average: 1, p99: 2, max: 3 };
    return { utilization: 0.5, queueSize: 0, waitTime: time, runTime: time };
  },
};
blocks.forEach((block, i) => {
  for (let ns = 500; ns < 2e10; ns = Math.ceil(ns * 1.5)) block.recordOp(Op.map, Outcome.ok, ns, ns * 2);
  block.recordOp(Op.map, Outcome.enomem, 1_500_000, 1_500_001);
  for (const series of [lockWaitSeries(1), lockHoldSeries(1), SCHEDULE_LAG, LATENESS]) block.record(series, 100 + i, 1);
  block.count(layout.counter('trylock_attempts'), 10);
  block.count(layout.counter('deferred_queued'), 4);
  block.count(layout.counter('deferred_discarded'), 1);
});

async function scrape(port: number, path = '/metrics', method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}

test('a scrape carries the metrics; threshold edges are exact; only run_info names the run', async () => {
  const server = await serveMetrics(createRegistry(sources), { port: 0 });
  try {
    const { status, type, text } = await scrape(server.port);
    assert.equal(status, 200);
    assert.match(type!, /^text\/plain; version=0\.0\.4/);
    const line = (start: string) => text.split('\n').find((l) => l.startsWith(start));
    const enomem = (name: string, le: string) =>
      line(`pinstorm_op_duration_${name}_bucket{op="map",outcome="enomem",le="${le}"}`)?.split(' ')[1];
    assert.equal(enomem('seconds', '0.0015'), '2');
    assert.equal(enomem('seconds', '0.001024'), '0');
    assert.equal(enomem('intended_seconds', '0.0015'), '0');
    assert.equal(enomem('intended_seconds', '+Inf'), '2');
    assert.equal(line('pinstorm_op_duration_seconds_count{op="map",outcome="enomem"}')?.split(' ')[1], '2');
    assert.equal(line('pinstorm_op_duration_seconds_sum{op="map",outcome="enomem"}')?.split(' ')[1], '0.003');
    assert.equal(line('pinstorm_trylock_attempts_total'), 'pinstorm_trylock_attempts_total 20');
    assert.equal(
      line('pinstorm_deferred_jobs_total{state="queued"}'),
      'pinstorm_deferred_jobs_total{state="queued"} 8',
    );
    assert.equal(line('pinstorm_deferred_jobs_total{state="discarded"}')?.split(' ')[1], '2');
    assert.equal(line('pinstorm_guests{state="running"}')?.split(' ')[1], '50');
    assert.equal(line('pinstorm_invariant_violations_total{invariant="over_penalty"}')?.split(' ')[1], '1');
    assert.equal(line('pinstorm_lock_wait_seconds_count{mode="mmap_write"}')?.split(' ')[1], '2');
    assert.ok(text.includes('pinstorm_nodejs_eventloop_lag_seconds'));
    assert.ok(text.includes('pinstorm_piscina_utilization_ratio 0.5'));
    assert.deepEqual(
      text.split('\n').filter((l) => l.includes('r-1')),
      ['pinstorm_run_info{run_id="r-1",scenario="a \\"quoted\\" name",variant="A"} 1'],
    );
    blocks[0]!.count(0, 5);
    assert.ok((await scrape(server.port)).text.includes('pinstorm_trylock_attempts_total 25'));
    blocks[0]!.count(0, -5);
    assert.deepEqual(await scrape(server.port, '/healthz'), { status: 200, type: 'text/plain', text: 'ok\n' });
    assert.equal((await scrape(server.port, '/nope')).status, 404);
    assert.equal((await scrape(server.port, '/metrics', 'POST')).status, 405);
  } finally {
    await server.close();
  }
});

test('promtool check metrics is silent', async () => {
  const text = await createRegistry(sources).metrics();
  const promtool = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  assert.equal(promtool.error, undefined, 'no promtool: apt-get install --no-install-recommends prometheus');
  assert.deepEqual(
    { status: promtool.status, out: promtool.stdout, err: promtool.stderr },
    { status: 0, out: '', err: '' },
  );
});

test('a port in use is a clear error', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  try {
    await assert.rejects(serveMetrics(createRegistry(sources), { port }), (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.equal(error.exitCode, 104);
      assert.match(error.message, new RegExp(`port ${port} on 127\\.0\\.0\\.1 is in use`));
      assert.match(error.hint!, /--metrics-port/);
      return true;
    });
  } finally {
    other.close();
  }
});
