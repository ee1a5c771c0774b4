/**
 * The virtual driver under contention, beside SimPy in the same run: 16, 128 and 1024 actors over a quarter as many locks, each
 * repeating {work 15 360 ns, hold the write lock 20 ns, work 200 ns}. Writes bench/results/virtual.json.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { generic, hot, type Contended } from './contended.ts';

const ROUNDS = 5;
const PYTHON = '/usr/bin/python3';
/** Simulated chunks a round, about. */
const CHUNKS = 2_000_000;
const PERIOD_NS = 15_580;

interface Timed {
  readonly chunksPerSecond: number;
  readonly stepsPerSecond: number;
}

function best(run: (c: Contended) => { chunks: number; steps: number }, c: Contended): Timed {
  let chunksPerSecond = 0;
  let stepsPerSecond = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    const { chunks, steps } = run(c);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    chunksPerSecond = Math.max(chunksPerSecond, chunks / seconds);
    stepsPerSecond = Math.max(stepsPerSecond, steps / seconds);
  }
  return { chunksPerSecond, stepsPerSecond };
}

function simpy(actors: number): number {
  let most = 0;
  for (let round = 0; round < 3; round += 1) {
    const untilNs = Math.round((100_000 / actors) * PERIOD_NS);
    const out = execFileSync(PYTHON, ['bench/peers/simpy_locks.py', String(actors), String(untilNs)], {
      encoding: 'utf8',
    });
    const { chunks, seconds } = JSON.parse(out) as { chunks: number; seconds: number };
    most = Math.max(most, chunks / seconds);
  }
  return most;
}

const rows = [16, 128, 1024].map((actors) => {
  const c: Contended = { actors, untilNs: Math.round((CHUNKS / actors) * PERIOD_NS) };
  const peer = simpy(actors);
  const driver = best(generic, c);
  const fast = best(hot, c);
  const row = {
    actors,
    simpyChunksPerSecond: peer,
    generators: { ...driver, timesSimpy: driver.chunksPerSecond / peer },
    hot: { ...fast, timesSimpy: fast.chunksPerSecond / peer, nsPerStep: 1e9 / fast.stepsPerSecond },
  };
  const m = (n: number): string => `${(n / 1e6).toFixed(2)} M/s`;
  process.stdout.write(
    `${actors} actors: SimPy ${(peer / 1e3).toFixed(0)} k chunks/s; generators ${m(driver.chunksPerSecond)} (x${row.generators.timesSimpy.toFixed(0)}); ` +
      `hot form ${m(fast.chunksPerSecond)} (x${row.hot.timesSimpy.toFixed(0)}), ${m(fast.stepsPerSecond)} steps, ${row.hot.nsPerStep.toFixed(0)} ns a step\n`,
  );
  return row;
});
mkdirSync('bench/results', { recursive: true });
const machine = {
  cpus: os.cpus().length,
  model: os.cpus()[0]?.model ?? 'unknown',
  node: process.version,
  load: os.loadavg()[0],
};
writeFileSync('bench/results/virtual.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
