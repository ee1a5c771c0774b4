/**
 * Trylock and account: chunks per second through the whole MAP_DMA path of the model on the wall driver, beside a bare
 * loop of the same atomic operations on the same kind of words: one thread, two threads with an address space each, and
 * two threads in one address space. There the bare loop just counts its failed trylocks, while the model hands each to
 * a work item that is applied under the write lock. In turns within one run, best of the rounds. Writes
 * bench/results/account.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { DeferredUpdate } from '../src/engine/wall/wall-control.ts';
import { WallEmulator } from '../src/emulator/wall-emulator.ts';
import type { GuestPlan, RunPlan } from '../src/engine/plan.ts';
import { DEFAULT_PROFILE } from '../src/engine/profile.ts';
import { monotonicMs } from '../src/engine/wall/clock.ts';
import { actualSeries, Op, Outcome } from '../src/metrics/ops.ts';

const ROUNDS = 3;
const BARE_OPS = 20_000_000;
const GUEST_PAGES = 2 ** 20;
const LINE_WORDS = 64;

interface Rate {
  readonly opsPerSecond: number;
  readonly failureRatio: number;
}

/** The words of one trylock, update and unlock: compare-exchange, 64-bit read and write, subtract. */
function bareLoop(buffer: SharedArrayBuffer, at: number, ops: number): number {
  const i32 = new Int32Array(buffer);
  const u64 = new BigUint64Array(buffer);
  const v = (at >> 1) + 4;
  let failures = 0;
  for (let n = 0; n < ops; n += 1) {
    if (Atomics.compareExchange(i32, at, 0, 1) === 0) {
      u64[v] = (u64[v] as bigint) + BigInt(1);
      Atomics.sub(i32, at, 1);
    } else {
      failures += 1;
    }
  }
  return failures;
}

async function bare(threads: number, oneMm: boolean): Promise<Rate> {
  const buffer = new SharedArrayBuffer(4096);
  const results = await Promise.all(
    Array.from({ length: threads }, (_, i) => {
      const at = oneMm ? 0 : i * LINE_WORDS;
      const worker = new Worker(new URL(import.meta.url), { workerData: { buffer, at, ops: BARE_OPS } });
      return new Promise<{ seconds: number; failures: number }>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    }),
  );
  const seconds = Math.max(...results.map((r) => r.seconds));
  const failures = results.reduce((n, r) => n + r.failures, 0);
  return { opsPerSecond: (BARE_OPS * threads) / seconds, failureRatio: failures / (BARE_OPS * threads) };
}

function guestOf(index: number, actors: number): GuestPlan {
  return {
    index,
    class: 'bench',
    seed: 1,
    startNs: 0,
    durationNs: null,
    memory: { bytes: GUEST_PAGES * 4096, backing: 'anon4k', contiguityPages: 1, populated: true },
    memlockBytes: null,
    capIpcLock: true,
    iommu: 'type1v2',
    containers: actors,
    actors: Array.from({ length: actors }, (_, i) => ({
      name: `mapper-${i}`,
      task: i === 0 ? ('main' as const) : ('thread' as const),
      workload: 'map-unmap',
      options: { pages: GUEST_PAGES, slots: 1, stop_on_failure: true, container: i },
      arrival: { kind: 'closed' as const, options: {} },
      startNs: 0,
      iterations: actors > 1 ? 2 : 8,
    })),
  };
}

/** MAP_DMA of 4 KiB scattered memory at pace 0: one actor and one container a thread, in one mm or each in its own. */
async function modelled(threads: number, oneMm: boolean): Promise<Rate> {
  const plan: RunPlan = {
    format: 1,
    name: 'account-bench',
    seed: 1,
    variant: 'D',
    pace: 0,
    durationNs: null,
    profile: DEFAULT_PROFILE,
    faults: {},
    deferred: { batch: 100, flushMs: 1 },
    host: { count: 1, cpus: null },
    expect: [],
    thresholds: [],
    guests: oneMm ? [guestOf(0, threads)] : Array.from({ length: threads }, (_, i) => guestOf(i, 1)),
    hash: '',
  };
  const emulator = await WallEmulator.create({ plan, threads });
  const batch: DeferredUpdate[] = [];
  let busy = false;
  emulator.onDeferred(() => {
    if (busy) return;
    busy = true;
    const drain = async (): Promise<void> => {
      for (batch.length = 0; emulator.drainDeferred(1000, batch) > 0; batch.length = 0) {
        await Promise.all(batch.map(async (update) => emulator.applyDeferred(update)));
      }
      busy = false;
    };
    void drain();
  });
  const start = monotonicMs() + 500;
  const outcomes = await Promise.all(plan.guests.map((guest) => emulator.startGuest(guest, 0, start)));
  for (const o of outcomes) if (o.state !== 'completed') throw new Error(`a guest ${o.state}: ${o.error ?? ''}`);
  const stats = emulator.snapshot();
  const report = await emulator.quiesce();
  if (report.violations.some((v) => v.invariant === 'balance')) throw new Error('the account does not balance');
  await emulator.close();
  const map = stats.data.get(actualSeries(Op.map, Outcome.ok));
  const mapSeconds = (map?.sumNs ?? 0) / 1e9 / threads;
  const failureRatio = stats.counter('trylock_failures') / stats.counter('trylock_attempts');
  return { opsPerSecond: stats.counter('chunks') / mapSeconds, failureRatio };
}

if (isMainThread) {
  const rows = [];
  for (const [threads, oneMm] of [
    [1, true],
    [2, false],
    [2, true],
  ] as const) {
    let bareBest: Rate = { opsPerSecond: 0, failureRatio: 0 };
    let modelBest: Rate = { opsPerSecond: 0, failureRatio: 0 };
    for (let round = 0; round < ROUNDS; round += 1) {
      const b = await bare(threads, oneMm);
      const m = await modelled(threads, oneMm);
      if (b.opsPerSecond > bareBest.opsPerSecond) bareBest = b;
      if (m.opsPerSecond > modelBest.opsPerSecond) modelBest = m;
    }
    const ratio = modelBest.opsPerSecond / bareBest.opsPerSecond;
    rows.push({ threads, oneMm, bare: bareBest, model: modelBest, ratio });
    const show = (r: Rate): string =>
      `${(r.opsPerSecond / 1e6).toFixed(1)} M/s (${(r.failureRatio * 100).toFixed(3)} % fail)`;
    const what = `${threads} thread${threads > 1 ? 's' : ''}, ${oneMm ? 'one mm' : 'an mm each'}`;
    process.stdout.write(`${what}: bare ${show(bareBest)}, model ${show(modelBest)}, ratio ${ratio.toFixed(2)}\n`);
  }
  mkdirSync('bench/results', { recursive: true });
  const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model ?? 'unknown', node: process.version };
  writeFileSync('bench/results/account.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
} else {
  const { buffer, at, ops } = workerData as { buffer: SharedArrayBuffer; at: number; ops: number };
  bareLoop(new SharedArrayBuffer(4096), 0, 2_000_000);
  const start = process.hrtime.bigint();
  const failures = bareLoop(buffer, at, ops);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  parentPort?.postMessage({ seconds: Number(process.hrtime.bigint() - start) / 1e9, failures });
}
