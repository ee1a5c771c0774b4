/**
 * What the coordinator of a run has decided, and what follows from it. A decision is written to the run's journal
 * before it takes effect. It changes the state of the run in the same way when it is made and when another coordinator
 * reads it back.
 */
import type { RunPhase } from '../metrics/run-metrics.ts';
import type { Decision } from '../wire/messages.ts';
import type { CoordinatorListener, Stopper } from './coordinator-api.ts';
import type { RunState } from './run-state.ts';
import type { Slices } from './slices.ts';

/** What decisions ask of Redis. */
export interface Journal {
  /** Writes a decision down. */
  write(decision: Decision): Promise<void>;
  /** The Redis clock, ms. */
  nowMs(): number;
}

export class Decisions {
  /** When each phase was entered, epoch seconds. */
  readonly phases: Partial<Record<RunPhase, number>> = { gathering: Date.now() / 1000 };
  phase: RunPhase = 'gathering';
  phaseSinceMs = performance.now();
  /** The start of the run, and the last start of guests that run again, ms of the Redis clock. */
  startAtMs = 0;
  epochMs = 0;
  stop: Stopper | undefined;
  /** Why the results do not cover the whole run, lost workers apart. */
  readonly reasons: string[] = [];
  /** Workers known to have ended but not yet declared lost, with the cause. */
  readonly gone = new Map<string, string>();
  /** Another coordinator made these decisions. */
  replaying = false;
  /** What decisions change in Redis and has not been done yet, in order. Each may be repeated. */
  readonly #effects: (() => Promise<void>)[] = [];

  constructor(
    private readonly state: RunState,
    private readonly slices: Slices,
    private readonly listener: CoordinatorListener,
    private readonly journal: Journal,
  ) {}

  /** Writes a decision down, then draws its consequences for our state; those for Redis are `effect`. */
  async decide(decision: Decision, effect?: () => Promise<void>): Promise<void> {
    await this.journal.write(decision);
    this.apply(decision);
    if (effect !== undefined) this.owe(effect);
  }

  /** Has something done in Redis with the next `settle`. */
  owe(effect: () => Promise<void>): void {
    this.#effects.push(effect);
  }

  /** Whether decisions have effects that are not done yet. */
  get unsettled(): boolean {
    return this.#effects.length > 0;
  }

  async settle(): Promise<void> {
    for (let effect = this.#effects[0]; effect !== undefined; effect = this.#effects[0]) {
      await effect();
      this.#effects.shift();
    }
  }

  enter(phase: RunPhase): void {
    this.phase = phase;
    this.phases[phase] = Date.now() / 1000;
    this.phaseSinceMs = performance.now();
  }

  event(kind: Parameters<CoordinatorListener['event']>[0], fields: Record<string, unknown>): void {
    this.listener.event(kind, fields, this.replaying);
  }

  apply(decision: Decision): void {
    switch (decision.d) {
      case 'start':
        this.#start(decision.startAtMs);
        break;
      case 'lost': {
        const state = this.state.workers.get(decision.worker);
        if (state !== undefined) state.lost = decision.why;
        this.gone.delete(decision.worker);
        this.event('worker_lost', { worker: decision.worker, why: decision.why });
        break;
      }
      case 'rerun':
        this.#rerun(decision);
        break;
      case 'accounted': {
        const state = this.state.workers.get(decision.worker);
        if (state === undefined) break;
        state.accounted = true;
        if (decision.last !== null) this.state.interval(state, decision.last);
        break;
      }
      case 'stop':
        this.stop = decision.by;
        this.state.abandoned ||= decision.by === 'failure';
        this.phaseSinceMs = performance.now();
        this.event('stop', { by: decision.by });
        break;
      case 'finish':
        this.enter('finishing');
        break;
      case 'reason':
        if (!this.reasons.includes(decision.text)) this.reasons.push(decision.text);
        break;
    }
  }

  #start(startAtMs: number): void {
    this.startAtMs = startAtMs;
    this.epochMs = startAtMs;
    // Workers that left before the start are not part of the run.
    for (const [worker, { final }] of this.state.workers) {
      if (final !== null || this.gone.has(worker)) this.state.workers.delete(worker);
    }
    this.gone.clear();
    this.enter('running');
    this.listener.started(startAtMs, startAtMs - this.journal.nowMs());
  }

  #rerun({ worker, epochMs, held, free }: Extract<Decision, { d: 'rerun' }>): void {
    const guests = this.slices.guestsOf(held.map(([slice]) => slice));
    this.state.supersede(worker, guests);
    for (const guest of [...guests, ...this.slices.guestsOf(free.map(([slice]) => slice))]) {
      this.state.epochs.set(guest, epochMs);
    }
    this.slices.rerun([...held, ...free], epochMs);
    this.epochMs = Math.max(this.epochMs, epochMs);
    const incarnations = Object.fromEntries([...held, ...free]);
    this.event('rerun', { worker, guests: guests.length, incarnations });
  }
}
