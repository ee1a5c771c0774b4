/**
 * The coordinator of a run: publishes the plan, waits for workers, starts all guests at one instant, follows their reports, and
 * brings the run to its end in whatever way. It touches neither the terminal nor the disk: it tells a listener.
 */
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import type { RedisHealth, RunPhase } from '../metrics/run-metrics.ts';
import {
  post,
  publishRun,
  removeRun,
  runKeys,
  sliceGuests,
  StreamReader,
  WorkerMessage,
  type ControlMessage,
  type RunKeys,
} from './protocol.ts';
import { guestQueue, openProducer, type JobProducer } from './queue.ts';
import { openRedis, redisTimeMs, serverLoad, type RedisTarget } from './redis.ts';
import { RunState } from './run-state.ts';
import type { GuestOutcome } from '../worker/emulator-api.ts';

export interface CoordinatorOptions {
  readonly target: RedisTarget;
  readonly plan: RunPlan;
  readonly runId: string;
  /** The run starts when this many have registered and can hold all guests together. */
  readonly minWorkers: number;
  /** How long to wait for them, ms. */
  readonly gatherMs?: number;
  /** A worker silent for this long is lost, ms. */
  readonly leaseMs?: number;
  /** How long a stopped run may take to come to rest, ms. */
  readonly graceMs?: number;
}

export interface CoordinatorListener {
  /** All workers are there; guests start at `startAtMs`, epoch ms of the Redis clock. */
  started(startAtMs: number): void;
  /** About once a second while guests run, and once at the end. */
  progress(): void;
  /** A guest ended; one that runs again after a loss ends again. */
  guest(outcome: GuestOutcome, worker: string): void;
  event(
    kind: 'worker_joined' | 'worker_lost' | 'guest_failed' | 'mark' | 'stop',
    fields: Record<string, unknown>,
  ): void;
}

export type RunEnd =
  /** Every guest ended by itself and every worker gave its final account. */
  | 'complete'
  /** The user stopped it; the workers gave their final accounts. */
  | 'stopped'
  /** Something is missing: `reasons` says what. */
  | 'partial';

/** Time for the workers to take and build their guests before the common start. */
const START_LEAD_MS = 250;
const START_LEAD_PER_GUEST_MS = 0.5;
const ALIVE_MS = 120_000;

export class Coordinator {
  readonly state: RunState;
  /** What speaks against taking the figures for the whole run. */
  readonly reasons: string[] = [];
  /** When each phase was entered, epoch seconds. */
  readonly phases: Partial<Record<RunPhase, number>> = { gathering: Date.now() / 1000 };
  /** As of about a second ago. */
  redisHealth: RedisHealth | null = null;
  readonly #options: CoordinatorOptions;
  readonly #listener: CoordinatorListener;
  readonly #redis: Redis;
  readonly #keys: RunKeys;
  readonly #reader: StreamReader<WorkerMessage>;
  readonly #guests: JobProducer;
  #phase: RunPhase = 'gathering';
  #phaseSinceMs = performance.now();
  #nextTickMs = 0;
  #stop: 'user' | 'threshold' | 'failure' | undefined;
  #stopSent = false;
  #fatal: Error | undefined;
  /** Redis is out of reach: commands would only wait. */
  #redisAway = false;
  #interrupt: (error: Error) => void = () => {};
  readonly #interrupted = new Promise<never>((_, reject) => (this.#interrupt = reject));

  constructor(options: CoordinatorOptions, listener: CoordinatorListener) {
    this.#interrupted.catch(() => {});
    this.#options = options;
    this.#listener = listener;
    this.state = new RunState(options.plan, statsLayout(options.plan));
    this.#keys = runKeys(options.runId);
    this.#redis = openRedis(options.target, 'finite');
    const keys = [this.#keys.events, this.#keys.intervals];
    this.#reader = new StreamReader(openRedis(options.target, 'finite'), keys, WorkerMessage);
    this.#guests = openProducer(options.target, guestQueue(options.runId));
  }

  /** Ends gracefully: guests end at their next operation. */
  stop(by: 'user' | 'threshold' = 'user'): void {
    this.#stop ??= by;
  }

  /** A worker process is gone for sure. Before the start this ends the run with `error`. */
  workerGone(worker: string, why: string): void {
    if (this.#phase === 'gathering') this.#fatal ??= new UserError(EXIT.inconclusive, why);
    else this.#lose(worker, why);
  }

  /** Redis is gone for good: ends `run` with this error at once. */
  redisGone(error: Error): void {
    this.#fatal ??= error;
    this.#redisAway = true;
    // A command that waits for a connection does not fail when that is given up.
    this.#interrupt(error);
  }

  /** Runs to the end. Throws what `redisGone` was given, or UserError 113 if the workers do not come or Redis stays away. */
  async run(): Promise<RunEnd> {
    const { plan, runId } = this.#options;
    try {
      await this.#beat();
      await publishRun(this.#redis, runId, VERSION, plan);
      for (;;) {
        const messages = await Promise.race([this.#reader.read(50), this.#interrupted]);
        const now = performance.now();
        for (const message of messages) this.#receive(message, now);
        this.state.malformed = this.#reader.refused;
        if (this.#fatal !== undefined) throw this.#fatal;
        await this.#advance();
        if (this.#phase === 'over') break;
        if (now >= this.#nextTickMs) {
          this.#nextTickMs = now + 1000;
          await this.#beat();
          this.redisHealth = { ...(await serverLoad(this.#redis)), guestJobs: await this.#guests.counts() };
          if (this.#phase !== 'gathering') this.#listener.progress();
        }
      }
      this.#listener.progress();
      if (this.reasons.length > 0) return 'partial';
      return this.#stop === 'user' ? 'stopped' : 'complete';
    } catch (error) {
      if (this.#fatal !== undefined) throw this.#fatal;
      if (error instanceof UserError) throw error;
      this.#redisAway = true;
      throw new UserError(
        EXIT.inconclusive,
        `Redis at ${this.#options.target.label} was lost: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** Tells the workers to end. Never throws. */
  async dismiss(): Promise<void> {
    if (!this.#redisAway) await this.#tell({ t: 'exit' }).catch(() => {});
  }

  /**
   * Removes the run from Redis and disconnects; call it when the workers have ended. Never throws.
   * @param remote whether workers may still be there: they find `exit` for another minute.
   */
  async close(remote: boolean): Promise<void> {
    this.#reader.close();
    await this.#guests.close();
    try {
      if (this.#redisAway) return;
      await removeRun(this.#redis, this.#options.runId);
      if (remote) {
        await this.#tell({ t: 'exit' });
        await this.#redis.expire(this.#keys.control, 60);
      }
    } catch {
      // Redis is gone. A private one took the keys along.
    } finally {
      this.#redis.disconnect();
    }
  }

  async #beat(): Promise<void> {
    await this.#redis.set(this.#keys.alive, String(Math.floor(await redisTimeMs(this.#redis))), 'PX', ALIVE_MS);
  }

  #tell(message: ControlMessage): Promise<void> {
    return post(this.#redis, this.#keys.control, message);
  }

  #enter(phase: RunPhase): void {
    this.#phase = phase;
    this.phases[phase] = Date.now() / 1000;
    this.#phaseSinceMs = performance.now();
  }

  #receive(message: WorkerMessage, now: number): void {
    if (message.t === 'register') {
      this.#register(message, now);
      return;
    }
    const sender = this.state.sender(message.worker, now);
    if (sender === null) return;
    switch (message.t) {
      case 'interval':
        this.state.interval(sender, message);
        break;
      case 'outcomes':
        for (const { error, phasesMs, ...rest } of message.outcomes) {
          const outcome: GuestOutcome = {
            ...rest,
            ...(error === undefined ? {} : { error }),
            ...(phasesMs === undefined ? {} : { phasesMs }),
          };
          if (this.state.outcome(outcome)) this.#listener.guest(outcome, message.worker);
          if (outcome.state === 'failed') this.#listener.event('guest_failed', { ...outcome });
        }
        break;
      case 'mark': {
        const { guest, incarnation, label, value } = message;
        this.#listener.event('mark', { guest, incarnation, label, value });
        break;
      }
      case 'final':
        sender.final = message;
        break;
      case 'trouble':
        this.#lose(message.worker, message.error.split('\n', 1)[0] ?? '');
        break;
    }
  }

  #register(message: Extract<WorkerMessage, { t: 'register' }>, now: number): void {
    const { worker, version, planHash, host, threads, capacity, clockOffsetMs } = message;
    if (version !== VERSION || planHash !== this.#options.plan.hash) {
      // Its own check failed to stop it: fenced off, and the run goes on without it.
      this.state.refused++;
      void this.#redis.hset(this.#keys.fenced, worker, '1').catch(() => {});
      return;
    }
    this.state.register(message, now);
    this.#listener.event('worker_joined', { worker, host, threads, capacity, clockOffsetMs });
  }

  /** Declares a worker lost: it is fenced, its guests without outcome are lost, the rest of the run is stopped. */
  #lose(worker: string, why: string): void {
    const state = this.state.workers.get(worker);
    if (state === undefined || state.lost !== null || state.final !== null) return;
    state.lost = why;
    this.reasons.push(`worker ${worker} was lost: ${why}`);
    this.#listener.event('worker_lost', { worker, why });
    void this.#redis.hset(this.#keys.fenced, worker, '1').catch(() => {});
    this.#stop ??= 'failure';
  }

  async #advance(): Promise<void> {
    const { minWorkers, gatherMs = 60_000, leaseMs = 10_000, graceMs = 60_000 } = this.#options;
    const { workers, outcomes, plan } = this.state;
    const since = performance.now() - this.#phaseSinceMs;
    if (this.#phase === 'gathering') {
      const capacity = [...workers.values()].reduce((sum, { registration }) => sum + registration.capacity, 0);
      if (this.#stop !== undefined) {
        this.#enter('over');
      } else if (workers.size >= minWorkers && capacity >= plan.guests.length) {
        await this.#start();
      } else if (since > gatherMs) {
        throw new UserError(
          EXIT.inconclusive,
          `${workers.size} of ${minWorkers} workers came within ${gatherMs / 1000} s, with room for ${capacity} of ` +
            `${plan.guests.length} guests`,
          'start more workers, or give them more --capacity',
        );
      }
      return;
    }
    const silentSinceMs = performance.now() - leaseMs;
    for (const [worker, { lastSeenMs }] of workers) {
      if (lastSeenMs < silentSinceMs) this.#lose(worker, `nothing heard for ${leaseMs / 1000} s`);
    }
    const alive = [...workers.values()].filter(({ lost }) => lost === null);
    if (this.#phase === 'running') {
      if (this.#stop !== undefined && !this.#stopSent) await this.#sendStop();
      const open = plan.guests.length - outcomes.size;
      const rested = open === 0 || (this.#stopSent && this.#atRest(alive.length));
      if (this.#stop === undefined && since > longestMs(plan) + graceMs) {
        this.reasons.push(`guests went on ${graceMs / 1000} s past their planned end`);
        this.#stop = 'failure';
      }
      const late = this.#stopSent && performance.now() - this.#phaseSinceMs > graceMs;
      if (late) {
        this.reasons.push(`guests did not come to rest within ${graceMs / 1000} s of the stop`);
        this.state.abandoned = true;
      }
      if (rested || late || alive.length === 0) {
        await this.#tell({ t: 'finish' });
        this.#enter('finishing');
      }
    } else if (this.#phase === 'finishing') {
      const late = since > graceMs;
      if (late) for (const [worker, { final }] of workers) if (final === null) this.#lose(worker, 'no final account');
      if (late || alive.every(({ final }) => final !== null)) this.#conclude();
    }
  }

  /** After a stop: nobody reports a running guest any more, as of an interval sent after the stop. */
  #atRest(alive: number): boolean {
    let rested = 0;
    for (const { lost, interval, lastSeenMs } of this.state.workers.values()) {
      if (lost !== null) continue;
      if (lastSeenMs > this.#phaseSinceMs + 1500 && (interval?.states['running'] ?? 0) === 0) rested++;
    }
    return rested === alive;
  }

  async #start(): Promise<void> {
    const { plan } = this.#options;
    const total = plan.guests.length;
    const slice = sliceGuests(total);
    const jobs = Array.from({ length: Math.ceil(total / slice) }, (_, i) => ({
      id: `slice-${i}-1`,
      data: { v: 1, slice: i, from: i * slice, to: Math.min(total, (i + 1) * slice), incarnation: 1 },
    }));
    await this.#guests.addAll(jobs);
    const capacity = [...this.state.workers.values()].reduce((sum, w) => sum + w.registration.capacity, 0);
    const shares: Record<string, number> = {};
    for (const [worker, { registration }] of this.state.workers) {
      shares[worker] = Math.ceil((jobs.length * registration.capacity) / capacity);
    }
    const lead = START_LEAD_MS + START_LEAD_PER_GUEST_MS * total;
    const startAtMs = Math.ceil((await redisTimeMs(this.#redis)) + lead);
    await this.#tell({ t: 'start', startAtMs, jobs: shares, late: Math.ceil(jobs.length / this.state.workers.size) });
    this.#enter('running');
    this.#listener.started(startAtMs);
  }

  async #sendStop(): Promise<void> {
    this.#stopSent = true;
    this.#phaseSinceMs = performance.now();
    this.#listener.event('stop', { by: this.#stop });
    await this.#tell({ t: 'stop' });
    await this.#guests.removeWaiting();
  }

  #conclude(): void {
    for (const [worker, { final }] of this.state.workers) {
      if (final === null || final.deferred.missingCount === 0) continue;
      const ranges = final.deferred.missing.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(', ');
      this.reasons.push(`worker ${worker}: ${final.deferred.missingCount} deferred updates missing, ids ${ranges}`);
    }
    const open = this.state.plan.guests.length - this.state.outcomes.size;
    if (open > 0 && this.#stop === undefined) this.reasons.push(`${open} guests without an outcome`);
    this.#enter('over');
  }
}

/** When the last guest must have ended, real ms after the start; Infinity when the plan does not say. */
function longestMs({ guests, durationNs, pace }: RunPlan): number {
  if (pace === 0) return Infinity;
  const end = (guest: RunPlan['guests'][number]): number =>
    Math.min(guest.startNs + (guest.durationNs ?? Infinity), durationNs ?? Infinity);
  return guests.reduce((longest, guest) => Math.max(longest, end(guest)), 0) / pace / 1e6;
}
