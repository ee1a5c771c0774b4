/**
 * The coordinator of a run: publishes the plan, waits for workers, starts all guests at one instant, follows their
 * reports, and ends the run, whether it completes, is stopped or fails. It touches neither the terminal nor the disk:
 * it tells a listener.
 *
 * What it decides is written to the run's journal in Redis before it takes effect, with the last event known by then,
 * and every effect may be repeated. So another process can take its place: it reads events and journal in their order,
 * comes to the same state, repeats the effects, and goes on.
 */
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { Interruption } from '../base/interruption.ts';
import { VERSION } from '../base/version.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import type { RedisHealth, RunPhase } from '../metrics/run-metrics.ts';
import { FullMemory } from '../wire/full-memory.ts';
import { runKeys, type RunKeys } from '../wire/keys.ts';
import { type ControlMessage, orphanMs, WorkerMessage } from '../wire/messages.ts';
import { planSlices } from '../wire/plan-slices.ts';
import { guestQueue, type JobProducer, openProducer } from '../wire/queue.ts';
import { Receipts } from '../wire/receipts.ts';
import { RedisClock } from '../wire/redis-clock.ts';
import { isConnectionError, openRedis, redisFailure, serverLoad } from '../wire/redis.ts';
import { bidFarewell, publishRun, removeRun } from '../wire/runs.ts';
import { StreamReader, tell } from '../wire/streams.ts';
import type { CoordinatorListener, CoordinatorOptions, RunEnd, Stopper } from './coordinator-api.ts';
import { Decisions } from './decisions.ts';
import { Gathering } from './gathering.ts';
import { Handout, type HandoutHost } from './handout.ts';
import { Inbox } from './inbox.ts';
import { Lead } from './lead.ts';
import { Overdue } from './overdue.ts';
import { checkResumable, replay } from './resume.ts';
import { hasAll, RunState } from './run-state.ts';
import { Slices } from './slices.ts';

/** Time for the workers to take and build their guests before the common start. */
const START_LEAD_MS = 250;
const START_LEAD_PER_GUEST_MS = 0.5;
const TICK_MS = 1000;

/** Guests and workers may take so much longer than planned, ms. */
const GRACE_MS = 60_000;

export class Coordinator {
  readonly state: RunState;
  /** As of about a second ago. */
  redisHealth: RedisHealth | null = null;
  readonly #options: CoordinatorOptions;
  readonly #listener: CoordinatorListener;
  readonly #redis: Redis;
  readonly #keys: RunKeys;
  readonly #reader: StreamReader<WorkerMessage>;
  /** Made once there is a run: opening a queue leaves a key. */
  #guests: JobProducer | undefined;
  readonly #slices: Slices;
  readonly #handout: Handout;
  readonly #lead: Lead;
  readonly #receipts: Receipts;
  readonly #fullMemory: FullMemory;
  readonly #overdue: Overdue;
  readonly #clock: RedisClock;
  readonly #decisions: Decisions;
  readonly #inbox: Inbox;
  readonly #gathering: Gathering;
  #listenedAtMs = performance.now();
  #nextTickMs = 0;
  /** Since when no guest is open, ms. */
  #restedAtMs: number | undefined;
  #stopWanted: Stopper | undefined;
  #fatal: Error | undefined;
  /** Redis is out of reach: commands would only wait. */
  #redisAway = false;
  /** The run in Redis is this coordinator's to end and to remove. */
  #owned = false;
  readonly #interruption = new Interruption();

  constructor(options: CoordinatorOptions, listener: CoordinatorListener) {
    this.#options = options;
    this.#listener = listener;
    this.state = new RunState(options.plan, statsLayout(options.plan));
    this.#overdue = new Overdue(this.state, options.graceMs ?? GRACE_MS);
    this.#keys = runKeys(options.target.prefix, options.runId);
    this.#redis = openRedis(options.target, 'finite');
    this.#receipts = new Receipts(this.#redis);
    this.#fullMemory = new FullMemory(options.target.label, orphanMs(options) / 2, () =>
      this.#decisions.event('redis_full', {}),
    );
    this.#lead = new Lead(this.#redis, this.#keys, options);
    const keys = [this.#keys.events, this.#keys.intervals];
    this.#reader = new StreamReader(openRedis(options.target, 'finite'), keys, WorkerMessage);
    this.#slices = new Slices(this.#redis, this.#keys, () => this.#queue, planSlices(options.plan), this.#lead);
    this.#clock = new RedisClock(this.#redis);
    this.#decisions = new Decisions(this.state, this.#slices, listener, {
      write: async (decision) => {
        const entry = { after: this.#reader.last(this.#keys.events), decision };
        this.#receipts.entry(this.#keys.journal, await this.#lead.note(entry));
      },
      nowMs: () => this.#clock.nowMs(),
    });
    this.#gathering = new Gathering(this.state, this.#slices, this.#decisions, options);
    const host: HandoutHost = {
      state: this.state,
      decide: (decision, effect) => this.#decisions.decide(decision, effect),
      tell: (message) => this.#tell(message),
      lose: (worker, why) => this.#lose(worker, why),
      soonMs: () => this.#clock.read().then(() => this.#clock.nowMs() + START_LEAD_MS),
    };
    this.#handout = new Handout(this.#slices, host, options);
    this.#inbox = new Inbox(this.state, this.#decisions, this.#handout, listener, (worker) => this.#fence(worker));
  }

  /** When each phase was entered, epoch seconds. */
  get phases(): Readonly<Partial<Record<RunPhase, number>>> {
    return this.#decisions.phases;
  }

  /** Why the results do not cover the whole run. */
  get reasons(): string[] {
    return [...this.state.lossReasons, ...this.#decisions.reasons];
  }

  /** What happened without harm to the figures. */
  get notes(): string[] {
    return [...this.state.lossNotes, ...this.state.clockNotes];
  }

  get #leads(): boolean {
    return this.#owned && !this.#redisAway && !this.#lead.taken;
  }

  get #queue(): JobProducer {
    const { target, runId } = this.#options;
    return (this.#guests ??= openProducer(target, guestQueue(target.prefix, runId)));
  }

  /** Ends gracefully: guests end at their next operation. */
  stop(by: 'user' | 'threshold' = 'user'): void {
    this.#stopWanted ??= by;
  }

  /** A worker process is gone for sure. Before the start this ends the run with `error`. */
  workerGone(worker: string, why: string): void {
    if (this.#decisions.phase === 'gathering') {
      this.#fatal ??= new UserError(EXIT.inconclusive, `worker ${worker} was lost before the run began: ${why}`, null);
    } else this.#decisions.gone.set(worker, why);
  }

  /** Redis is gone for good: ends `run` with this error at once. */
  redisGone(error: Error): void {
    this.#fatal ??= error;
    this.#redisAway = true;
    // A command that waits for a connection does not fail when that is given up.
    this.#interruption.interrupt(error);
  }

  /**
   * Runs to the end. @throws what `redisGone` was given, or UserError 113 if the workers do not come or Redis stays
   * away.
   */
  async run(): Promise<RunEnd> {
    const { target } = this.#options;
    try {
      await this.#interruption.orEnd(this.#begin());
      for (;;) {
        const messages = await this.#interruption.orEnd(this.#reader.read(50));
        const now = performance.now();
        this.#forgiveSilence(now);
        for (const message of messages) this.#inbox.receive(message, now);
        this.state.malformed = this.#reader.refused;
        if (this.#fatal !== undefined) throw this.#fatal;
        await this.#interruption.orEnd(this.#fullMemory.bear(() => this.#act(now)));
        if (this.#decisions.phase === 'over') break;
      }
      this.#listener.progress();
      if (this.reasons.length > 0) return 'partial';
      return this.#decisions.stop === 'user' ? 'stopped' : 'complete';
    } catch (error) {
      if (this.#fatal !== undefined) throw this.#fatal;
      // A Redis that refuses can still be tidied up.
      this.#redisAway = error instanceof Error && isConnectionError(error);
      throw redisFailure(target, error, 'pinstorm report DIR shows what was measured') ?? error;
    }
  }

  /** Tells the workers to end. Never throws. */
  async dismiss(): Promise<void> {
    if (this.#leads) await tell(this.#redis, this.#keys, { t: 'exit' }).catch(() => {});
  }

  /**
   * Removes the run from Redis and disconnects; call it when the workers have ended. Never throws.
   * @param remote whether workers may still be there: they find `exit` for another minute.
   */
  async close(remote: boolean): Promise<void> {
    this.#reader.close();
    await this.#guests?.close();
    try {
      if (!this.#leads) return;
      const { target, runId } = this.#options;
      await (remote ? bidFarewell : removeRun)(this.#redis, target.prefix, runId);
    } catch {
      // Redis is gone. A private one took the keys along.
    } finally {
      this.#redis.disconnect();
    }
  }

  async #begin(): Promise<void> {
    const { plan, runId, leaseMs, resume, target } = this.#options;
    await this.#clock.read();
    if (resume) {
      await this.#resume();
    } else {
      const record = { version: VERSION, planHash: plan.hash, leaseMs };
      await publishRun(this.#redis, target.prefix, runId, record, plan);
      this.#owned = true;
      await this.#lead.hold();
      // Nobody takes jobs before the start; until then the queue's length says how many workers are needed.
      await this.#handout.addWaiting();
    }
    this.#nextTickMs = performance.now() + TICK_MS;
    this.#listenedAtMs = performance.now();
  }

  /** Takes the place of a coordinator that died. @throws UserError 104 or 113 when that cannot be. */
  async #resume(): Promise<void> {
    await checkResumable(this.#redis, this.#options);
    await this.#lead.takeOver();
    this.#owned = true;
    const told = await replay(this.#redis, this.#keys, this.#reader, this.#inbox, this.#decisions);
    const { phase, stop, startAtMs } = this.#decisions;
    const owe = (effect: () => Promise<void>): void => this.#decisions.owe(effect);
    if (startAtMs > 0 && !told.has('start')) owe(() => this.#tellStart(startAtMs));
    for (const { registration } of this.state.missing) owe(() => this.#fence(registration.worker));
    if (phase === 'running' && stop === undefined) {
      owe(() => this.#handout.addWaiting());
      this.#handout.shareDue = true;
    }
    if (stop !== undefined) owe(() => this.#tellStop());
    if (phase === 'finishing' && !told.has('finish')) owe(() => this.#tell({ t: 'finish' }));
    this.#decisions.event('resumed', { workers: this.state.workers.size, guests: this.state.outcomes.size });
  }

  /** While we did not listen, or Redis took nothing, nobody was silent. */
  #forgiveSilence(now: number): void {
    const gapMs = now - this.#listenedAtMs;
    this.#listenedAtMs = now;
    const away = gapMs >= TICK_MS;
    if (away || this.#fullMemory.lasts) for (const worker of this.state.workers.values()) worker.lastSeenMs += gapMs;
    // Another coordinator may have taken the lead meanwhile: that comes before every decision.
    if (away) this.#nextTickMs = 0;
  }

  async #act(now: number): Promise<void> {
    await this.#look();
    if (now >= this.#nextTickMs) {
      await Promise.all([this.#lead.hold(), this.#queue.renew()]);
      this.#nextTickMs = now + TICK_MS;
      this.redisHealth = { ...(await serverLoad(this.#redis)), guestJobs: await this.#queue.counts() };
      if (this.#decisions.phase !== 'gathering') this.#listener.progress();
    }
    await this.#decisions.settle();
    if (this.#decisions.phase === 'running' && this.#decisions.stop === undefined) await this.#handout.share();
    await this.#advance(now);
  }

  /**
   * What workers have read of us, or we of them, must not be gone: nobody could tell any more what the run's figures
   * are of.
   */
  async #look(): Promise<void> {
    const last = this.#reader.last(this.#keys.events);
    if (last !== '0') this.#receipts.entry(this.#keys.events, last);
    if (await this.#receipts.intact()) return;
    // Lost with all the rest, perhaps: that has a message of its own.
    await this.#lead.hold();
    throw new UserError(
      EXIT.inconclusive,
      `Redis at ${this.#options.target.label} came back without the latest it had taken`,
      'let it write each command to disk (appendonly yes, appendfsync always); the run directory holds what was measured',
    );
  }

  async #tell(message: ControlMessage): Promise<void> {
    this.#receipts.entry(this.#keys.control, await tell(this.#redis, this.#keys, message));
  }

  async #advance(now: number): Promise<void> {
    const { leaseMs, graceMs = GRACE_MS } = this.#options;
    const decisions = this.#decisions;
    const { gone } = decisions;
    if (decisions.phase === 'gathering') {
      await this.#gather();
      return;
    }
    for (const worker of this.state.silent(now, leaseMs)) {
      gone.set(worker, `nothing heard for ${leaseMs / 1000} s: it died, hung, or was too busy for --lease`);
    }
    for (const [worker, why] of gone) {
      const state = this.state.workers.get(worker);
      if (state === undefined || state.lost !== null || state.final !== null) gone.delete(worker);
      else await this.#lose(worker, why);
    }
    // A loss takes effect in Redis before anybody asks what the worker held.
    if (decisions.unsettled) return;
    if (decisions.stop !== undefined || decisions.phase === 'finishing') await this.#handout.account('stays');
    if (decisions.phase === 'running') await this.#follow(now, graceMs);
    else if (decisions.phase === 'finishing') {
      const late = now - decisions.phaseSinceMs > graceMs;
      if (late) for (const { registration } of this.state.alive) gone.set(registration.worker, 'no final account');
      if (this.state.alive.length === 0) this.#conclude();
    }
  }

  async #lose(worker: string, why: string): Promise<void> {
    await this.#decisions.decide({ d: 'lost', worker, why }, () => this.#fence(worker));
  }

  async #fence(worker: string): Promise<void> {
    await this.#redis.hset(this.#keys.fenced, worker, '1');
  }

  async #gather(): Promise<void> {
    const ready = this.#gathering.look();
    if (this.#stopWanted !== undefined) this.#decisions.enter('over');
    else if (ready === true) await this.#start();
    else if (ready !== false) throw ready;
  }

  async #start(): Promise<void> {
    const total = this.state.plan.guests.length;
    const startAtMs = Math.ceil(this.#clock.nowMs() + START_LEAD_MS + START_LEAD_PER_GUEST_MS * total);
    await this.#decisions.decide({ d: 'start', startAtMs }, () => this.#tellStart(startAtMs));
  }

  async #tellStart(startAtMs: number): Promise<void> {
    await this.#handout.addWaiting();
    await this.#tell({ t: 'start', startAtMs });
    this.#handout.shareDue = true;
  }

  async #follow(now: number, graceMs: number): Promise<void> {
    const { state } = this;
    const decisions = this.#decisions;
    if (decisions.stop === undefined) {
      await this.#handout.upkeep(now);
      await this.#giveUp(await this.#handout.rescue(now));
      await this.#giveUp(this.#overdue.why(now, this.#clock.nowMs() - decisions.epochMs));
      if (this.#stopWanted !== undefined) {
        await decisions.decide({ d: 'stop', by: this.#stopWanted }, () => this.#tellStop());
        return;
      }
    }
    const late = decisions.stop !== undefined && now - decisions.phaseSinceMs > graceMs;
    if (late) {
      const text = `guests did not come to rest within ${graceMs / 1000} s of the stop`;
      await decisions.decide({ d: 'reason', text });
      state.abandoned = true;
    }
    if (state.open > 0) this.#restedAtMs = undefined;
    const rested = decisions.stop === undefined ? state.open === 0 && this.#allTold(now) : this.#atRest();
    if (rested || late) await decisions.decide({ d: 'finish' }, () => this.#tell({ t: 'finish' }));
  }

  async #giveUp(why: string | undefined): Promise<void> {
    if (why === undefined) return;
    await this.#decisions.decide({ d: 'reason', text: why });
    this.#stopWanted ??= 'failure';
  }

  async #tellStop(): Promise<void> {
    await this.#tell({ t: 'stop' });
    await this.#queue.removeWaiting();
  }

  /**
   * Whether each worker has told all that its guests did, so that it may be lost now. Waits for that one lease at most.
   */
  #allTold(now: number): boolean {
    this.#restedAtMs ??= now;
    return now - this.#restedAtMs > this.#options.leaseMs || this.state.alive.every(hasAll);
  }

  /** After a stop: nobody reports a running guest any more, as of an interval sent after the stop. */
  #atRest(): boolean {
    return this.state.alive.every(
      ({ interval, lastSeenMs }) =>
        lastSeenMs > this.#decisions.phaseSinceMs + 1500 && (interval?.states['running'] ?? 0) === 0,
    );
  }

  #conclude(): void {
    const { reasons, stop } = this.#decisions;
    reasons.push(...this.state.missingUpdates);
    const open = this.state.plan.guests.length - this.state.outcomes.size;
    if (open > 0 && stop === undefined) reasons.push(`${open} guests without an outcome`);
    this.#decisions.enter('over');
  }
}
