/**
 * Makes sure every unfinished guest is either queued or held by a live worker: tells workers their shares, sees that
 * each slice waits in the queue or is held by somebody alive, and has the guests of lost workers run again.
 */
import type { ControlMessage, Decision } from '../wire/messages.ts';
import { hasAll, type RunState } from './run-state.ts';
import type { Slices } from './slices.ts';

/** What it asks of the coordinator. */
export interface HandoutHost {
  readonly state: RunState;
  decide(decision: Decision, effect?: () => Promise<void>): Promise<void>;
  tell(message: ControlMessage): Promise<void>;
  /** Declares a worker lost. */
  lose(worker: string, why: string): Promise<void>;
  /** When guests can begin that are ordered now, ms of the Redis clock as it is now. */
  soonMs(): Promise<number>;
}

export interface HandoutOptions {
  readonly onWorkerLoss: 'rerun' | 'partial';
  /** How long guests wait for a worker with room, ms. */
  readonly rejoinMs: number;
}

/** Between two looks at who holds what, ms. */
const UPKEEP_MS = 1000;

export class Handout {
  /** Workers or their room have changed since they were told their shares. */
  shareDue = false;
  readonly #slices: Slices;
  readonly #host: HandoutHost;
  readonly #options: HandoutOptions;
  #nextUpkeepMs = 0;
  /** Slices that waited for a worker at the last look. */
  #waited: ReadonlySet<number> = new Set();
  #strandedSinceMs: number | null = null;

  constructor(slices: Slices, host: HandoutHost, options: HandoutOptions) {
    this.#slices = slices;
    this.#host = host;
    this.#options = options;
  }

  /** Puts every slice that waits for a worker into the queue. */
  async addWaiting(): Promise<void> {
    await this.#slices.addWaiting(await this.#slices.holdings());
  }

  async share(): Promise<void> {
    if (!this.shareDue) return;
    const shares = this.#slices.shares(this.#host.state.alive, this.#open().size);
    await this.#host.tell({ t: 'share', jobs: shares });
    this.shareDue = false;
  }

  /** Every second: what waits is in the queue, and who holds something has not left. */
  async upkeep(now: number): Promise<void> {
    if (now < this.#nextUpkeepMs) return;
    this.#nextUpkeepMs = now + UPKEEP_MS;
    const { workers } = this.#host.state;
    const open = this.#open();
    const held = (await this.#slices.holdings()).filter(({ slice }) => open.has(slice));
    // One that waited the last time too: its job may have been taken by somebody who could not do it.
    await this.#slices.addWaiting(held.filter(({ slice }) => this.#waited.has(slice)));
    this.#waited = new Set(held.flatMap(({ slice, worker }) => (worker === null ? [slice] : [])));
    const left = new Set(held.flatMap(({ worker }) => worker ?? []));
    for (const worker of left) {
      const state = workers.get(worker);
      if (state !== undefined && state.final !== null && state.lost === null) {
        await this.#host.lose(worker, 'it ended before its guests');
      }
    }
  }

  /**
   * Has the guests of lost workers run again where there is room.
   * @returns why it gives that up; undefined as long as it does not.
   */
  async rescue(now: number): Promise<string | undefined> {
    const { onWorkerLoss, rejoinMs } = this.#options;
    const { state } = this.#host;
    await this.account('runs');
    const { alive, missing, open } = state;
    if (open === 0 || (missing.length === 0 && alive.length > 0)) {
      this.#strandedSinceMs = null;
      return undefined;
    }
    const room = this.#slices.room(alive);
    if (onWorkerLoss === 'rerun' && room >= this.#slices.open((guest) => state.isSettled(guest)).size) {
      for (const { registration } of missing) await this.#rerun(registration.worker);
      return undefined;
    }
    if (onWorkerLoss === 'partial' && alive.length > 0) {
      if (missing.length === 0) return undefined;
    }
    this.#strandedSinceMs ??= now;
    if (onWorkerLoss === 'rerun' && now - this.#strandedSinceMs < rejoinMs) return undefined;
    const left = Math.min(open, room * this.#slices.size);
    const why = onWorkerLoss === 'partial' ? 'as --on-worker-loss asks' : `room for ${left} is left`;
    return `${open} guests were not run again: ${why}`;
  }

  /**
   * Lost workers without an open guest of which everything is known: what they did counts, and nothing has to run
   * again. They must have been fenced, so that they claim nothing any more.
   * @param waiting whether what waits for a worker still runs: a lost worker may have died with its jobs in hand.
   */
  async account(waiting: 'runs' | 'stays'): Promise<void> {
    const { state } = this.#host;
    const known = state.missing.filter(hasAll);
    if (known.length === 0) return;
    const open = this.#open();
    const held = (await this.#slices.holdings()).filter(({ slice }) => open.has(slice));
    const holders = new Set(held.map(({ worker }) => worker));
    for (const { registration, interval, ended } of known) {
      const { worker } = registration;
      if (holders.has(worker)) continue;
      if (waiting === 'runs' && ended === 0 && holders.has(null)) await this.#rerun(worker);
      else await this.#host.decide({ d: 'accounted', worker, last: interval });
    }
  }

  /** Slices with a guest that has no outcome. */
  #open(): Set<number> {
    return this.#slices.open((guest) => this.#host.state.outcomes.has(guest));
  }

  async #rerun(worker: string): Promise<void> {
    const { held, free } = await this.#slices.reclaim(worker);
    const { guests, pace } = this.#host.state.plan;
    // They begin at once, with the distances the plan gives them.
    const earliestNs = this.#slices
      .guestsOf(held.map(([slice]) => slice))
      .reduce((least, guest) => Math.min(least, guests[guest]?.startNs ?? 0), Infinity);
    const already = Number.isFinite(earliestNs) && pace > 0 ? earliestNs / pace / 1e6 : 0;
    const epochMs = (await this.#host.soonMs()) - already;
    await this.#host.decide({ d: 'rerun', worker, epochMs, held, free }, () => this.addWaiting());
    this.shareDue = true;
  }
}
