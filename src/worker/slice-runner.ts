/** Takes slices of guests from the queue of the run, claims them, runs their guests, and tells the outcomes. */
import type { Redis } from 'ioredis';
import type { Emulator, GuestOutcome } from '../emulator/emulator.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { monotonicMs } from '../engine/wall/clock.ts';
import { type Claim, claimOf, claimSlice, type Identity } from '../wire/claims.ts';
import type { RunKeys } from '../wire/keys.ts';
import { GuestJob } from '../wire/messages.ts';
import { planSlices } from '../wire/plan-slices.ts';
import { guestQueue, type JobConsumer, openConsumer, type QueueTiming } from '../wire/queue.ts';
import type { Receipts } from '../wire/receipts.ts';
import type { RedisClock } from '../wire/redis-clock.ts';
import type { RedisTarget } from '../wire/redis.ts';
import { type Fate, toError } from './fate.ts';
import type { Mailbox } from './mailbox.ts';

/** Outcomes of guests that end within this time travel together. */
const OUTCOME_BATCH_MS = 20;

/** Guests that are taken so much later than they were due begin again from there. */
const LATE_MS = 250;

export interface SliceRunnerOptions {
  readonly target: RedisTarget;
  readonly runId: string;
  readonly timing: QueueTiming;
  readonly identity: Identity;
  readonly plan: RunPlan;
  readonly redis: Redis;
  readonly keys: RunKeys;
  readonly receipts: Receipts;
  readonly clock: RedisClock;
  readonly mailbox: Mailbox;
  readonly emulator: Emulator;
  readonly fate: Fate;
}

export class SliceRunner {
  /** The run's start on the monotonic clock, ms. */
  startAtMs = 0;
  /** Takes no further slice: another worker will. */
  closing = false;
  /** Guests that have not begun end at once. */
  stopping = false;
  /** Guests of which it has told, or is about to. */
  ended = 0;
  /**
   * Its last guest has ended since the last interval: once its figures are told, nothing depends on this worker.
   */
  idle = false;
  repeatedJobs = 0;
  readonly #options: SliceRunnerOptions;
  readonly #slices: readonly (readonly number[])[];
  readonly #live = new Map<number, number>();
  readonly #consumers: JobConsumer[] = [];
  /** Slices at a time, of all consumers. */
  #slots = 0;
  #refusedJobs = 0;
  /** Slices claimed, `slice:incarnation`, and claims under way. */
  readonly #claimed = new Set<string>();
  readonly #claiming = new Set<Promise<unknown>>();
  #outcomes: GuestOutcome[] = [];
  #outcomeTimer: NodeJS.Timeout | undefined;

  constructor(options: SliceRunnerOptions) {
    this.#options = options;
    this.#slices = planSlices(options.plan);
  }

  /** Guests that run now. */
  get live(): number {
    return this.#live.size;
  }

  /** Whether something is being claimed, and may be ours in a moment. */
  get claiming(): boolean {
    return this.#claiming.size > 0;
  }

  async claimed(): Promise<void> {
    await Promise.all(this.#claiming);
  }

  get refusedJobs(): number {
    return this.#consumers.reduce((sum, { unreadable }) => sum + unreadable, this.#refusedJobs);
  }

  isLive(guest: number, incarnation: number): boolean {
    return this.#live.get(guest) === incarnation;
  }

  /** Ends without waiting for guests that run. */
  async close(): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.close(true)));
  }

  /**
   * Takes up to `slots` slices at a time. A busy consumer would not notice a larger number, so the rest gets another
   * one.
   */
  take(slots: number): void {
    const more = slots - this.#slots;
    if (more <= 0 || this.stopping) return;
    this.#slots = slots;
    const { target, runId, timing, fate } = this.#options;
    const onRefused = (error: Error): void => void fate.fail(error);
    const options = { concurrency: more, timing, onRefused };
    const queue = guestQueue(target.prefix, runId);
    this.#consumers.push(openConsumer(target, queue, options, (_id, data) => this.#runSlice(data)));
  }

  async #runSlice(data: unknown): Promise<void> {
    const parsed = GuestJob.safeParse(data);
    if (!parsed.success || parsed.data.slice >= this.#slices.length) {
      this.#refusedJobs += 1;
      return;
    }
    // Another worker will: the job is queued again until someone claims it.
    if (this.closing) return;
    const starting = this.#startSlice(parsed.data);
    this.#claiming.add(starting);
    const guests = await starting.finally(() => this.#claiming.delete(starting));
    await Promise.all(guests.map(({ ended }) => ended));
  }

  /** Claims a slice and starts its guests; none if it is not ours. */
  async #startSlice(job: GuestJob): Promise<{ ended: Promise<void> }[]> {
    const { slice, incarnation, epochMs } = job;
    const claim = await this.#claim(job);
    const key = `${slice}:${incarnation}`;
    if (claim === 'forged') {
      this.#refusedJobs += 1;
      return [];
    }
    if ((claim !== 'ok' && claim !== 'mine') || this.#claimed.has(key)) {
      this.repeatedJobs += 1;
      return [];
    }
    const { receipts, keys, identity, clock, plan } = this.#options;
    this.#claimed.add(key);
    receipts.field(keys.claims, ...claimOf(job, identity.name));
    // The clock of Redis may have been set since the start.
    if (epochMs !== undefined) await clock.read();
    const { pace } = plan;
    const guests = (this.#slices[slice] ?? []).flatMap((guest) => plan.guests[guest] ?? []);
    const orderedMs = epochMs === undefined ? 0 : epochMs - clock.toRedisMs - this.startAtMs;
    const firstNs = guests.reduce((least, { startNs }) => Math.min(least, startNs), Infinity);
    const dueMs = this.startAtMs + orderedMs + (pace === 0 ? 0 : firstNs / pace / 1e6);
    // Taken too late, its guests do all they were to do, later.
    const behindMs = monotonicMs() - dueMs;
    // Without a pace every guest is due at once, and none is late.
    const lateMs = pace > 0 && behindMs > LATE_MS ? behindMs : 0;
    return guests.map((guest) => ({
      ended: this.#runGuest(later(guest, orderedMs + lateMs, plan), incarnation, lateMs),
    }));
  }

  /** Waits while the memory of Redis is full: a job that is given up does not come again. */
  async #claim(job: GuestJob): Promise<Claim> {
    const { mailbox, redis, keys, identity, fate } = this.#options;
    try {
      return await mailbox.untilTaken(() => claimSlice(redis, keys, job, identity));
    } catch (error) {
      throw fate.fail(error);
    }
  }

  async #runGuest(guest: GuestPlan, incarnation: number, lateMs: number): Promise<void> {
    this.#live.set(guest.index, incarnation);
    let outcome: GuestOutcome;
    const unrun = { guest: guest.index, incarnation, operations: 0, failedOperations: 0, lockedVmAfterPages: '0' };
    if (this.stopping) {
      outcome = { ...unrun, state: 'stopped' };
    } else {
      try {
        outcome = await this.#options.emulator.startGuest(guest, incarnation, this.startAtMs);
      } catch (error) {
        outcome = { ...unrun, state: 'failed', error: toError(error).message };
      }
    }
    this.#live.delete(guest.index);
    if (outcome.error !== undefined) outcome = { ...outcome, error: outcome.error.slice(0, 2000) };
    if (lateMs > 0) outcome = { ...outcome, lateMs };
    this.#outcomes.push(outcome);
    this.ended += 1;
    this.#outcomeTimer ??= setTimeout(() => this.flushOutcomes(), OUTCOME_BATCH_MS);
  }

  /** Forgets outcomes that have not been told. */
  abandon(): void {
    clearTimeout(this.#outcomeTimer);
  }

  flushOutcomes(): void {
    clearTimeout(this.#outcomeTimer);
    this.#outcomeTimer = undefined;
    if (this.#outcomes.length === 0) return;
    this.#options.mailbox.post({ t: 'outcomes', worker: this.#options.identity.name, outcomes: this.#outcomes });
    this.#outcomes = [];
    this.idle = this.#live.size === 0;
  }
}

/** A guest of which everything happens `ms` of real time later than the plan says; it lives as long as planned. */
function later(guest: GuestPlan, ms: number, { pace, durationNs }: RunPlan): GuestPlan {
  if (ms <= 0) return guest;
  const untilEnd = durationNs === null ? Infinity : Math.max(0, durationNs - guest.startNs);
  const lives = Math.min(guest.durationNs ?? Infinity, untilEnd);
  const startNs = guest.startNs + Math.round(ms * 1e6 * (pace === 0 ? 1 : pace));
  return { ...guest, startNs, durationNs: Number.isFinite(lives) ? lives : null };
}
