/**
 * A worker process of a run: registers, pulls guests, runs them on the emulator, applies deferred updates, and reports.
 * Everything it says is numbered or names a guest's incarnation, so that a message that arrives twice counts once.
 */
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import {
  claimSlice,
  ControlMessage,
  fetchPlan,
  GuestJob,
  jobFits,
  listRuns,
  post,
  postInterval,
  runKeys,
  StreamReader,
  type RunKeys,
} from '../coordinator/protocol.ts';
import { deferredQueue, guestQueue, openConsumer, type JobConsumer, type QueueTiming } from '../coordinator/queue.ts';
import { clockOffset, isConnectionError, openRedis, type RedisTarget } from '../coordinator/redis.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { createRegistry, serveMetrics, type MetricSources, type MetricsServer } from '../metrics/exposition.ts';
import { encodeSnapshot, liveView } from '../metrics/snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { planHash } from '../scenario/plan.ts';
import { DeferredPipeline } from './deferred.ts';
import type { CreateEmulator, Emulator, GuestOutcome } from './emulator-api.ts';
import { WallEmulator } from './emulator.ts';

export interface WorkerOptions {
  readonly target: RedisTarget;
  readonly runId: string;
  /** Unique within the run; a worker that comes back takes a new one. */
  readonly workerId: string;
  readonly threads: number;
  /** Guests at a time. */
  readonly capacity: number;
  /** Serves this worker's own metrics; undefined: not at all. */
  readonly metricsPort?: number | undefined;
  /** Address of that port; default: only this machine. */
  readonly metricsHost?: string | undefined;
  readonly timing?: QueueTiming | undefined;
  readonly createEmulator?: CreateEmulator;
}

const INTERVAL_MS = 1000;
/** Outcomes of guests that end within this time travel together. */
const OUTCOME_BATCH_MS = 20;
const DRAIN_MS = 30_000;
/** Without a coordinator for this long, the worker gives up. */
const ORPHAN_MS = 60_000;

/** Runs until the coordinator says it is over. Throws UserError 113 when the worker cannot go on. */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const redis = openRedis(options.target, 'finite');
  try {
    const plan = await loadPlan(redis, options);
    const emulator = await (options.createEmulator ?? WallEmulator.create)({ plan, threads: options.threads });
    const node = new Node(options, redis, plan, emulator);
    let metrics: MetricsServer | undefined;
    try {
      if (options.metricsPort !== undefined) {
        const { metricsPort: port, metricsHost: host } = options;
        metrics = await serveMetrics(createRegistry(node.metricSources()), { port, host });
      }
      await node.run();
    } catch (error) {
      if (error instanceof Error && isConnectionError(error)) {
        throw new UserError(EXIT.inconclusive, `Redis at ${options.target.label} was lost`);
      }
      throw error;
    } finally {
      await metrics?.close();
      await node.close();
    }
  } finally {
    redis.disconnect();
  }
}

/** Waits until there is a run whose coordinator is alive. Looks twice a second. */
export async function awaitRun(target: RedisTarget, signal: AbortSignal): Promise<string> {
  const redis = openRedis(target, 'finite');
  try {
    for (;;) {
      for (const runId of (await listRuns(redis)).keys()) {
        // What a crash left behind has no coordinator that says it is alive.
        if ((await redis.exists(runKeys(runId).alive)) === 1) return runId;
      }
      await pause(500, undefined, { signal });
    }
  } finally {
    redis.disconnect();
  }
}

async function loadPlan(redis: Redis, { runId, target }: WorkerOptions): Promise<RunPlan> {
  const record = (await listRuns(redis)).get(runId);
  const plan = record === undefined ? null : await fetchPlan(redis, runId);
  if (record === undefined || plan === null) {
    throw new UserError(
      EXIT.inconclusive,
      `there is no run ${runId} at ${target.label}`,
      'start the coordinator first',
    );
  }
  if (record.version !== VERSION) {
    throw new UserError(
      EXIT.invalid,
      `the coordinator of run ${runId} is pinstorm ${record.version}, this worker is ${VERSION}`,
      'use the same version on all machines',
    );
  }
  const { hash, ...rest } = plan;
  if (hash !== record.planHash || planHash(rest) !== hash) {
    throw new UserError(EXIT.inconclusive, `the plan of run ${runId} does not match its hash`, 'start the run again');
  }
  return plan;
}

class Node {
  readonly #options: WorkerOptions;
  readonly #redis: Redis;
  readonly #plan: RunPlan;
  readonly #emulator: Emulator;
  readonly #keys: RunKeys;
  readonly #control: StreamReader<ControlMessage>;
  readonly #deferred: DeferredPipeline;
  readonly #loop = monitorEventLoopDelay({ resolution: 10 });
  readonly #live = new Map<number, number>();
  #guests: JobConsumer | undefined;
  #startAtMs = 0;
  #offsetMs = 0;
  #seq = 0;
  #stopping = false;
  #over = false;
  #refusedJobs = 0;
  #repeatedJobs = 0;
  #outcomes: GuestOutcome[] = [];
  #outcomeTimer: NodeJS.Timeout | undefined;
  #posts: Promise<void> = Promise.resolve();
  #failure: Error | undefined;

  constructor(options: WorkerOptions, redis: Redis, plan: RunPlan, emulator: Emulator) {
    this.#options = options;
    this.#redis = redis;
    this.#plan = plan;
    this.#emulator = emulator;
    this.#keys = runKeys(options.runId);
    this.#control = new StreamReader(openRedis(options.target, 'finite'), [this.#keys.control], ControlMessage);
    this.#deferred = new DeferredPipeline(options.target, deferredQueue(options.runId, options.workerId), emulator, {
      ...plan.deferred,
      timing: options.timing,
      isLive: (update) => this.#live.get(update.guest) === update.incarnation,
    });
    emulator.onMark = ({ guest, incarnation, label, value }) =>
      this.#post({ t: 'mark', worker: options.workerId, guest, incarnation, label, value });
    emulator.failure.catch((error: unknown) => this.#fail(error));
    this.#loop.enable();
  }

  async run(): Promise<void> {
    const { workerId: worker, capacity, threads } = this.#options;
    const clock = await clockOffset(this.#redis);
    this.#offsetMs = clock.offsetMs;
    await post(this.#redis, this.#keys.events, {
      t: 'register',
      worker,
      host: hostname(),
      pid: process.pid,
      version: VERSION,
      planHash: this.#plan.hash,
      capacity,
      threads,
      clockOffsetMs: clock.offsetMs,
      roundTripMs: clock.roundTripMs,
    });
    let nextBeatAt = performance.now();
    for (;;) {
      const messages = await this.#control.read(Math.max(1, Math.ceil(nextBeatAt - performance.now())));
      for (const message of messages) await this.#obey(message);
      if (this.#over) return;
      if (performance.now() >= nextBeatAt) {
        await this.#beat();
        nextBeatAt = Math.max(nextBeatAt + INTERVAL_MS, performance.now());
      }
      this.#failure ??= this.#deferred.failure;
      if (this.#failure !== undefined) {
        const text = this.#failure.stack ?? this.#failure.message;
        await post(this.#redis, this.#keys.events, { t: 'trouble', worker, error: text.slice(0, 2000) });
        throw new UserError(EXIT.inconclusive, `the worker failed: ${this.#failure.message}`);
      }
    }
  }

  metricSources(): MetricSources {
    const { blocks } = this.#emulator;
    const [block] = blocks;
    if (block === undefined) throw new Error('an emulator without statistics');
    const { name: scenario, variant, pace, profile, expect } = this.#plan;
    return {
      run: { runId: this.#options.runId, scenario, variant, pace, profile, version: VERSION, expect },
      role: 'worker',
      stats: liveView(block.layout, blocks),
      gauges: () => ({
        deferredBacklog: this.#deferred.backlog,
        deferredOldestAgeSeconds: this.#deferred.oldestAgeSeconds,
        lockedVmDriftPages: Math.abs(Number(this.#emulator.driftPages())),
        invariantViolations: {
          ...Object.fromEntries(INVARIANTS.map((name) => [name, 0])),
          ...Object.fromEntries(this.#emulator.violationCounts),
        },
        guests: this.#emulator.states(),
        threads: this.#emulator.threads,
        // Judged over the whole run, by the coordinator.
        saturated: false,
      }),
    };
  }

  async close(): Promise<void> {
    clearTimeout(this.#outcomeTimer);
    this.#loop.disable();
    this.#control.close();
    await this.#guests?.close(true);
    await this.#deferred.close();
    await this.#emulator.close();
  }

  async #obey(message: ControlMessage): Promise<void> {
    const { workerId: worker } = this.#options;
    switch (message.t) {
      case 'start':
        this.#startAtMs = message.startAtMs - this.#offsetMs;
        this.#take(Object.hasOwn(message.jobs, worker) ? (message.jobs[worker] ?? 0) : message.late);
        break;
      case 'stop':
        this.#stopping = true;
        this.#emulator.stopGuests();
        break;
      case 'finish':
        await this.#finish();
        break;
      case 'exit':
        this.#over = true;
        break;
    }
  }

  #take(concurrency: number): void {
    if (this.#guests !== undefined || concurrency === 0) return;
    const { target, runId, timing } = this.#options;
    this.#guests = openConsumer(target, guestQueue(runId), { concurrency, timing }, (_id, data) =>
      this.#runSlice(data),
    );
  }

  async #runSlice(data: unknown): Promise<void> {
    const parsed = GuestJob.safeParse(data);
    if (!parsed.success || !jobFits(parsed.data, this.#plan.guests.length)) {
      this.#refusedJobs++;
      return;
    }
    const job = parsed.data;
    const claim = await claimSlice(this.#redis, this.#keys, job, this.#options.workerId);
    if (claim !== 'ok') {
      if (claim === 'forged') this.#refusedJobs++;
      else this.#repeatedJobs++;
      return;
    }
    const { from, to, incarnation } = job;
    await Promise.all(this.#plan.guests.slice(from, to).map((guest) => this.#runGuest(guest, incarnation)));
  }

  async #runGuest(guest: RunPlan['guests'][number], incarnation: number): Promise<void> {
    this.#live.set(guest.index, incarnation);
    let outcome: GuestOutcome;
    const unrun = { guest: guest.index, incarnation, operations: 0, failedOperations: 0, lockedVmAfterPages: '0' };
    if (this.#stopping) {
      outcome = { ...unrun, state: 'stopped' };
    } else {
      try {
        outcome = await this.#emulator.startGuest(guest, incarnation, this.#startAtMs);
      } catch (error) {
        outcome = { ...unrun, state: 'failed', error: error instanceof Error ? error.message : String(error) };
      }
    }
    this.#live.delete(guest.index);
    if (outcome.error !== undefined) outcome = { ...outcome, error: outcome.error.slice(0, 2000) };
    this.#outcomes.push(outcome);
    this.#outcomeTimer ??= setTimeout(() => this.#flushOutcomes(), OUTCOME_BATCH_MS);
  }

  #flushOutcomes(): void {
    clearTimeout(this.#outcomeTimer);
    this.#outcomeTimer = undefined;
    if (this.#outcomes.length === 0) return;
    this.#post({ t: 'outcomes', worker: this.#options.workerId, outcomes: this.#outcomes });
    this.#outcomes = [];
  }

  /** Posts in order, repeats until Redis takes it: an outcome must not get lost. */
  #post(message: Parameters<typeof post>[2]): void {
    const previous = this.#posts;
    this.#posts = this.#postAfter(previous, message);
  }

  async #postAfter(previous: Promise<void>, message: Parameters<typeof post>[2]): Promise<void> {
    await previous;
    for (let attempt = 0; attempt < 5 && this.#failure === undefined; attempt++) {
      try {
        await post(this.#redis, this.#keys.events, message);
        return;
      } catch (error) {
        if (attempt === 4) this.#fail(error);
      }
    }
  }

  async #beat(): Promise<void> {
    const { workerId: worker } = this.#options;
    const p99 = this.#loop.percentile(99);
    const cpu = process.cpuUsage();
    const redisNowMs = Date.now() + this.#offsetMs;
    await postInterval(
      this.#redis,
      this.#keys,
      {
        t: 'interval',
        worker,
        seq: ++this.#seq,
        states: this.#emulator.states(),
        snapshot: encodeSnapshot(this.#emulator.snapshot()),
        violations: Object.fromEntries(this.#emulator.violationCounts),
        driftPages: String(this.#emulator.driftPages()),
        backlog: this.#deferred.backlog,
        oldestAgeSeconds: this.#deferred.oldestAgeSeconds,
        eventLoopDelayP99Ns: Number.isFinite(p99) ? p99 : 0,
        residentBytes: process.memoryUsage.rss(),
        cpuSeconds: (cpu.user + cpu.system) / 1e6,
      },
      redisNowMs,
    );
    const [fenced, aliveAt] = await Promise.all([
      this.#redis.hexists(this.#keys.fenced, worker),
      this.#redis.get(this.#keys.alive),
    ]);
    if (fenced === 1) this.#fail(new Error('the coordinator declared it lost'));
    if (aliveAt === null || redisNowMs - Number(aliveAt) > ORPHAN_MS) this.#fail(new Error('the coordinator is gone'));
  }

  async #finish(): Promise<void> {
    this.#stopping = true;
    await this.#guests?.close(true);
    const deferred = await this.#deferred.drain(DRAIN_MS);
    this.#flushOutcomes();
    await this.#posts;
    const { checked, violationCount, violations } = await this.#emulator.quiesce();
    await this.#beat();
    await post(this.#redis, this.#keys.events, {
      t: 'final',
      worker: this.#options.workerId,
      checked,
      violationCount,
      violations: violations.map(({ invariant, guest, detail }) => ({ invariant, guest, detail })),
      deferred: { ...deferred, missing: deferred.missing.map(([a, b]) => [a, b]) },
      refusedJobs: this.#refusedJobs + (this.#guests?.unreadable ?? 0),
      repeatedJobs: this.#repeatedJobs,
    });
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error));
  }
}
