// needs: promtool
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { createRegistry, type LiveGauges, type MetricSources } from '../../src/metrics/exposition.ts';
import { serveMetrics } from '../../src/metrics/metrics-server.ts';
import { LATENESS, lockHoldSeries, lockWaitSeries, Op, Outcome, SCHEDULE_LAG } from '../../src/metrics/ops.ts';
import type { RunHealth } from '../../src/metrics/run-metrics.ts';
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
  invariantViolations: { 'over-penalty': 1, balance: 0 },
  guests: { running: 50 },
  threads: 2,
  saturated: false,
};
const worker = (name: string, state: 'alive' | 'done' | 'lost'): RunHealth['workers'][number] => ({
  name,
  state,
  silenceSeconds: 0.5,
  guestsRunning: 25,
  deferredBacklog: 3,
  threads: 2,
  idleSeconds: 7.5,
  eventLoopDelaySeconds: 0.002,
  residentBytes: 1e8,
  cpuSeconds: 12.5,
  operations: 1000,
  lateness: { sumSeconds: 0.25, count: 500 },
});
const health: RunHealth = {
  startSeconds: 1_700_000_001.5,
  plannedSeconds: 20,
  phases: { gathering: 1_700_000_000, running: 1_700_000_001 },
  stages: [{ stage: 'boot', startSeconds: 1_700_000_001.5 }],
  exitStatus: 99,
  thresholds: [{ metric: 'op_duration{op:map}', expression: 'p(99) < 2ms', ok: false }],
  workers: [worker('w1', 'alive'), worker('w2', 'lost')],
  redis: {
    roundTripSeconds: 0.001,
    usedMemoryBytes: 2e6,
    commands: 1234,
    guestJobs: { waiting: 1, active: 2, failed: 0 },
  },
};
const sources: MetricSources = {
  run: {
    runId: 'r-1',
    scenario: 'a "quoted" name',
    variant: 'A',
    pace: 0.5,
    profile: { name: 'default', calibrated: false },
    version: '0.1.0',
    expect: ['over-penalty'],
  },
  role: 'coordinator',
  health: () => health,
  stats: liveView(layout, blocks),
  gauges: () => gauges,
};
blocks.forEach((block, i) => {
  for (let ns = 500; ns < 2e10; ns = Math.ceil(ns * 1.5)) block.recordOp(Op.map, Outcome.ok, ns, ns * 2);
  block.recordOp(Op.map, Outcome.enomem, 1_500_000, 1_500_001);
  for (const series of [lockWaitSeries(1), lockHoldSeries(1), SCHEDULE_LAG, LATENESS]) block.record(series, 100 + i, 1);
  block.count(layout.counter('trylock_attempts'), 10);
  block.count(layout.counter('deferred_queued'), 4);
  block.count(layout.counter('deferred_discarded'), 1);
  block.count(layout.counter('thread_idle_ns'), 1_500_000_000);
});

async function scrape(port: number, path = '/metrics', method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
}

test('a scrape carries the metrics; threshold edges are exact; only two series name the run', async () => {
  const server = await serveMetrics(sources, { port: 0 });
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
    const violations = (labels: string) => line(`pinstorm_invariant_violations_total{${labels}}`)?.split(' ')[1];
    assert.equal(violations('invariant="over-penalty",expected="yes"'), '1');
    assert.equal(violations('invariant="balance",expected="no"'), '0');
    assert.equal(line('pinstorm_lock_wait_seconds_count{mode="mmap_write"}')?.split(' ')[1], '2');
    assert.ok(text.includes('pinstorm_nodejs_eventloop_lag_seconds'));
    assert.equal(line('pinstorm_thread_idle_seconds_total'), 'pinstorm_thread_idle_seconds_total 3');
    assert.deepEqual(
      text.split('\n').filter((l) => l.includes('r-1')),
      [
        'pinstorm_run_info{run_id="r-1",role="coordinator",scenario="a \\"quoted\\" name",variant="A",pace="0.5",' +
          'profile="default",calibrated="no"} 1',
        'pinstorm_run_start_timestamp_seconds{run_id="r-1"} 1700000001.5',
      ],
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

test('the coordinator says how the run, its workers and Redis are; a worker does not', async () => {
  const text = await createRegistry(sources).metrics();
  const value = (series: string) =>
    text
      .split('\n')
      .find((l) => l.startsWith(`${series} `))
      ?.slice(series.length + 1);
  assert.equal(value('pinstorm_run_phase_start_timestamp_seconds{phase="running"}'), '1700000001');
  assert.equal(value('pinstorm_run_phase_start_timestamp_seconds{phase="over"}'), undefined);
  assert.equal(value('pinstorm_stage_start_timestamp_seconds{stage="boot"}'), '1700000001.5');
  assert.equal(value('pinstorm_run_exit_status'), '99');
  assert.equal(value('pinstorm_worker_thread_idle_seconds_total{worker="w1"}'), '7.5');
  assert.equal(value('pinstorm_run_planned_seconds'), '20');
  assert.equal(value('pinstorm_threshold_ok{metric="op_duration{op:map}",expr="p(99) < 2ms"}'), '0');
  assert.equal(value('pinstorm_workers{state="alive"}'), '1');
  assert.equal(value('pinstorm_workers{state="lost"}'), '1');
  assert.equal(value('pinstorm_worker_up{worker="w1"}'), '1');
  assert.equal(value('pinstorm_worker_up{worker="w2"}'), '0');
  assert.equal(value('pinstorm_worker_silence_seconds{worker="w1"}'), '0.5');
  assert.equal(value('pinstorm_worker_silence_seconds{worker="w2"}'), undefined);
  assert.equal(value('pinstorm_worker_cpu_seconds_total{worker="w1"}'), '12.5');
  assert.equal(value('pinstorm_worker_lateness_seconds_sum{worker="w1"}'), '0.25');
  assert.equal(value('pinstorm_worker_lateness_seconds_count{worker="w2"}'), '500');
  assert.equal(value('pinstorm_redis_commands_total'), '1234');
  assert.equal(value('pinstorm_guest_jobs{state="active"}'), '2');
  const { health: _, ...own } = sources;
  const ofWorker = await createRegistry({ ...own, role: 'worker' }).metrics();
  assert.doesNotMatch(ofWorker, /pinstorm_(worker|redis|run_phase|run_exit|threshold)/);
  // Before the start, nothing is made up.
  const early: RunHealth = { ...health, startSeconds: null, plannedSeconds: null, phases: {}, stages: [], redis: null };
  const earlyText = await createRegistry({ ...sources, health: () => early }).metrics();
  assert.doesNotMatch(earlyText, /^pinstorm_(run_start|run_planned|run_phase|redis_|guest_jobs)/m);
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

test('a page of another site cannot read the metrics by a name that points here', async () => {
  const ask = async (host: string | undefined, given: string | undefined): Promise<number | undefined> => {
    const server = await serveMetrics(sources, { port: 0, host });
    try {
      const headers = { host: given?.replace('PORT', String(server.port)) ?? `127.0.0.1:${server.port}` };
      const request = get({ host: '127.0.0.1', port: server.port, path: '/metrics', headers });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    } finally {
      await server.close();
    }
  };
  assert.equal(await ask(undefined, undefined), 200);
  assert.equal(await ask(undefined, 'localhost:PORT'), 200);
  assert.equal(await ask(undefined, 'attacker.example:PORT'), 421);
  assert.equal(await ask(undefined, '127.0.0.1:1'), 421);
  // Its user asked for an address that others reach, by whatever name.
  assert.equal(await ask('0.0.0.0', 'worker-1.example:PORT'), 200);
});

test('a port in use is a clear error', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  try {
    await assert.rejects(serveMetrics(sources, { port }), (error: unknown) => {
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
