/**
 * The coordinator of a run: publishes the plan, waits for workers, starts all guests at one instant, follows their
 * reports, and brings the run to its end in whatever way. It touches neither the terminal nor the disk: it tells a
 * listener.
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
import { monotonicMs } from '../engine/wall/clock.ts';
import type { RedisHealth, RunPhase } from '../metrics/run-metrics.ts';
import { FullMemory } from '../wire/full-memory.ts';
import { runKeys, type RunKeys } from '../wire/keys.ts';
import { ControlMessage, type Decision, JournalEntry, orphanMs, WorkerMessage } from '../wire/messages.ts';
import { planSlices } from '../wire/plan-slices.ts';
import { guestQueue, type JobProducer, openProducer } from '../wire/queue.ts';
import { Receipts } from '../wire/receipts.ts';
import { clockOffset, isConnectionError, openRedis, redisFailure, serverLoad } from '../wire/redis.ts';
import { bidFarewell, listRuns, publishRun, removeRun } from '../wire/runs.ts';
import { isBefore, readWhole, StreamReader, tell } from '../wire/streams.ts';
import type { CoordinatorListener, CoordinatorOptions, RunEnd, Stopper } from './coordinator-api.ts';
import { Handout, type HandoutHost } from './handout.ts';
import { Lead } from './lead.ts';
import { Overdue } from './overdue.ts';
import { hasAll, RunState } from './run-state.ts';
import { Slices } from './slices.ts';

/** Time for the workers to take and build their guests before the common start. */
const START_LEAD_MS = 250;
const START_LEAD_PER_GUEST_MS = 0.5;
const TICK_MS = 1000;

/** Guests and workers may take so much longer than planned, ms. */
const GRACE_MS = 60_000;

/** A run can only go on as it began. */
export function otherPlan(runId: string, what: string): UserError {
  const hint = 'give the same scenario, options and version again';
  return new UserError(EXIT.invalid, `run ${runId} was started with ${what}`, hint);
}

export class Coordinator {
  readonly state: RunState;
  /** When each phase was entered, epoch seconds. */
  readonly phases: Partial<Record<RunPhase, number>> = { gathering: Date.now() / 1000 };
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
  readonly #reasons: string[] = [];
  /** Workers of whose end we know and that are not yet declared lost. */
  readonly #gone = new Map<string, string>();
  /** What follows from decisions and has not been done in Redis yet, in order. Each may be repeated. */
  readonly #effects: (() => Promise<void>)[] = [];
  #phase: RunPhase = 'gathering';
  #phaseSinceMs = performance.now();
  #listenedAtMs = performance.now();
  #nextTickMs = 0;
  /** For how many guests there was room when the listener last heard that it is too little. */
  #roomTold: number | undefined;
  /** The start of the run, and the last start of guests that run again, ms of the Redis clock. */
  #startAtMs = 0;
  #epochMs = 0;
  /** Since when no guest is open, ms. */
  #restedAtMs: number | undefined;
  /** What to add to the monotonic clock to get that of Redis. */
  #toRedisMs = 0;
  #stopWanted: Stopper | undefined;
  #stop: Stopper | undefined;
  #fatal: Error | undefined;
  /** Redis is out of reach: commands would only wait. */
  #redisAway = false;
  /** The run in Redis is this coordinator's to end and to remove. */
  #owned = false;
  #replaying = false;
  readonly #interruption = new Interruption();

  constructor(options: CoordinatorOptions, listener: CoordinatorListener) {
    this.#options = options;
    this.#listener = listener;
    this.state = new RunState(options.plan, statsLayout(options.plan));
    this.#overdue = new Overdue(this.state, options.graceMs ?? GRACE_MS);
    this.#keys = runKeys(options.target.prefix, options.runId);
    this.#redis = openRedis(options.target, 'finite');
    this.#receipts = new Receipts(this.#redis);
    this.#fullMemory = new FullMemory(options.target.label, orphanMs(options) / 2, () => this.#event('redis_full', {}));
    this.#lead = new Lead(this.#redis, this.#keys, options);
    const keys = [this.#keys.events, this.#keys.intervals];
    this.#reader = new StreamReader(openRedis(options.target, 'finite'), keys, WorkerMessage);
    this.#slices = new Slices(this.#redis, this.#keys, () => this.#queue, planSlices(options.plan), this.#lead);
    const host: HandoutHost = {
      state: this.state,
      decide: (decision, effect) => this.#decide(decision, effect),
      tell: (message) => this.#tell(message),
      lose: (worker, why) => this.#lose(worker, why),
      soonMs: () => this.#readClock().then(() => this.#redisNowMs() + START_LEAD_MS),
    };
    this.#handout = new Handout(this.#slices, host, options);
  }

  /** What speaks against taking the figures for the whole run. */
  get reasons(): string[] {
    return [...this.state.lossReasons, ...this.#reasons];
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
    if (this.#phase === 'gathering') this.#fatal ??= new UserError(EXIT.inconclusive, why);
    else this.#gone.set(worker, why);
  }

  /** Redis is gone for good: ends `run` with this error at once. */
  redisGone(error: Error): void {
    this.#fatal ??= error;
    this.#redisAway = true;
    // A command that waits for a connection does not fail when that is given up.
    this.#interruption.interrupt(error);
  }

  /**
   * Runs to the end. Throws what `redisGone` was given, or UserError 113 if the workers do not come or Redis stays
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
        for (const message of messages) this.#receive(message, now);
        this.state.malformed = this.#reader.refused;
        if (this.#fatal !== undefined) throw this.#fatal;
        await this.#interruption.orEnd(this.#fullMemory.bear(() => this.#act(now)));
        if (this.#phase === 'over') break;
      }
      this.#listener.progress();
      if (this.reasons.length > 0) return 'partial';
      return this.#stop === 'user' ? 'stopped' : 'complete';
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

  // ---- the beginning

  async #begin(): Promise<void> {
    const { plan, runId, leaseMs, resume, target } = this.#options;
    await this.#readClock();
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

  /**
   * Comes to the state of the coordinator whose place this one takes. Throws UserError 104 or 113 when that cannot be.
   */
  async #resume(): Promise<void> {
    const { runId, plan, target } = this.#options;
    const record = (await listRuns(this.#redis, target.prefix)).get(runId);
    if (record === undefined) {
      const hint = 'pinstorm clean lists the runs; one that has ended, or that Redis lost, cannot go on';
      throw new UserError(EXIT.invalid, `there is no run ${runId} at ${target.label}`, hint);
    }
    if (record.version !== VERSION || record.planHash !== plan.hash) {
      throw otherPlan(runId, record.version === VERSION ? 'another plan' : `pinstorm ${record.version}`);
    }
    await this.#lead.takeOver();
    this.#owned = true;
    this.#replaying = true;
    const now = performance.now();
    const journal = await readWhole(this.#redis, this.#keys.journal, JournalEntry);
    for (const [id, message] of await readWhole(this.#redis, this.#keys.events, WorkerMessage)) {
      while (journal[0] !== undefined && isBefore(journal[0][1]?.after ?? '0', id)) this.#replay(journal.shift()?.[1]);
      if (message === null) this.#reader.refused++;
      else this.#receive(message, now);
      this.#reader.skipTo(this.#keys.events, id);
    }
    for (const [, entry] of journal) this.#replay(entry);
    this.#replaying = false;
    // Its effects may have been left half done.
    const told = new Set((await readWhole(this.#redis, this.#keys.control, ControlMessage)).map(([, m]) => m?.t));
    if (this.#startAtMs > 0 && !told.has('start')) this.#effects.push(() => this.#tellStart(this.#startAtMs));
    for (const { registration } of this.state.missing) {
      this.#effects.push(async () => void (await this.#redis.hset(this.#keys.fenced, registration.worker, '1')));
    }
    if (this.#phase === 'running' && this.#stop === undefined) {
      this.#effects.push(() => this.#handout.addWaiting());
      this.#handout.shareDue = true;
    }
    if (this.#stop !== undefined) this.#effects.push(() => this.#tellStop());
    if (this.#phase === 'finishing' && !told.has('finish')) {
      this.#effects.push(() => this.#tell({ t: 'finish' }));
    }
    this.#listener.event('resumed', { workers: this.state.workers.size, guests: this.state.outcomes.size }, false);
  }

  #replay(entry: JournalEntry | null | undefined): void {
    if (entry === null || entry === undefined) this.#reader.refused++;
    else this.#apply(entry.decision);
  }

  // ---- the loop

  /** While we did not listen, or Redis took nothing, nobody was silent. */
  #forgiveSilence(now: number): void {
    const gapMs = now - this.#listenedAtMs;
    this.#listenedAtMs = now;
    const away = gapMs >= TICK_MS;
    if (away || this.#fullMemory.lasts) for (const worker of this.state.workers.values()) worker.lastSeenMs += gapMs;
    if (!away) return;
    // Somebody may have taken the lead meanwhile: that comes before every decision.
    this.#nextTickMs = 0;
  }

  async #act(now: number): Promise<void> {
    await this.#look();
    if (now >= this.#nextTickMs) {
      await this.#lead.hold();
      this.#nextTickMs = now + TICK_MS;
      this.redisHealth = { ...(await serverLoad(this.#redis)), guestJobs: await this.#queue.counts() };
      if (this.#phase !== 'gathering') this.#listener.progress();
    }
    for (let effect = this.#effects[0]; effect !== undefined; effect = this.#effects[0]) {
      await effect();
      this.#effects.shift();
    }
    if (this.#phase === 'running' && this.#stop === undefined) await this.#handout.share();
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

  #event(kind: Parameters<CoordinatorListener['event']>[0], fields: Record<string, unknown>): void {
    this.#listener.event(kind, fields, this.#replaying);
  }

  #receive(message: WorkerMessage, now: number): void {
    if (message.t === 'open') return;
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
        for (const outcome of message.outcomes) {
          // Nobody is stopped before a stop was decided.
          const plausible = outcome.state !== 'stopped' || this.#stop !== undefined;
          if (!plausible) this.state.refused++;
          if (!plausible || !this.state.outcome(message.worker, outcome)) continue;
          this.#listener.guest(outcome, message.worker, this.#replaying);
          if (outcome.state === 'failed') this.#event('guest_failed', { ...outcome });
        }
        break;
      case 'mark': {
        const { worker, guest, incarnation, label, value, seq } = message;
        if (seq <= sender.markSeq) break;
        sender.markSeq = seq;
        this.#event('mark', { worker, guest, incarnation, label, value });
        break;
      }
      case 'final':
        this.state.interval(sender, message.last);
        sender.final = message;
        if (this.#phase === 'running') {
          this.#event('worker_left', { worker: message.worker });
          this.#handout.shareDue = true;
        }
        break;
      case 'leave':
        this.#gone.set(message.worker, 'it was asked to end');
        break;
      case 'trouble':
        this.#gone.set(message.worker, message.error.split('\n', 1)[0] ?? '');
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
    this.#event('worker_joined', { worker, host, threads, capacity, clockOffsetMs });
    this.#handout.shareDue ||= this.#phase === 'running';
  }

  // ---- decisions

  /** Writes a decision down, then draws its consequences for our state; those for Redis are `effect`. */
  async #decide(decision: Decision, effect?: () => Promise<void>): Promise<void> {
    const entry = { after: this.#reader.last(this.#keys.events), decision };
    this.#receipts.entry(this.#keys.journal, await this.#lead.note(entry));
    this.#apply(decision);
    if (effect !== undefined) this.#effects.push(effect);
  }

  #apply(decision: Decision): void {
    switch (decision.d) {
      case 'start': {
        this.#startAtMs = decision.startAtMs;
        this.#epochMs = decision.startAtMs;
        // Who went before has no part in the run.
        for (const [worker, { final }] of this.state.workers) {
          if (final !== null || this.#gone.has(worker)) this.state.workers.delete(worker);
        }
        this.#gone.clear();
        this.#enter('running');
        this.#listener.started(decision.startAtMs, decision.startAtMs - this.#redisNowMs());
        break;
      }
      case 'lost': {
        const state = this.state.workers.get(decision.worker);
        if (state !== undefined) state.lost = decision.why;
        this.#gone.delete(decision.worker);
        this.#event('worker_lost', { worker: decision.worker, why: decision.why });
        break;
      }
      case 'rerun': {
        const { worker, epochMs, held, free } = decision;
        const guests = this.#slices.guestsOf(held.map(([slice]) => slice));
        this.state.supersede(worker, guests);
        for (const guest of [...guests, ...this.#slices.guestsOf(free.map(([slice]) => slice))]) {
          this.state.epochs.set(guest, epochMs);
        }
        this.#slices.rerun([...held, ...free], epochMs);
        this.#epochMs = Math.max(this.#epochMs, epochMs);
        const incarnations = Object.fromEntries([...held, ...free]);
        this.#event('rerun', { worker, guests: guests.length, incarnations });
        break;
      }
      case 'accounted': {
        const state = this.state.workers.get(decision.worker);
        if (state === undefined) break;
        state.accounted = true;
        if (decision.last !== null) this.state.interval(state, decision.last);
        break;
      }
      case 'stop':
        this.#stop = decision.by;
        this.state.abandoned ||= decision.by === 'failure';
        this.#phaseSinceMs = performance.now();
        this.#event('stop', { by: decision.by });
        break;
      case 'finish':
        this.#enter('finishing');
        break;
      case 'reason':
        if (!this.#reasons.includes(decision.text)) this.#reasons.push(decision.text);
        break;
    }
  }

  #enter(phase: RunPhase): void {
    this.#phase = phase;
    this.phases[phase] = Date.now() / 1000;
    this.#phaseSinceMs = performance.now();
  }

  async #readClock(): Promise<void> {
    this.#toRedisMs = (await clockOffset(this.#redis)).toRedisMs;
  }

  #redisNowMs(): number {
    return monotonicMs() + this.#toRedisMs;
  }

  async #advance(now: number): Promise<void> {
    const { leaseMs, graceMs = GRACE_MS } = this.#options;
    if (this.#phase === 'gathering') {
      await this.#gather();
      return;
    }
    for (const worker of this.state.silent(now, leaseMs)) {
      this.#gone.set(worker, `nothing heard for ${leaseMs / 1000} s: it died, hung, or was too busy for --lease`);
    }
    for (const [worker, why] of this.#gone) {
      const state = this.state.workers.get(worker);
      if (state === undefined || state.lost !== null || state.final !== null) this.#gone.delete(worker);
      else await this.#lose(worker, why);
    }
    // A loss takes effect in Redis before anybody asks what the worker held.
    if (this.#effects.length > 0) return;
    if (this.#stop !== undefined || this.#phase === 'finishing') await this.#handout.account('stays');
    if (this.#phase === 'running') await this.#follow(now, graceMs);
    else if (this.#phase === 'finishing') {
      const late = now - this.#phaseSinceMs > graceMs;
      if (late)
        for (const { registration } of this.state.alive) this.#gone.set(registration.worker, 'no final account');
      if (this.state.alive.length === 0) this.#conclude();
    }
  }

  async #lose(worker: string, why: string): Promise<void> {
    const fence = async (): Promise<void> => void (await this.#redis.hset(this.#keys.fenced, worker, '1'));
    await this.#decide({ d: 'lost', worker, why }, fence);
  }

  async #gather(): Promise<void> {
    const { minWorkers, gatherMs = 60_000, leaseMs } = this.#options;
    const { workers, plan } = this.state;
    for (const worker of this.#gone.keys()) workers.delete(worker);
    this.#gone.clear();
    // Whoever is silent now does not count, until it speaks again.
    const heardSinceMs = performance.now() - leaseMs;
    const present = this.state.alive.filter(({ lastSeenMs }) => lastSeenMs >= heardSinceMs);
    const room = Math.min(plan.guests.length, this.#slices.room(present) * this.#slices.size);
    const enough = present.length >= minWorkers;
    const fits = this.#slices.room(present) >= this.#slices.count;
    if (enough && !fits && room !== this.#roomTold) {
      this.#event('no_room', { workers: present.length, room, guests: plan.guests.length });
      this.#roomTold = room;
    }
    if (this.#stopWanted !== undefined) {
      this.#enter('over');
    } else if (enough && fits) {
      await this.#start();
    } else if (performance.now() - this.#phaseSinceMs > gatherMs) {
      throw new UserError(
        EXIT.inconclusive,
        `${present.length} of ${minWorkers} workers came within ${gatherMs / 1000} s, with room for ${room} of ${plan.guests.length} guests`,
        this.#slices.roomHint,
      );
    }
  }

  async #start(): Promise<void> {
    const total = this.state.plan.guests.length;
    const startAtMs = Math.ceil(this.#redisNowMs() + START_LEAD_MS + START_LEAD_PER_GUEST_MS * total);
    await this.#decide({ d: 'start', startAtMs }, () => this.#tellStart(startAtMs));
  }

  async #tellStart(startAtMs: number): Promise<void> {
    await this.#handout.addWaiting();
    await this.#tell({ t: 'start', startAtMs });
    this.#handout.shareDue = true;
  }

  async #follow(now: number, graceMs: number): Promise<void> {
    const { state } = this;
    if (this.#stop === undefined) {
      await this.#handout.upkeep(now);
      const given = await this.#handout.rescue(now);
      if (given !== undefined) {
        await this.#decide({ d: 'reason', text: given });
        this.#stopWanted ??= 'failure';
      }
    }
    const overdue = this.#stop === undefined ? this.#overdue.why(now, this.#redisNowMs() - this.#epochMs) : undefined;
    if (overdue !== undefined) {
      await this.#decide({ d: 'reason', text: overdue });
      this.#stopWanted ??= 'failure';
    }
    if (this.#stop === undefined && this.#stopWanted !== undefined) {
      await this.#decide({ d: 'stop', by: this.#stopWanted }, () => this.#tellStop());
      return;
    }
    const late = this.#stop !== undefined && now - this.#phaseSinceMs > graceMs;
    if (late) {
      await this.#decide({ d: 'reason', text: `guests did not come to rest within ${graceMs / 1000} s of the stop` });
      state.abandoned = true;
    }
    if (state.open > 0) this.#restedAtMs = undefined;
    const rested = this.#stop === undefined ? state.open === 0 && this.#allTold(now) : this.#atRest();
    if (rested || late) await this.#decide({ d: 'finish' }, () => this.#tell({ t: 'finish' }));
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
      ({ interval, lastSeenMs }) => lastSeenMs > this.#phaseSinceMs + 1500 && (interval?.states['running'] ?? 0) === 0,
    );
  }

  #conclude(): void {
    this.#reasons.push(...this.state.missingUpdates);
    const open = this.state.plan.guests.length - this.state.outcomes.size;
    if (open > 0 && this.#stop === undefined) this.#reasons.push(`${open} guests without an outcome`);
    this.#enter('over');
  }
}
