/**
 * A worker process of a run: registers, pulls guests, runs them on the emulator, applies deferred updates, and reports.
 * Everything it says is numbered or names a guest's incarnation, so that a message that arrives twice counts once.
 */
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { machineFailure } from '../base/machine-failure.ts';
import { VERSION } from '../base/version.ts';
import type { CreateEmulator, Emulator } from '../emulator/emulator.ts';
import { measureCapacity } from '../emulator/measure.ts';
import { WallEmulator } from '../emulator/wall-emulator.ts';
import type { RunPlan } from '../engine/plan.ts';
import { monotonicMs } from '../engine/wall/clock.ts';
import type { MetricSources } from '../metrics/exposition.ts';
import { type MetricsServer, serveMetrics } from '../metrics/metrics-server.ts';
import { encodeSnapshot, liveView } from '../metrics/snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { type Identity, takeName } from '../wire/claims.ts';
import { runKeys, type RunKeys } from '../wire/keys.ts';
import { ControlMessage, type Interval, orphanMs, type RunRecord } from '../wire/messages.ts';
import { deferredQueue, type QueueTiming } from '../wire/queue.ts';
import { Receipts } from '../wire/receipts.ts';
import { RedisClock } from '../wire/redis-clock.ts';
import { openRedis, redisFailure, type RedisTarget } from '../wire/redis.ts';
import { removeRemains } from '../wire/runs.ts';
import { StreamReader } from '../wire/streams.ts';
import { DeferredPipeline } from './deferred.ts';
import { Fate, toError } from './fate.ts';
import { loadPlan } from './find-run.ts';
import { Mailbox } from './mailbox.ts';
import { SliceRunner } from './slice-runner.ts';

export interface WorkerOptions {
  readonly target: RedisTarget;
  readonly runId: string;
  /** The process that started it will start the run: wait for that. */
  readonly expected?: boolean;
  /** What it wants to be called in the run; another worker of that name makes it that with a number. */
  readonly workerId: string;
  readonly threads: number;
  /** Guests at a time. */
  readonly capacity: number | 'measured';
  /** Serves this worker's own metrics; undefined: not at all. */
  readonly metricsPort?: number | undefined;
  /** Address of that port; default: only this machine. */
  readonly metricsHost?: string | undefined;
  /** Asks the worker to leave the run before its end. */
  readonly leave?: AbortSignal;
  readonly createEmulator?: CreateEmulator;
}

const INTERVAL_MS = 1000;

const DRAIN_MS = 30_000;

/** Between comparisons of the clocks. */
const CLOCK_MS = 10_000;

/** What is left to say or to tidy up at the end may take this long; Redis may be gone. */
const FAREWELL_MS = 2000;

/** Runs until the coordinator says it is over. @throws UserError 113 when the worker cannot go on. */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const redis = openRedis(options.target, 'finite');
  try {
    const [plan, record] = await loadPlan(redis, options);
    const identity = await takeName(redis, runKeys(options.target.prefix, options.runId), options.workerId);
    const capacity = options.capacity === 'measured' ? await measureCapacity(plan, options.threads) : options.capacity;
    const emulator = await (options.createEmulator ?? WallEmulator.create)({ plan, threads: options.threads });
    const worker = new Worker({ ...options, capacity }, identity, redis, plan, record, emulator);
    let metrics: MetricsServer | undefined;
    try {
      if (options.metricsPort !== undefined) {
        const { metricsPort: port, metricsHost: host } = options;
        metrics = await serveMetrics(worker.metricSources(), { port, host });
      }
      await worker.run();
    } finally {
      await metrics?.close();
      await worker.close();
      await withTime(removeRemains(redis, options.target.prefix, options.runId));
    }
  } catch (error) {
    throw redisFailure(options.target, error) ?? error;
  } finally {
    redis.disconnect();
  }
}

class Worker {
  readonly #options: WorkerOptions & { readonly capacity: number };
  readonly #identity: Identity;
  readonly #redis: Redis;
  readonly #plan: RunPlan;
  readonly #record: RunRecord;
  readonly #emulator: Emulator;
  readonly #keys: RunKeys;
  readonly #receipts: Receipts;
  readonly #control: StreamReader<ControlMessage>;
  readonly #deferred: DeferredPipeline;
  readonly #loop = monitorEventLoopDelay({ resolution: 10 });
  readonly #clock: RedisClock;
  readonly #fate = new Fate();
  readonly #mailbox: Mailbox;
  readonly #runner: SliceRunner;
  #seq = 0;
  #over = false;
  #leaving = false;
  #marks = 0;
  readonly #watchdog: NodeJS.Timeout;
  /** A pool thread ended while it had no guest. */
  #threadLoss: Error | undefined;

  constructor(
    options: WorkerOptions & { readonly capacity: number },
    identity: Identity,
    redis: Redis,
    plan: RunPlan,
    record: RunRecord,
    emulator: Emulator,
  ) {
    this.#options = options;
    this.#identity = identity;
    this.#redis = redis;
    this.#plan = plan;
    this.#record = record;
    this.#emulator = emulator;
    const { target, runId } = options;
    const { name: worker, token } = identity;
    this.#keys = runKeys(target.prefix, runId);
    this.#receipts = new Receipts(redis);
    this.#receipts.field(this.#keys.workers, worker, token);
    this.#clock = new RedisClock(redis);
    this.#mailbox = new Mailbox(redis, this.#keys, this.#receipts, this.#fate);
    const timing = jobTiming(record);
    this.#runner = new SliceRunner({
      target,
      runId,
      timing,
      identity,
      plan,
      redis,
      keys: this.#keys,
      receipts: this.#receipts,
      clock: this.#clock,
      mailbox: this.#mailbox,
      emulator,
      fate: this.#fate,
    });
    this.#control = new StreamReader(openRedis(target, 'finite'), [this.#keys.control], ControlMessage);
    this.#deferred = new DeferredPipeline(target, deferredQueue(target.prefix, runId, worker), emulator, {
      ...plan.deferred,
      timing,
      isLive: ({ guest, incarnation }) => this.#runner.isLive(guest, incarnation),
      onFailure: (error) => this.#fate.fail(error),
    });
    emulator.onMark = ({ guest, incarnation, label, value }) => {
      this.#marks += 1;
      this.#mailbox.post({ t: 'mark', worker, seq: this.#marks, guest, incarnation, label, value });
    };
    emulator.failure.catch((error: unknown) => this.#threadEnded(error));
    this.#loop.enable();
    const patienceMs = orphanMs(record);
    // Commands can wait for long on a network that is cut.
    this.#watchdog = setInterval(() => {
      if (monotonicMs() - this.#mailbox.contactAtMs > patienceMs) this.#fate.fail(new Error('Redis is out of reach'));
    }, 500);
  }

  async run(): Promise<void> {
    const { capacity, threads, leave } = this.#options;
    const worker = this.#identity.name;
    const clock = await this.#clock.read();
    await this.#mailbox.send({
      t: 'register',
      worker,
      host: hostname(),
      pid: process.pid,
      version: VERSION,
      planHash: this.#plan.hash,
      capacity,
      threads,
      clockOffsetMs: clock.skewMs,
      roundTripMs: clock.roundTripMs,
    });
    const beatMs = Math.min(INTERVAL_MS, this.#record.leaseMs / 4);
    let nextBeatAt = performance.now();
    try {
      while (!this.#over) {
        const waitMs = Math.max(1, Math.min(250, Math.ceil(nextBeatAt - performance.now())));
        const messages = await this.#fate.orEnd(this.#control.read(waitMs));
        this.#mailbox.contactAtMs = monotonicMs();
        for (const message of messages) await this.#obey(message);
        if (this.#over) break;
        const leaves = leave?.aborted === true || this.#threadLoss !== undefined;
        if (leaves && !this.#leaving) await this.#fate.orEnd(this.#leave());
        if (performance.now() >= nextBeatAt || this.#runner.idle) {
          this.#runner.idle = false;
          await this.#fate.orEnd(this.#beat());
          nextBeatAt = performance.now() + beatMs;
        }
      }
    } catch (error) {
      if (this.#fate.failure === undefined) throw error;
      const known = redisFailure(this.#options.target, this.#fate.failure) ?? machineFailure(this.#fate.failure);
      const { message } = known ?? this.#fate.failure;
      await withTime(this.#mailbox.send({ t: 'trouble', worker, error: message.slice(0, 2000) }));
      throw known ?? new UserError(EXIT.inconclusive, `the worker failed: ${message}`, null);
    }
    if (this.#threadLoss === undefined) return;
    const what = `the worker left the run: a pool thread without guests ended: ${this.#threadLoss.message}`;
    throw new UserError(EXIT.inconclusive, what, 'what it measured counts');
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
    clearInterval(this.#watchdog);
    this.#runner.abandon();
    this.#loop.disable();
    this.#control.close();
    await withTime(this.#runner.close());
    await withTime(this.#deferred.close());
    await withTime(this.#emulator.close());
  }

  async #obey(message: ControlMessage): Promise<void> {
    switch (message.t) {
      case 'start':
        await this.#clock.read();
        this.#runner.startAtMs = message.startAtMs - this.#clock.toRedisMs;
        break;
      case 'share':
        if (Object.hasOwn(message.jobs, this.#identity.name)) {
          this.#runner.take(message.jobs[this.#identity.name] ?? 0);
        }
        break;
      case 'stop':
        this.#runner.stopping = true;
        this.#emulator.stopGuests();
        break;
      case 'finish':
        await this.#fate.orEnd(this.#finish());
        break;
      case 'exit':
        this.#over = true;
        break;
    }
  }

  #interval(): Interval {
    const p99 = this.#loop.percentile(99);
    const cpu = process.cpuUsage();
    this.#seq += 1;
    return {
      t: 'interval',
      worker: this.#identity.name,
      seq: this.#seq,
      states: this.#emulator.states(),
      ended: this.#runner.ended,
      snapshot: encodeSnapshot(this.#emulator.snapshot()),
      violations: Object.fromEntries(this.#emulator.violationCounts),
      driftPages: String(this.#emulator.driftPages()),
      backlog: this.#deferred.backlog,
      oldestAgeSeconds: this.#deferred.oldestAgeSeconds,
      eventLoopDelayP99Ns: Number.isFinite(p99) ? p99 : 0,
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      clockOffsetMs: monotonicMs() + this.#clock.toRedisMs - Date.now(),
    };
  }

  async #beat(): Promise<void> {
    await this.#mailbox.try(this.#interval());
    if (monotonicMs() - this.#clock.readAtMs > CLOCK_MS) await this.#clock.read();
    const [fenced, aliveAt] = await Promise.all([
      this.#redis.hexists(this.#keys.fenced, this.#identity.name),
      this.#redis.get(this.#keys.alive),
    ]);
    this.#mailbox.contactAtMs = monotonicMs();
    if (fenced === 1) this.#fate.fail(new Error('the coordinator declared it lost'));
    if (!this.#mailbox.removed) await this.#look();
    if (aliveAt !== null && !this.#mailbox.removed) return;
    // If the run has ended, the exit message is already in the stream.
    for (const message of await this.#control.read(200)) await this.#obey(message);
    if (!this.#over)
      this.#fate.fail(new Error(this.#mailbox.removed ? 'Redis has lost the run' : 'the coordinator is gone'));
  }

  /** Another worker may run what this one thinks is its own, and what it said may never be heard: it cannot go on. */
  async #look(): Promise<void> {
    if (await this.#receipts.intact()) return;
    throw this.#fate.fail(new Error('Redis came back without the latest it had taken'));
  }

  /**
   * Asked to end. With guests unfinished the coordinator has all of them run elsewhere; otherwise the account is
   * closed.
   */
  async #leave(): Promise<void> {
    this.#leaving = true;
    this.#runner.closing = true;
    // What is being claimed may be ours in a moment.
    await this.#runner.claimed();
    if (this.#runner.live === 0) {
      await this.#finish();
    } else {
      await this.#mailbox.posted;
      await this.#mailbox.send({ t: 'leave', worker: this.#identity.name });
    }
    this.#over = true;
  }

  async #finish(): Promise<void> {
    this.#leaving = true;
    this.#runner.closing = true;
    this.#runner.stopping = true;
    await withTime(this.#runner.close());
    const deferred = await this.#deferred.drain(DRAIN_MS);
    this.#runner.flushOutcomes();
    await this.#mailbox.posted;
    const { checked, violationCount, violations } = await this.#emulator.quiesce();
    await this.#look();
    await this.#mailbox.send({
      t: 'final',
      worker: this.#identity.name,
      checked,
      violationCount,
      violations: violations.map(({ invariant, guest, detail }) => ({ invariant, guest, detail })),
      deferred,
      refusedJobs: this.#runner.refusedJobs,
      repeatedJobs: this.#runner.repeatedJobs,
      last: this.#interval(),
    });
  }

  /** Nothing depends on a thread without guests: the account is closed, and the worker takes no more. */
  #threadEnded(error: unknown): void {
    if (this.#runner.live > 0 || this.#runner.claiming) {
      this.#fate.fail(error);
      return;
    }
    this.#threadLoss = toError(error);
    this.#runner.closing = true;
  }
}

/** A job's lock holds as long as a silent worker is waited for: then its guests are another's anyway. */
const jobTiming = ({ leaseMs }: RunRecord): QueueTiming => ({
  lockDurationMs: Math.max(1000, leaseMs),
  stalledIntervalMs: Math.max(500, leaseMs / 2),
});

/** What Redis may keep us from must not keep the process. */
async function withTime(work: Promise<unknown>): Promise<void> {
  const ended = new AbortController();
  await Promise.race([work.catch(() => {}), pause(FAREWELL_MS, undefined, { signal: ended.signal }).catch(() => {})]);
  ended.abort();
}
