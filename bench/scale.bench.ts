/**
 * What a worker costs the Redis and the coordinator it shares with others: 1 to 7 worker processes against one Redis,
 * up to 200 whose messages are repeated under other names, and a model of 10, 100 and 1000 from the costs. Writes
 * bench/results/scale.json; docs/scale.md explains it.
 *
 *   node dist/bench/scale.bench.js [workers, default 7] [seconds of each window, default 4]
 *
 * All is CPU time and counts taken from the kernel and from Redis over the same window, while every worker runs its
 * guests: on a machine with few cores workers slow one another down, but what one of them costs does not change.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { startPrivateRedis } from '../src/coordinator/private-redis.ts';
import { statsLayout } from '../src/engine/stats-layout.ts';
import { decodeSnapshot } from '../src/metrics/read-snapshot.ts';
import { Snapshot } from '../src/metrics/snapshot.ts';
import { WorkerMessage } from '../src/wire/messages.ts';
import { openRedis } from '../src/wire/redis.ts';
import { fit, simulate } from './scale-model.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const most = Number(process.argv[2] ?? 7);
const windowMs = Number(process.argv[3] ?? 4) * 1000;
const GUESTS_PER_WORKER = 4;

/**
 * A guest like those of scenarios/boot-storm.yaml once it has booted. D defers updates when a trylock fails, E never
 * does.
 */
const scenario = (guests: number, variant: 'D' | 'E'): string => `name: scale
variant: ${variant}
expect: [wrap, over-penalty]
guests:
  - class: guest
    count: ${guests}
    containers: 2
    cap_ipc_lock: true
    memory: { size: 64MiB }
    duration: 120s
    actors:
      - { name: vcpu, count: 2, workload: fault, options: { pages: 512 pages, area: 64MiB }, arrival: { kind: poisson, rate: 20/s } }
      - { name: locker, workload: mlock-loop, options: { pages: 64 pages }, arrival: { kind: constant, rate: 10/s } }
      - { name: dma-0, workload: map-unmap, options: { pages: 64 pages, slots: 4, container: 0 }, arrival: { kind: poisson, rate: 20/s } }
      - { name: dma-1, workload: map-unmap, options: { pages: 64 pages, slots: 4, container: 1 }, arrival: { kind: poisson, rate: 20/s } }
`;

/** CPU seconds of a process since its start. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  // utime and stime, in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

interface Load {
  readonly intervals: number;
  readonly redisCpu: number;
  readonly commands: number;
  readonly inBytes: number;
  readonly outBytes: number;
  readonly coordinatorCpu: number;
  readonly workersCpu: number;
  /** Calls of BullMQ's scripts. */
  readonly scripts: number;
}

async function loadOf(redis: Redis, coordinator: ChildProcess, workers: readonly ChildProcess[]): Promise<Load> {
  const info = await redis.info();
  const field = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? NaN);
  const all = await redis.info('commandstats');
  // BullMQ does everything by scripts.
  const calls = Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(all)?.[1] ?? 0);
  const stream = (await redis.xinfo('STREAM', '{pinstorm:scale}:intervals')) as unknown[];
  return {
    intervals: Number(stream[stream.indexOf('entries-added') + 1]),
    redisCpu: field('used_cpu_user') + field('used_cpu_sys'),
    commands: field('total_commands_processed'),
    inBytes: field('total_net_input_bytes'),
    outBytes: field('total_net_output_bytes'),
    coordinatorCpu: cpuSeconds(coordinator.pid ?? 0),
    workersCpu: workers.reduce((sum, { pid }) => sum + cpuSeconds(pid ?? 0), 0),
    scripts: calls,
  };
}

/** CPU seconds to read, check and merge one interval, as the coordinator does for each worker and second. */
function mergeSeconds(text: string): number {
  const layout = statsLayout({ thresholds: [] });
  const sum = new Snapshot(layout);
  const mergeOnce = (): void => {
    const message = WorkerMessage.parse(JSON.parse(text));
    if (message.t !== 'interval') throw new Error('not an interval');
    sum.add(decodeSnapshot(layout, message.snapshot));
  };
  for (let i = 0; i < 100; i++) mergeOnce();
  const before = process.cpuUsage();
  for (let i = 0; i < 500; i++) mergeOnce();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6 / 500;
}

/**
 * `n` more workers without guests, as the coordinator sees them: what the first one said, once a second under other
 * names. They stand for machines that are not there. @returns stops them.
 */
async function echo(redis: Redis, n: number): Promise<() => void> {
  const events = await redis.xrange('{pinstorm:scale}:events', '-', '+');
  const register = events.map(([, fields]) => fields[1] ?? '').find((text) => text.includes('"t":"register"')) ?? '';
  const names = Array.from({ length: n }, (_, i) => `echo${i}`);
  for (const name of names) {
    await redis.xadd('{pinstorm:scale}:events', '*', 'm', register.replace('"worker":"w0"', `"worker":"${name}"`));
  }
  const [last] = await redis.xrevrange('{pinstorm:scale}:intervals', '+', '-', 'COUNT', 1);
  const interval = last?.[1][1] ?? '';
  let seq = 1_000_000;
  let next = 0;
  // Spread over the second, as workers are.
  const timer = setInterval(
    () => {
      for (let i = 0; i < Math.max(1, n / 50); i++) {
        const name = names[next++ % n] ?? '';
        const text = interval.replace(/"worker":"w0"/, `"worker":"${name}"`).replace(/"seq":\d+/, `"seq":${++seq}`);
        void redis.xadd('{pinstorm:scale}:intervals', 'MAXLEN', '~', 4000, '*', 'm', text);
      }
    },
    1000 / Math.min(n, 50),
  );
  return () => clearInterval(timer);
}

async function measure(n: number, guests: number, variant: 'D' | 'E', echoes = 0) {
  const server = await startPrivateRedis();
  const redis = openRedis(server.target, 'finite');
  const directory = mkdtempSync(join(tmpdir(), 'pin-scale-'));
  const children: ChildProcess[] = [];
  let stopEchoes = (): void => {};
  try {
    writeFileSync(join(directory, 's.yaml'), scenario(guests, variant));
    const env = { ...process.env, PINSTORM_REDIS: server.target.url };
    const start = (...args: string[]): ChildProcess => {
      const child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, env, stdio: 'ignore' });
      children.push(child);
      return child;
    };
    const coordinator = start('coordinator', 's.yaml', '--run', 'scale', '--min-workers', String(n), '--quiet');
    while ((await redis.llen('{pinstorm:scale}:guests:wait')) === 0) await pause(20);
    const began = performance.now();
    const workers = Array.from({ length: n }, (_, i) =>
      start('worker', '--threads', '1', '--capacity', '1000', '--name', `w${i}`),
    );
    const states = async (): Promise<number> => redis.llen('{pinstorm:scale}:guests:active');
    while ((await states()) < Math.min(guests, 512)) await pause(20);
    const gatherSeconds = (performance.now() - began) / 1000;
    // The guests' start and the workers' warm-up are over.
    await pause(2000);
    if (echoes > 0) {
      stopEchoes = await echo(redis, echoes);
      await pause(2000);
    }
    const before = await loadOf(redis, coordinator, workers);
    const from = performance.now();
    await pause(windowMs);
    const after = await loadOf(redis, coordinator, workers);
    const seconds = (performance.now() - from) / 1000;
    const rate = (key: keyof Load): number => (after[key] - before[key]) / seconds;
    const entries = await redis.xrevrange('{pinstorm:scale}:intervals', '+', '-', 'COUNT', 4 * n);
    const sample = entries.map(([, fields]) => fields[1] ?? '').find((text) => text.length > 100);
    merges.push(mergeSeconds(sample ?? ''));
    const sizes = entries.map(([, fields]) => fields[1]?.length ?? 0).filter((size) => size > 100);
    return {
      variant,
      workers: n,
      echoes,
      guests,
      gatherSeconds,
      intervalsPerSecond: rate('intervals'),
      redisCpuShare: rate('redisCpu'),
      commandsPerSecond: rate('commands'),
      scriptsPerSecond: rate('scripts'),
      inBytesPerSecond: rate('inBytes'),
      outBytesPerSecond: rate('outBytes'),
      coordinatorCpuShare: rate('coordinatorCpu'),
      workersCpuShare: rate('workersCpu'),
      intervalBytes: sizes.reduce((sum, size) => sum + size, 0) / Math.max(1, sizes.length),
    };
  } finally {
    stopEchoes();
    const ends = children.filter(({ exitCode }) => exitCode === null).map((child) => once(child, 'close'));
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(ends);
    redis.disconnect();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

const merges: number[] = [];
const loadBefore = loadavg()[0];
async function noted(n: number, guests: number, variant: 'D' | 'E', echoes = 0) {
  const row = await measure(n, guests, variant, echoes);
  process.stdout.write(`${JSON.stringify(row)}\n`);
  return row;
}
const rows = [];
for (let n = 1; n <= most; n++) rows.push(await noted(n, n * GUESTS_PER_WORKER, 'E'));
// One worker with five times the guests: what a guest costs, apart from what a worker does.
const crowded = await noted(1, 5 * GUESTS_PER_WORKER, 'E');
const echoed = [];
for (const echoes of [10, 30, 100, 200]) echoed.push(await noted(1, GUESTS_PER_WORKER, 'E', echoes));
const deferring = [];
for (const n of [1, Math.min(3, most)]) deferring.push(await noted(n, n * GUESTS_PER_WORKER, 'D'));
const first = rows[0];
if (first === undefined) throw new Error('no worker was measured');
// Against intervals, of which a worker sends one a second: on a busy machine they come late, and what one costs stays.
const perWorker = {
  redisCpu: fit(rows.map((r) => [r.intervalsPerSecond, r.redisCpuShare])),
  // Where it has much to do: with few workers it is mostly its waking up that is measured.
  coordinatorCpu: fit(echoed.map((r) => [r.intervalsPerSecond, r.coordinatorCpuShare])),
  commandsPerSecond: fit(rows.map((r) => [r.intervalsPerSecond, r.commandsPerSecond])),
  inBytesPerSecond: fit(rows.map((r) => [r.intervalsPerSecond, r.inBytesPerSecond])),
  outBytesPerSecond: fit(rows.map((r) => [r.intervalsPerSecond, r.outBytesPerSecond])),
};
const last = deferring.at(-1) ?? crowded;
const quiet = rows[last.workers - 1] ?? first;
const deferredScripts = (last.scriptsPerSecond - quiet.scriptsPerSecond) / last.workers;
const deferredRedisCpu = (last.redisCpuShare - quiet.redisCpuShare) / last.workers;
const merge = merges.toSorted((a, b) => a - b)[merges.length >> 1] ?? 0;
const guestCpu = (crowded.workersCpuShare - first.workersCpuShare) / (crowded.guests - first.guests);
const result = {
  benchmark: 'scale',
  node: process.version,
  cpu: cpus()[0]?.model,
  cpus: cpus().length,
  loadBefore,
  loadAfter: loadavg()[0],
  windowSeconds: windowMs / 1000,
  guestsPerWorker: GUESTS_PER_WORKER,
  rows,
  crowded,
  echoed,
  deferring,
  perWorker,
  /** CPU seconds a second of one guest at pace 1. */
  guestCpu,
  /** CPU seconds to merge one interval: the median of those measured beside each row. */
  mergeSeconds: merge,
  /** What deferring adds, for each worker: calls of BullMQ's scripts, CPU seconds of Redis; and of one call. */
  deferred: {
    scriptsPerSecond: deferredScripts,
    redisCpu: deferredRedisCpu,
    scriptSeconds: deferredRedisCpu / deferredScripts,
  },
  intervalBytes: rows.at(-1)?.intervalBytes,
  simulated: [0, deferredRedisCpu].flatMap((extra) =>
    [10, 100, 1000].map((workers) => ({
      deferring: extra > 0,
      ...simulate(workers, {
        redisCpu: perWorker.redisCpu.slope + extra,
        coordinatorCpu: perWorker.coordinatorCpu.slope,
        coordinatorBase: Math.max(0, perWorker.coordinatorCpu.intercept),
      }),
    })),
  ),
};
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/scale.json', `${JSON.stringify(result, null, 2)}\n`);
process.stdout.write(`${JSON.stringify({ ...result, rows: undefined }, null, 2)}\n`);
process.exit(0);
