/**
 * 1000 guests for 60 simulated seconds on 16 hosts of 64 CPUs: time and memory of one thread, of two threads, and of
 * two processes that share the hosts. Writes bench/results/fleet.json. `node dist/bench/fleet.bench.js 10s` shortens
 * the run.
 *
 * On a machine with other work two threads get twice the share of one, which makes them look better than they are; so
 * beside the ratio of the times stands what the CPU time says: the work of one thread over that of the busier of two,
 * with the parts that only one does.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { simulateAll } from '../src/emulator/host-pool.ts';
import { hostTasks } from '../src/emulator/host-result.ts';
import { REGISTRY } from '../src/run/registry.ts';
import { virtualResults } from '../src/run/simulated-results.ts';
import { planRun } from '../src/scenario/plan.ts';
import { resolveScenario } from '../src/scenario/validate.ts';
import { parsedFile } from '../test/scenario/read.ts';

const SELF = fileURLToPath(import.meta.url);

/** What one process did. Times in seconds. */
interface Measured {
  readonly planSeconds: number;
  readonly simulateSeconds: number;
  readonly resultSeconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  readonly operations: number;
  readonly events: number;
}

async function simulatePart(duration: string, threads: number, part: number, of: number): Promise<Measured> {
  const start = performance.now();
  const origin = { kind: 'flag' as const, text: 'bench' };
  const resolved = resolveScenario(parsedFile('bench/fleet.yaml'), REGISTRY, [
    { path: 'duration', value: duration, origin },
  ]);
  const plan = planRun(resolved, REGISTRY);
  const tasks = hostTasks(plan).filter((_, i) => i % of === part);
  const planned = performance.now();
  const hosts = await simulateAll(tasks, { threads });
  const simulated = performance.now();
  const results = virtualResults(plan, hosts);
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return {
    planSeconds: (planned - start) / 1e3,
    simulateSeconds: (simulated - planned) / 1e3,
    resultSeconds: (performance.now() - simulated) / 1e3,
    cpuSeconds: (userCPUTime + systemCPUTime) / 1e6,
    peakBytes: maxRSS * 1024,
    operations: results.latency.reduce((sum, { actual }) => sum + (actual?.count ?? 0), 0),
    events: hosts.reduce((sum, { events }) => sum + events, 0),
  };
}

/** Runs this file in processes that share the hosts, all at once. */
async function run(duration: string, threads: number, processes: number) {
  const start = performance.now();
  const parts = await Promise.all(
    Array.from({ length: processes }, (_, part) => {
      const args = [SELF, 'part', duration, String(threads), String(part), String(processes)];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      let out = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
      return new Promise<Measured>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code) => {
          if (code === 0) resolve(JSON.parse(out) as Measured);
          else reject(new Error(`a part ended with ${code}`));
        });
      });
    }),
  );
  const wallSeconds = (performance.now() - start) / 1e3;
  const sum = (of: (one: Measured) => number): number => parts.reduce((n, one) => n + of(one), 0);
  return {
    threads,
    processes,
    wallSeconds,
    cpuSeconds: sum((one) => one.cpuSeconds),
    busiestCpuSeconds: Math.max(...parts.map((one) => one.cpuSeconds)),
    peakBytes: sum((one) => one.peakBytes),
    operations: sum((one) => one.operations),
    events: sum((one) => one.events),
    parts,
  };
}

if (process.argv[2] === 'part') {
  const [duration = '', threads, part, of] = process.argv.slice(3);
  process.stdout.write(JSON.stringify(await simulatePart(duration, Number(threads), Number(part), Number(of))));
} else {
  const duration = process.argv[2] ?? '60s';
  const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model ?? 'unknown', node: process.version };
  const loadBefore = os.loadavg()[0];
  const rows = [await run(duration, 1, 1), await run(duration, 2, 1), await run(duration, 1, 2)];
  const [one, threads, processes] = rows;
  if (one === undefined || threads === undefined || processes === undefined) throw new Error('three rows');
  for (const row of rows) {
    const memory = `${(row.peakBytes / 2 ** 20).toFixed(0)} MiB`;
    process.stdout.write(
      `${row.processes} x ${row.threads} threads: ${row.wallSeconds.toFixed(1)} s, CPU ${row.cpuSeconds.toFixed(1)} s, ${memory}, ` +
        `${row.operations} operations, times one ${(one.wallSeconds / row.wallSeconds).toFixed(2)}\n`,
    );
  }
  const speedUp = {
    twoThreads: one.wallSeconds / threads.wallSeconds,
    twoProcesses: one.wallSeconds / processes.wallSeconds,
    /** By CPU time, which other work on the machine does not change. */
    twoProcessesByCpu: one.cpuSeconds / processes.busiestCpuSeconds,
  };
  process.stdout.write(`two processes by CPU time: ${speedUp.twoProcessesByCpu.toFixed(2)} times one\n`);
  mkdirSync('bench/results', { recursive: true });
  const results = { machine, loadBefore, loadAfter: os.loadavg()[0], duration, rows, speedUp };
  writeFileSync('bench/results/fleet.json', `${JSON.stringify(results, null, 2)}\n`);
}
