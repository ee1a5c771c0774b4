/**
 * Speed-up of two workers over one: the same guests, as fast as they go, by `pinstorm run` with one worker process and
 * with two, of one thread each, in turn. Writes bench/results/speedup.json.
 *
 *   node dist/bench/speedup.bench.js [rounds, default 5]
 *
 * With two cores, the coordinator, Redis and the main threads of the workers take from the second worker what it could
 * have used: 2 is out of reach, and each of them is in the figure.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RunResults } from '../src/report/results.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const rounds = Number(process.argv[2] ?? 5);

/** Bounded by its operations: one worker or two, the same work. */
const SCENARIO = `name: speedup
variant: E
pace: 0
guests:
  - class: busy
    count: 32
    containers: 2
    cap_ipc_lock: true
    memory: { size: 16MiB, backing: anon4k }
    actors:
      - { name: one, task: thread, workload: map-unmap, options: { pages: 64 pages, container: 0 }, iterations: 20000 }
      - { name: two, task: thread, workload: map-unmap, options: { pages: 64 pages, container: 1 }, iterations: 20000 }
`;

interface Once {
  readonly seconds: number;
  readonly operations: number;
}

function once(directory: string, workers: number): Once {
  const args = [MAIN, 'run', 's.yaml', '--workers', `${workers}`, '--threads', '1', '--json', '--quiet'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: directory,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(`ended with ${status}: ${stderr}`);
  const results = RunResults.parse(JSON.parse(stdout));
  const operations = results.latency.reduce((sum, { actual }) => sum + (actual?.count ?? 0), 0);
  return { seconds: results.durationNs / 1e9, operations };
}

const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

const directory = mkdtempSync(join(tmpdir(), 'pin-speedup-'));
try {
  writeFileSync(join(directory, 's.yaml'), SCENARIO);
  const loadBefore = loadavg()[0];
  once(directory, 2);
  const pairs = Array.from({ length: rounds }, () => ({ one: once(directory, 1), two: once(directory, 2) }));
  const ratios = pairs.map(({ one, two }) => one.seconds / two.seconds);
  const result = {
    benchmark: 'speedup',
    machine: { cpus: cpus().length, model: cpus()[0]?.model, node: process.version },
    loadBefore,
    loadAfter: loadavg()[0],
    operations: pairs[0]?.one.operations,
    sameOperations: pairs.every(({ one, two }) => one.operations === two.operations),
    oneSeconds: middle(pairs.map(({ one }) => one.seconds)),
    twoSeconds: middle(pairs.map(({ two }) => two.seconds)),
    speedUp: { least: Math.min(...ratios), median: middle(ratios), most: Math.max(...ratios) },
    pairs,
  };
  mkdirSync('bench/results', { recursive: true });
  writeFileSync('bench/results/speedup.json', `${JSON.stringify(result, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify({ ...result, pairs: undefined }, null, 2)}\n`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
