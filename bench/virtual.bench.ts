/**
 * The virtual driver under contention, beside SimPy in the same run: 16, 128 and 1024 actors over a quarter as many
 * locks, each repeating {work 15 360 ns, hold the write lock 20 ns, work 200 ns}. Here that is what `pinstorm simulate`
 * does with guests of four helper threads each that pin one buffer of scattered 4 KiB pages (workload parallel-pin,
 * variant E): a chunk is two look-ups of a page, the write section that charges it, and its entry in the IOMMU. Such a
 * lock is busy 0.5 % of the time; a second set of rows has one that is busy 60 % of it (with constant times the threads
 * soon fall in step there too). Also the same with every step an event, to show what running ahead gains. Writes
 * bench/results/virtual.json.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import type { HostTask } from '../src/emulator/host-result.ts';
import { simulateHost } from '../src/emulator/host-run.ts';
import type { GuestPlan } from '../src/engine/plan.ts';
import { DEFAULT_PROFILE } from '../src/engine/profile.ts';

const ROUNDS = 5;
const PYTHON = '/usr/bin/python3';

/** ns before, in and after the lock. */
type Loop = readonly [before: number, hold: number, after: number];
const QUIET: Loop = [15_360, 20, 200];
const BUSY: Loop = [1_000, 200, 100];
const THREADS = 4;
const PAGE = 4096;

/** Work, the lock, the hold, its release, work: what SimPy's process goes through as well. */
const STEPS_PER_CHUNK = 5;

function taskOf(actors: number, [before, hold, after]: Loop, chunks: number, stepByStep: boolean): HostTask {
  const pages = Math.round(chunks / actors) * THREADS;
  const guests = Array.from({ length: actors / THREADS }, (_, index): GuestPlan => ({
    index,
    class: 'pinners',
    seed: index,
    startNs: 0,
    durationNs: null,
    memory: { bytes: pages * PAGE, backing: 'anon4k', contiguityPages: 1, populated: true },
    memlockBytes: null,
    capIpcLock: false,
    iommu: 'type1v2',
    containers: THREADS,
    actors: Array.from({ length: THREADS }, (_unused, part) => ({
      name: `pin-${part}`,
      task: part === 0 ? ('main' as const) : ('thread' as const),
      workload: 'parallel-pin',
      options: { of: THREADS, part, unmap: false, piece: (pages / THREADS) * PAGE },
      arrival: { kind: 'closed', options: {} },
      startNs: 0,
      iterations: 1,
    })),
  }));
  const none = Object.fromEntries(Object.keys(DEFAULT_PROFILE.costNs).map((name) => [name, 0]));
  return {
    plan: {
      format: 1,
      name: 'contended',
      seed: 1,
      variant: 'E',
      pace: 1,
      durationNs: null,
      profile: {
        name: 'contended',
        calibrated: false,
        costNs: {
          ...DEFAULT_PROFILE.costNs,
          ...none,
          time_slice: 3e6,
          wake_up: 5000,
          spin_handover: 30,
          gup_fast_page: before / 2,
          rwsem_unlock: hold,
          iommu_map_4k: after,
        },
      },
      faults: {},
      deferred: { batch: 100, flushMs: 1 },
      host: { count: 1, cpus: null },
      expect: [],
      thresholds: [],
      hash: '0123456789abcdef0123',
    },
    guests,
    stepByStep,
  };
}

interface Timed {
  readonly chunksPerSecond: number;
  readonly stepsPerSecond: number;
  readonly nsPerStep: number;
}

/** The best of some rounds; the time of building the guests is in it. */
function simulated(actors: number, loop: Loop, chunks: number, stepByStep: boolean): Timed {
  let best = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const task = taskOf(actors, loop, chunks, stepByStep);
    const start = process.hrtime.bigint();
    const result = simulateHost(task);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    if (result.error !== null || result.guestsFinished !== task.guests.length) throw new Error(result.error ?? 'stuck');
    best = Math.max(best, (Math.round(chunks / actors) * actors) / seconds);
  }
  const stepsPerSecond = best * STEPS_PER_CHUNK;
  return { chunksPerSecond: best, stepsPerSecond, nsPerStep: 1e9 / stepsPerSecond };
}

function simpy(actors: number, loop: Loop): number {
  let most = 0;
  const periodNs = loop.reduce((sum, ns) => sum + ns, 0);
  for (let round = 0; round < 3; round += 1) {
    const untilNs = Math.round((100_000 / actors) * periodNs);
    const out = execFileSync(PYTHON, ['bench/peers/simpy_locks.py', ...[actors, untilNs, ...loop].map(String)], {
      encoding: 'utf8',
    });
    const { chunks, seconds } = JSON.parse(out) as { chunks: number; seconds: number };
    most = Math.max(most, chunks / seconds);
  }
  return most;
}

function compare(actors: number, loop: Loop, chunks: number): object {
  const peer = simpy(actors, loop);
  const product = simulated(actors, loop, chunks, false);
  const eventPerStep = simulated(actors, loop, 100_000, true);
  const timesSimpy = product.chunksPerSecond / peer;
  const m = (n: number): string => `${(n / 1e6).toFixed(2)} M/s`;
  process.stdout.write(
    `${actors} actors, ${loop.join(' + ')} ns: SimPy ${(peer / 1e3).toFixed(0)} k chunks/s; pinstorm ${m(product.chunksPerSecond)} (x${timesSimpy.toFixed(0)}), ` +
      `${m(product.stepsPerSecond)} steps, ${product.nsPerStep.toFixed(0)} ns a step; every step an event: ${m(eventPerStep.chunksPerSecond)}\n`,
  );
  return { actors, loopNs: loop, simpyChunksPerSecond: peer, product, timesSimpy, eventPerStep };
}

const rows = [
  ...[16, 128, 1024].map((actors) => compare(actors, QUIET, 8_000_000)),
  ...[16, 128, 1024].map((actors) => compare(actors, BUSY, 4_000_000)),
];
mkdirSync('bench/results', { recursive: true });
const machine = {
  cpus: os.cpus().length,
  model: os.cpus()[0]?.model ?? 'unknown',
  node: process.version,
  load: os.loadavg()[0],
};
writeFileSync('bench/results/virtual.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
