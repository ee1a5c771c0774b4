/**
 * Trylock and account: chunks per second through the whole MAP_DMA path of the model on the wall driver, beside a bare loop
 * of the same atomic operations on the same kind of words. One and two threads, in turns within one run, best of the rounds.
 * Writes bench/results/account.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import type { GuestPlan, RunPlan } from '../src/engine/guest-plan.ts';
import { DEFAULT_PROFILE } from '../src/engine/profile.ts';
import { actualSeries, Op, Outcome } from '../src/metrics/ops.ts';
import type { DeferredUpdate } from '../src/worker/emulator-api.ts';
import { WallEmulator } from '../src/worker/emulator.ts';

const ROUNDS = 5;
const BARE_OPS = 20_000_000;
const GUEST_PAGES = 2 ** 20;

/** The words of one trylock, update and unlock: compare-exchange, 64-bit read and write, subtract. */
function bareLoop(buffer: SharedArrayBuffer, ops: number): number {
  const i32 = new Int32Array(buffer);
  const u64 = new BigUint64Array(buffer);
  let failures = 0;
  for (let n = 0; n < ops; n += 1) {
    if (Atomics.compareExchange(i32, 0, 0, 1) === 0) {
      u64[8] = (u64[8] as bigint) + BigInt(1);
      Atomics.sub(i32, 0, 1);
    } else {
      failures += 1;
    }
  }
  return failures;
}

async function bare(threads: number): Promise<{ opsPerSecond: number; failureRatio: number }> {
  const buffer = new SharedArrayBuffer(4096);
  const started = await Promise.all(
    Array.from({ length: threads }, () => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { buffer, ops: BARE_OPS } });
      return new Promise<{ seconds: number; failures: number }>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    }),
  );
  const seconds = Math.max(...started.map((r) => r.seconds));
  const failures = started.reduce((n, r) => n + r.failures, 0);
  return { opsPerSecond: (BARE_OPS * threads) / seconds, failureRatio: failures / (BARE_OPS * threads) };
}

/** MAP_DMA of 4 KiB scattered memory, one actor and one container a thread, all in one mm, at pace 0. */
async function modelled(threads: number): Promise<{ opsPerSecond: number; failureRatio: number }> {
  const guest: GuestPlan = {
    index: 0,
    class: 'bench',
    seed: 1,
    startNs: 0,
    durationNs: null,
    memory: { bytes: GUEST_PAGES * 4096, backing: 'anon4k', contiguityPages: 1, populated: true },
    memlockBytes: null,
    capIpcLock: true,
    iommu: 'type1v2',
    containers: threads,
    actors: Array.from({ length: threads }, (_, i) => ({
      name: `mapper-${i}`,
      task: i === 0 ? ('main' as const) : ('thread' as const),
      workload: 'map-unmap',
      options: { pages: GUEST_PAGES, slots: 1, stop_on_failure: true, container: i },
      arrival: { kind: 'closed' as const, options: {} },
      startNs: 0,
      iterations: 8,
    })),
  };
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
    expect: [],
    thresholds: [],
    guests: [guest],
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
        await Promise.all(batch.map((update) => emulator.applyDeferred(update)));
      }
      busy = false;
    };
    void drain();
  });
  const outcome = await emulator.startGuest(guest, 0, Date.now());
  if (outcome.state !== 'completed') throw new Error(`the guest ${outcome.state}: ${outcome.error ?? ''}`);
  const stats = emulator.snapshot();
  const report = await emulator.quiesce();
  if (report.violations.some((v) => v.invariant === 'balance')) throw new Error('the account does not balance');
  await emulator.close();
  const attempts = stats.counter('trylock_attempts');
  const map = stats.data.get(actualSeries(Op.map, Outcome.ok));
  const mapSeconds = (map?.sumNs ?? 0) / 1e9 / threads;
  return {
    opsPerSecond: stats.counter('chunks') / mapSeconds,
    failureRatio: stats.counter('trylock_failures') / attempts,
  };
}

if (!isMainThread) {
  const { buffer, ops } = workerData as { buffer: SharedArrayBuffer; ops: number };
  bareLoop(new SharedArrayBuffer(4096), 2_000_000);
  const { parentPort } = await import('node:worker_threads');
  const start = process.hrtime.bigint();
  const failures = bareLoop(buffer, ops);
  parentPort?.postMessage({ seconds: Number(process.hrtime.bigint() - start) / 1e9, failures });
} else {
  const rows = [];
  for (const threads of [1, 2]) {
    let bareBest = { opsPerSecond: 0, failureRatio: 0 };
    let modelBest = { opsPerSecond: 0, failureRatio: 0 };
    for (let round = 0; round < ROUNDS; round += 1) {
      const b = await bare(threads);
      const m = await modelled(threads);
      if (b.opsPerSecond > bareBest.opsPerSecond) bareBest = b;
      if (m.opsPerSecond > modelBest.opsPerSecond) modelBest = m;
    }
    const ratio = modelBest.opsPerSecond / bareBest.opsPerSecond;
    rows.push({ threads, bare: bareBest, model: modelBest, ratio });
    process.stdout.write(
      `${threads} thread(s): bare ${(bareBest.opsPerSecond / 1e6).toFixed(1)} M/s (${(bareBest.failureRatio * 100).toFixed(3)} % fail), ` +
        `model ${(modelBest.opsPerSecond / 1e6).toFixed(1)} M/s (${(modelBest.failureRatio * 100).toFixed(3)} % fail), ratio ${ratio.toFixed(2)}\n`,
    );
  }
  mkdirSync('bench/results', { recursive: true });
  const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model ?? 'unknown', node: process.version };
  writeFileSync('bench/results/account.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
}
