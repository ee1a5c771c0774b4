/**
 * Contention simulated and live, side by side: failed trylocks, waits for mmap_sem, lateness and CPU of boot-storm with
 * 50 to 1000 guests, of accounting-stress and of mixed-fleet, all under variant D. Writes
 * bench/results/contention.json.
 *
 *   node dist/bench/contention.bench.js [rounds, default 1] [part of a name, default all]
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RunResults } from '../src/report/results.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const rounds = Number(process.argv[2] ?? 1);
const part = process.argv[3] ?? '';

const CASES: readonly (readonly [name: string, scenario: string, set: readonly string[]])[] = [
  ...[50, 200, 500, 1000].map(
    (guests) =>
      [
        `boot-storm ${guests}`,
        'boot-storm',
        [`guests.small.count=${guests * 0.8}`, `guests.large.count=${guests * 0.2}`],
      ] as const,
  ),
  ['accounting-stress', 'accounting-stress', []],
  ['mixed-fleet', 'mixed-fleet', []],
];

interface Side {
  readonly exit: number;
  readonly trylocks: number;
  readonly failed: number;
  readonly failedShare: number;
  readonly readWaits: number;
  readonly readWaitMeanNs: number;
  readonly writeWaits: number;
  readonly writeWaitMeanNs: number;
  readonly latenessP99Ms: number | null;
  readonly saturated: boolean;
  /** Of the command and all its processes. */
  readonly cpuSeconds: number;
  readonly seconds: number;
}

/** Runs the command; bash tells what it and its children used. */
function side(directory: string, command: 'simulate' | 'run', scenario: string, set: readonly string[]): Side {
  const args = [MAIN, command, scenario, '--variant', 'D', '--json', '--quiet', '--out', directory];
  for (const key of set) args.push('--set', key);
  const script = 'TIMEFORMAT="%R %U %S"; time "$@"';
  const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', process.execPath, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const [seconds = NaN, user = NaN, system = NaN] = (stderr.trimEnd().split('\n').at(-1) ?? '').split(' ').map(Number);
  if (stdout === '') throw new Error(`${command} ${scenario} printed no results: ${stderr}`);
  const { counters, split, health, verdict } = RunResults.parse(JSON.parse(stdout));
  const [trylocks = 0, failed = 0] = [counters['trylock_attempts'], counters['trylock_failures']];
  const [read, write] = [split.lockWait['mmap_read'], split.lockWait['mmap_write']];
  return {
    exit: verdict.exitCode,
    trylocks,
    failed,
    failedShare: failed / trylocks,
    readWaits: read?.count ?? 0,
    readWaitMeanNs: read?.meanNs ?? 0,
    writeWaits: write?.count ?? 0,
    writeWaitMeanNs: write?.meanNs ?? 0,
    latenessP99Ms: health.lateness === null ? null : health.lateness.p99Ns / 1e6,
    saturated: health.saturated,
    cpuSeconds: user + system,
    seconds,
  };
}

const percent = (share: number): string => `${(share * 100).toFixed(3)} %`;
const waits = (n: number, meanNs: number): string => `${n} x ${(meanNs / 1000).toFixed(1)} us`;

const directory = mkdtempSync(join(tmpdir(), 'pin-contention-'));
try {
  const rows = [];
  for (const [name, scenario, set] of CASES.filter(([text]) => text.includes(part))) {
    const simulated = side(directory, 'simulate', scenario, set);
    for (let round = 0; round < rounds; round += 1) {
      const loadBefore = loadavg()[0];
      const live = side(directory, 'run', scenario, set);
      rows.push({ name, loadBefore, simulated, live });
      const show = (what: string, s: Side): string =>
        `  ${what}: ${percent(s.failedShare)} of ${s.trylocks} trylocks failed, read waits ${waits(s.readWaits, s.readWaitMeanNs)}, ` +
        `write waits ${waits(s.writeWaits, s.writeWaitMeanNs)}, CPU ${s.cpuSeconds.toFixed(1)} s in ${s.seconds.toFixed(1)} s`;
      const late = `p99 lateness ${(live.latenessP99Ms ?? NaN).toFixed(2)} ms${live.saturated ? ', saturated' : ''}, exit ${live.exit}`;
      const ratio = `live / simulated ${(live.failedShare / simulated.failedShare).toFixed(2)}`;
      process.stdout.write(`${name}: ${ratio}\n${show('simulated', simulated)}\n${show('live', live)}, ${late}\n`);
    }
  }
  mkdirSync('bench/results', { recursive: true });
  const machine = { cpus: cpus().length, model: cpus()[0]?.model ?? 'unknown', node: process.version };
  writeFileSync('bench/results/contention.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
