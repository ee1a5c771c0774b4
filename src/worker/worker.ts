/**
 * A worker process of a run: registers, pulls guests, runs them on the emulator, applies deferred updates, and reports.
 * Everything it says is numbered or names a guest's incarnation, so that a message that arrives twice counts once.
 */
import { hostname } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { Interruption } from '../base/interruption.ts';
import { machineFailure } from '../base/machine-failure.ts';
import { VERSION } from '../base/version.ts';
import type { CreateEmulator, Emulator, GuestOutcome } from '../emulator/emulator.ts';
import { measureCapacity } from '../emulator/measure.ts';
import { WallEmulator } from '../emulator/wall-emulator.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { monotonicMs } from '../engine/wall/clock.ts';
import { createRegistry, type MetricSources } from '../metrics/exposition.ts';
import { type MetricsServer, serveMetrics } from '../metrics/metrics-server.ts';
import { encodeSnapshot, liveView } from '../metrics/snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { type Claim, claimOf, claimSlice, type Identity, takeName } from '../wire/claims.ts';
import { runKeys, type RunKeys } from '../wire/keys.ts';
import {
  ControlMessage,
  GuestJob,
  type Interval,
  orphanMs,
  type RunRecord,
  type WorkerMessage,
} from '../wire/messages.ts';
import { planSlices } from '../wire/plan-slices.ts';
import { deferredQueue, guestQueue, type JobConsumer, openConsumer } from '../wire/queue.ts';
import { Receipts } from '../wire/receipts.ts';
import { clockOffset, type ClockOffset, isFull, openRedis, redisFailure, type RedisTarget } from '../wire/redis.ts';
import { removeRemains } from '../wire/runs.ts';
import { post, StreamReader } from '../wire/streams.ts';
import { DeferredPipeline } from './deferred.ts';
import { loadPlan } from './find-run.ts';

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

/** Outcomes of guests that end within this time travel together. */
const OUTCOME_BATCH_MS = 20;
const DRAIN_MS = 30_000;

/** Guests that are taken so much later than they were due begin anew from there. */
const LATE_MS = 250;

/** Between comparisons of the clocks. */
const CLOCK_MS = 10_000;

/** Between attempts to write to a Redis whose memory is full. */
const FULL_RETRY_MS = 200;

/** What is left to say or to tidy up at the end may take this long; Redis may be gone. */
const FAREWELL_MS = 2000;

/** Runs until the coordinator says it is over. Throws UserError 113 when the worker cannot go on. */
export async function runWorker(options: WorkerOptions): Promise<void> {
  const redis = openRedis(options.target, 'finite');
  try {
    const [plan, record] = await loadPlan(redis, options);
    const identity = await takeName(redis, runKeys(options.target.prefix, options.runId), options.workerId);
    const capacity = options.capacity === 'measured' ? await measureCapacity(plan, options.threads) : options.capacity;
    const emulator = await (options.createEmulator ?? WallEmulator.create)({ plan, threads: options.threads });
    const node = new Node({ ...options, capacity }, identity, redis, plan, record, emulator);
    let metrics: MetricsServer | undefined;
    try {
      if (options.metricsPort !== undefined) {
        const { metricsPort: port, metricsHost: host } = options;
        metrics = await serveMetrics(createRegistry(node.metricSources()), { port, host });
      }
      await node.run();
    } finally {
      await metrics?.close();
      await node.close();
      await withTime(removeRemains(redis, options.target.prefix, options.runId));
    }
  } catch (error) {
    throw redisFailure(options.target, error) ?? error;
  } finally {
    redis.disconnect();
  }
}

class Node {
  readonly #options: WorkerOptions & { readonly capacity: number };
  readonly #identity: Identity;
  readonly #redis: Redis;
  readonly #plan: RunPlan;
  readonly #slices: readonly (readonly number[])[];
  readonly #record: RunRecord;
  readonly #emulator: Emulator;
  readonly #keys: RunKeys;
  readonly #receipts: Receipts;
  readonly #control: StreamReader<ControlMessage>;
  readonly #deferred: DeferredPipeline;
  readonly #loop = monitorEventLoopDelay({ resolution: 10 });
  readonly #live = new Map<number, number>();
  readonly #guests: JobConsumer[] = [];
  /** Slices at a time, of all consumers. */
  #slots = 0;
  /** The run's start on the monotonic clock, ms. */
  #startAtMs = 0;
  /** What to add to the monotonic clock to get that of Redis, ms. */
  #toRedisMs = 0;
  #seq = 0;
  #stopping = false;
  #over = false;
  /** The run is not in Redis any more. */
  #removed = false;
  #leaving = false;
  #refusedJobs = 0;
  #repeatedJobs = 0;
  #marks = 0;
  /** Slices claimed, `slice:incarnation`, and claims under way. */
  readonly #claimed = new Set<string>();
  readonly #claiming = new Set<Promise<unknown>>();
  #clockReadAtMs = 0;
  #outcomes: GuestOutcome[] = [];
  /** Guests of which it has told, or is about to. */
  #ended = 0;
  /** Its last guest has ended since the last interval: once its figures are told, nothing depends on this worker. */
  #idle = false;
  #outcomeTimer: NodeJS.Timeout | undefined;
  #posts: Promise<void> = Promise.resolve();
  /** When Redis last answered, on the monotonic clock, ms. */
  #contactAtMs = monotonicMs();
  readonly #watchdog: NodeJS.Timeout;
  #failure: Error | undefined;
  /** A pool thread ended while it had no guest. */
  #threadLoss: Error | undefined;
  readonly #interruption = new Interruption();

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
    this.#slices = planSlices(plan);
    this.#record = record;
    this.#emulator = emulator;
    const { target, runId } = options;
    const { name: worker, token } = identity;
    this.#keys = runKeys(target.prefix, runId);
    this.#receipts = new Receipts(redis);
    this.#receipts.field(this.#keys.workers, worker, token);
    this.#control = new StreamReader(openRedis(target, 'finite'), [this.#keys.control], ControlMessage);
    this.#deferred = new DeferredPipeline(target, deferredQueue(target.prefix, runId, worker), emulator, {
      ...plan.deferred,
      timing: this.#timing(),
      isLive: (update) => this.#live.get(update.guest) === update.incarnation,
      onFailure: (error) => this.#fail(error),
    });
    emulator.onMark = ({ guest, incarnation, label, value }) =>
      this.#post({ t: 'mark', worker, seq: ++this.#marks, guest, incarnation, label, value });
    emulator.failure.catch((error: unknown) => this.#threadEnded(error));
    this.#loop.enable();
    const patienceMs = orphanMs(record);
    // Commands can wait for long on a network that is cut.
    this.#watchdog = setInterval(() => {
      if (monotonicMs() - this.#contactAtMs > patienceMs) this.#fail(new Error('Redis is out of reach'));
    }, 500);
  }

  /** A job's lock holds as long as a silent worker is waited for: then its guests are another's anyway. */
  #timing(): { lockDurationMs: number; stalledIntervalMs: number } {
    const { leaseMs } = this.#record;
    return { lockDurationMs: Math.max(1000, leaseMs), stalledIntervalMs: Math.max(500, leaseMs / 2) };
  }

  async run(): Promise<void> {
    const { capacity, threads, leave } = this.#options;
    const worker = this.#identity.name;
    const clock = await this.#readClock();
    await this.#send({
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
        const messages = await this.#interruption.orEnd(this.#control.read(waitMs));
        this.#contactAtMs = monotonicMs();
        for (const message of messages) await this.#obey(message);
        if (this.#over) break;
        const leaves = leave?.aborted === true || this.#threadLoss !== undefined;
        if (leaves && !this.#leaving) await this.#interruption.orEnd(this.#leave());
        if (performance.now() >= nextBeatAt || this.#idle) {
          this.#idle = false;
          await this.#interruption.orEnd(this.#beat());
          nextBeatAt = performance.now() + beatMs;
        }
      }
    } catch (error) {
      if (this.#failure === undefined) throw error;
      const known = redisFailure(this.#options.target, this.#failure) ?? machineFailure(this.#failure);
      const { message } = known ?? this.#failure;
      await withTime(this.#send({ t: 'trouble', worker, error: message.slice(0, 2000) }));
      throw known ?? new UserError(EXIT.inconclusive, `the worker failed: ${message}`);
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
    clearTimeout(this.#outcomeTimer);
    this.#loop.disable();
    this.#control.close();
    await withTime(Promise.all(this.#guests.map((guests) => guests.close(true))));
    await withTime(this.#deferred.close());
    await withTime(this.#emulator.close());
  }

  async #obey(message: ControlMessage): Promise<void> {
    switch (message.t) {
      case 'start':
        await this.#readClock();
        this.#startAtMs = message.startAtMs - this.#toRedisMs;
        break;
      case 'share':
        if (Object.hasOwn(message.jobs, this.#identity.name)) {
          this.#take(message.jobs[this.#identity.name] ?? 0);
        }
        break;
      case 'stop':
        this.#stopping = true;
        this.#emulator.stopGuests();
        break;
      case 'finish':
        await this.#interruption.orEnd(this.#finish());
        break;
      case 'exit':
        this.#over = true;
        break;
    }
  }

  /**
   * Takes up to `slots` slices at a time. A busy consumer would not notice a larger number, so the rest gets another
   * one.
   */
  #take(slots: number): void {
    const more = slots - this.#slots;
    if (more <= 0 || this.#stopping) return;
    this.#slots = slots;
    const { target, runId } = this.#options;
    const onRefused = (error: Error): void => void this.#fail(error);
    const options = { concurrency: more, timing: this.#timing(), onRefused };
    this.#guests.push(
      openConsumer(target, guestQueue(target.prefix, runId), options, (_id, data) => this.#runSlice(data)),
    );
  }

  async #runSlice(data: unknown): Promise<void> {
    const parsed = GuestJob.safeParse(data);
    if (!parsed.success || parsed.data.slice >= this.#slices.length) {
      this.#refusedJobs++;
      return;
    }
    // Somebody else will: its job is added anew as long as nobody has claimed it.
    if (this.#leaving || this.#threadLoss !== undefined) return;
    const starting = this.#startSlice(parsed.data);
    this.#claiming.add(starting);
    const guests = await starting.finally(() => this.#claiming.delete(starting));
    await Promise.all(guests.map(({ ended }) => ended));
  }

  /** Claims a slice and starts its guests; none if it is not ours. */
  async #startSlice(job: GuestJob): Promise<{ ended: Promise<void> }[]> {
    const claim = await this.#claim(job);
    const key = `${job.slice}:${job.incarnation}`;
    if (claim === 'forged') this.#refusedJobs++;
    else if ((claim !== 'ok' && claim !== 'mine') || this.#claimed.has(key)) this.#repeatedJobs++;
    else {
      this.#claimed.add(key);
      this.#receipts.field(this.#keys.claims, ...claimOf(job, this.#identity.name));
      // The clock of Redis may have been set since the start.
      if (job.epochMs !== undefined) await this.#readClock();
      const { slice, incarnation, epochMs } = job;
      const { pace } = this.#plan;
      const guests = (this.#slices[slice] ?? []).flatMap((guest) => this.#plan.guests[guest] ?? []);
      const orderedMs = epochMs === undefined ? 0 : epochMs - this.#toRedisMs - this.#startAtMs;
      const firstNs = guests.reduce((least, { startNs }) => Math.min(least, startNs), Infinity);
      const dueMs = this.#startAtMs + orderedMs + (pace === 0 ? 0 : firstNs / pace / 1e6);
      // Taken too late, its guests do all they were to do, later.
      const behindMs = monotonicMs() - dueMs;
      // Without a pace every guest is due at once, and none is late.
      const lateMs = pace > 0 && behindMs > LATE_MS ? behindMs : 0;
      return guests.map((guest) => ({
        ended: this.#runGuest(later(guest, orderedMs + lateMs, this.#plan), incarnation, lateMs),
      }));
    }
    return [];
  }

  /** Waits while the memory of Redis is full: a job that is given up does not come again. */
  async #claim(job: GuestJob): Promise<Claim> {
    for (;;) {
      try {
        return await claimSlice(this.#redis, this.#keys, job, this.#identity);
      } catch (error) {
        if (!isFull(error) || this.#failure !== undefined) throw this.#fail(error);
        await pause(FULL_RETRY_MS);
      }
    }
  }

  async #runGuest(guest: GuestPlan, incarnation: number, lateMs: number): Promise<void> {
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
    if (lateMs > 0) outcome = { ...outcome, lateMs };
    this.#outcomes.push(outcome);
    this.#ended += 1;
    this.#outcomeTimer ??= setTimeout(() => this.#flushOutcomes(), OUTCOME_BATCH_MS);
  }

  #flushOutcomes(): void {
    clearTimeout(this.#outcomeTimer);
    this.#outcomeTimer = undefined;
    if (this.#outcomes.length === 0) return;
    this.#post({ t: 'outcomes', worker: this.#identity.name, outcomes: this.#outcomes });
    this.#outcomes = [];
    this.#idle = this.#live.size === 0;
  }

  /** Posts in order, repeats until Redis takes it: an outcome must not get lost. */
  #post(message: WorkerMessage): void {
    const previous = this.#posts;
    this.#posts = this.#postAfter(previous, message);
  }

  async #postAfter(previous: Promise<void>, message: WorkerMessage): Promise<void> {
    await previous;
    try {
      await this.#send(message);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Sends one message; waits while the memory of Redis is full, as long as the worker has a coordinator. */
  async #send(message: WorkerMessage): Promise<void> {
    for (;;) {
      try {
        const entry = await post(this.#redis, this.#keys, message);
        if (entry === null) this.#removed = true;
        else this.#receipts.entry(this.#keys.events, entry);
        this.#contactAtMs = monotonicMs();
        return;
      } catch (error) {
        if (!isFull(error) || this.#failure !== undefined) throw error;
        await pause(FULL_RETRY_MS);
      }
    }
  }

  #interval(): Interval {
    const p99 = this.#loop.percentile(99);
    const cpu = process.cpuUsage();
    return {
      t: 'interval',
      worker: this.#identity.name,
      seq: ++this.#seq,
      states: this.#emulator.states(),
      ended: this.#ended,
      snapshot: encodeSnapshot(this.#emulator.snapshot()),
      violations: Object.fromEntries(this.#emulator.violationCounts),
      driftPages: String(this.#emulator.driftPages()),
      backlog: this.#deferred.backlog,
      oldestAgeSeconds: this.#deferred.oldestAgeSeconds,
      eventLoopDelayP99Ns: Number.isFinite(p99) ? p99 : 0,
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      clockOffsetMs: monotonicMs() + this.#toRedisMs - Date.now(),
    };
  }

  async #beat(): Promise<void> {
    try {
      this.#removed ||= (await post(this.#redis, this.#keys, this.#interval())) === null;
    } catch (error) {
      // The next one says the same and more.
      if (!isFull(error)) throw error;
    }
    if (monotonicMs() - this.#clockReadAtMs > CLOCK_MS) await this.#readClock();
    const [fenced, aliveAt] = await Promise.all([
      this.#redis.hexists(this.#keys.fenced, this.#identity.name),
      this.#redis.get(this.#keys.alive),
    ]);
    this.#contactAtMs = monotonicMs();
    if (fenced === 1) this.#fail(new Error('the coordinator declared it lost'));
    if (!this.#removed) await this.#look();
    if (aliveAt !== null && !this.#removed) return;
    // Was that the end of the run? Then the farewell is there.
    for (const message of await this.#control.read(200)) await this.#obey(message);
    if (!this.#over) this.#fail(new Error(this.#removed ? 'Redis has lost the run' : 'the coordinator is gone'));
  }

  /** Where this machine's clocks are against that of Redis; either may drift or be set. */
  async #readClock(): Promise<ClockOffset> {
    const clock = await clockOffset(this.#redis);
    this.#toRedisMs = clock.toRedisMs;
    this.#clockReadAtMs = monotonicMs();
    return clock;
  }

  /** Another worker may run what this one thinks is its own, and what it said may never be heard: it cannot go on. */
  async #look(): Promise<void> {
    if (await this.#receipts.intact()) return;
    throw this.#fail(new Error('Redis came back without the latest it had taken'));
  }

  /**
   * Asked to end. With guests unfinished the coordinator has all of them run elsewhere; otherwise the account is
   * closed.
   */
  async #leave(): Promise<void> {
    this.#leaving = true;
    // What is being claimed may be ours in a moment.
    await Promise.all(this.#claiming);
    if (this.#live.size === 0) {
      await this.#finish();
    } else {
      await this.#posts;
      await this.#send({ t: 'leave', worker: this.#identity.name });
    }
    this.#over = true;
  }

  async #finish(): Promise<void> {
    this.#leaving = true;
    this.#stopping = true;
    await withTime(Promise.all(this.#guests.map((guests) => guests.close(true))));
    const deferred = await this.#deferred.drain(DRAIN_MS);
    this.#flushOutcomes();
    await this.#posts;
    const { checked, violationCount, violations } = await this.#emulator.quiesce();
    await this.#look();
    await this.#send({
      t: 'final',
      worker: this.#identity.name,
      checked,
      violationCount,
      violations: violations.map(({ invariant, guest, detail }) => ({ invariant, guest, detail })),
      deferred,
      refusedJobs: this.#guests.reduce((sum, { unreadable }) => sum + unreadable, this.#refusedJobs),
      repeatedJobs: this.#repeatedJobs,
      last: this.#interval(),
    });
  }

  /** Nothing depends on a thread without guests: the account is closed, and the worker takes no more. */
  #threadEnded(error: unknown): void {
    if (this.#live.size > 0 || this.#claiming.size > 0) this.#fail(error);
    else this.#threadLoss = toError(error);
  }

  #fail(error: unknown): Error {
    this.#failure ??= toError(error);
    this.#interruption.interrupt(this.#failure);
    return this.#failure;
  }
}

const toError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** A guest of which everything happens `ms` of real time later than the plan says; it lives as long as planned. */
function later(guest: GuestPlan, ms: number, { pace, durationNs }: RunPlan): GuestPlan {
  if (ms <= 0) return guest;
  const untilEnd = durationNs === null ? Infinity : Math.max(0, durationNs - guest.startNs);
  const lives = Math.min(guest.durationNs ?? Infinity, untilEnd);
  const startNs = guest.startNs + Math.round(ms * 1e6 * (pace === 0 ? 1 : pace));
  return { ...guest, startNs, durationNs: Number.isFinite(lives) ? lives : null };
}

/** What Redis may keep us from must not keep the process. */
async function withTime(work: Promise<unknown>): Promise<void> {
  const ended = new AbortController();
  await Promise.race([work.catch(() => {}), pause(FAREWELL_MS, undefined, { signal: ended.signal }).catch(() => {})]);
  ended.abort();
}
