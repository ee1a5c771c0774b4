/**
 * What the coordinator knows of a run: the merged state of its workers. Every update is idempotent: intervals by
 * sequence number, outcomes by guest and incarnation.
 *
 * A lost worker's figures cannot be told apart by guest. So when its guests run again elsewhere, it is *superseded*:
 * all of them run again, also those that had ended, and nothing it measured counts; the results are as if it had never
 * been there.
 */
import type { GuestOutcome } from '../emulator/emulator.ts';
import type { RunPlan } from '../engine/plan.ts';
import { addTo } from '../metrics/cells.ts';
import { actualSeries, type GuestState, LATENESS, OPS, OUTCOMES } from '../metrics/ops.ts';
import type { WorkerHealth } from '../metrics/run-metrics.ts';
import { decodeSnapshot } from '../metrics/read-snapshot.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import type { StatsLayout } from '../metrics/stats.ts';
import type { Final, Interval, Registration } from '../wire/messages.ts';

const ACTUAL_SERIES = OPS.flatMap((_, op) => OUTCOMES.map((_outcome, outcome) => actualSeries(op, outcome)));

/** A clock that is further away than this is worth a line, ms. */
const CLOCK_NOTE_MS = 100;

export interface WorkerState {
  readonly registration: Registration;
  /** Monotonic milliseconds of the last sign of life. */
  lastSeenMs: number;
  seq: number;
  /** The last mark that counted. */
  markSeq: number;
  interval: Interval | null;
  snapshot: Snapshot;
  final: Final | null;
  /** Why it was declared lost, or null. */
  lost: string | null;
  /** Its guests run again elsewhere, so nothing it said counts. */
  superseded: boolean;
  /** It was lost when none of its guests was open and its last interval had everything: what it measured counts. */
  accounted: boolean;
  /** Outcomes heard from it. */
  ended: number;
}

/** Whether every guest that ran at its last interval has ended since. */
const allEnded = ({ interval, ended }: WorkerState): boolean =>
  interval !== null && (interval.states['running'] ?? 0) <= ended - interval.ended;

/** Whether its last interval has all that the guests did whose outcomes it told: no guest ran, and no update waited. */
export const hasAll = ({ interval, ended }: WorkerState): boolean =>
  interval === null
    ? ended === 0
    : interval.ended === ended && (interval.states['running'] ?? 0) === 0 && interval.backlog === 0;

interface KnownOutcome extends GuestOutcome {
  readonly worker: string;
}

export interface GuestCounts {
  readonly planned: number;
  readonly completed: number;
  readonly stopped: number;
  readonly failed: number;
  /** Without an outcome though the run is over, on account of a lost worker. */
  readonly lost: number;
  /** Of the planned ones: begun again because their worker was lost. */
  readonly rerun: number;
}

export class RunState {
  readonly plan: RunPlan;
  readonly layout: StatsLayout;
  readonly workers = new Map<string, WorkerState>();
  readonly outcomes = new Map<number, KnownOutcome>();
  /** Guests that were begun again. */
  readonly reruns = new Set<number>();
  /** What counts as the run's start for guests that were begun later, ms of the Redis clock. */
  readonly epochs = new Map<number, number>();
  /** Messages refused: of unknown workers, or inconsistent with the plan. */
  refused = 0;
  /** Messages of workers that had been declared lost. */
  fromLost = 0;
  /** Guests without an outcome were given up, not stopped. */
  abandoned = false;
  /** Messages refused because they do not fit the protocol. */
  malformed = 0;

  constructor(plan: RunPlan, layout: StatsLayout) {
    this.plan = plan;
    this.layout = layout;
  }

  register(registration: Registration, nowMs: number): void {
    if (this.workers.has(registration.worker)) return;
    this.workers.set(registration.worker, {
      registration,
      lastSeenMs: nowMs,
      seq: 0,
      markSeq: 0,
      interval: null,
      snapshot: new Snapshot(this.layout),
      final: null,
      lost: null,
      superseded: false,
      accounted: false,
      ended: 0,
    });
  }

  /** The worker that sent a message; null, and counted, if it is unknown or was declared lost. */
  sender(worker: string, nowMs: number): WorkerState | null {
    const state = this.workers.get(worker);
    if (state === undefined) this.refused += 1;
    else if (state.lost !== null) this.fromLost += 1;
    else {
      state.lastSeenMs = nowMs;
      return state;
    }
    return null;
  }

  /** The workers that may still do something. */
  get alive(): WorkerState[] {
    return [...this.workers.values()].filter(({ lost, final }) => lost === null && final === null);
  }

  /** Workers that may be there and were not heard for longer than their lease. */
  silent(nowMs: number, leaseMs: number): string[] {
    return this.alive.flatMap(({ registration, lastSeenMs }) =>
      lastSeenMs < nowMs - leaseMs ? [registration.worker] : [],
    );
  }

  /** Lost workers that something depends on: their guests have not begun again, and nobody knows all that they did. */
  get missing(): WorkerState[] {
    return [...this.workers.values()].filter(
      (worker) => worker.lost !== null && !worker.superseded && !worker.accounted,
    );
  }

  /** Whether a guest has an outcome that nothing will undo: not one from a lost worker. */
  isSettled(guest: number): boolean {
    const worker = this.workers.get(this.outcomes.get(guest)?.worker ?? '');
    return worker !== undefined && (worker.lost === null || worker.superseded || worker.accounted);
  }

  /** Guests that have no outcome, or one from a lost worker. */
  get open(): number {
    let settled = 0;
    for (const guest of this.outcomes.keys()) if (this.isSettled(guest)) settled += 1;
    return this.plan.guests.length - settled;
  }

  /** The guests of a lost worker run again: forgets what it said of them. `guests` were in its hands. */
  supersede(worker: string, guests: Iterable<number>): void {
    const state = this.workers.get(worker);
    if (state !== undefined) state.superseded = true;
    for (const guest of guests) {
      this.reruns.add(guest);
      if (this.outcomes.get(guest)?.worker === worker) this.outcomes.delete(guest);
    }
  }

  interval(state: WorkerState, interval: Interval): void {
    if (interval.seq <= state.seq) return;
    try {
      state.snapshot = decodeSnapshot(this.layout, interval.snapshot);
    } catch {
      this.refused += 1;
      return;
    }
    state.seq = interval.seq;
    state.interval = interval;
  }

  /** @returns whether it is news. */
  outcome(worker: string, outcome: GuestOutcome): boolean {
    const known = this.outcomes.get(outcome.guest);
    if (outcome.guest >= this.plan.guests.length) {
      this.refused += 1;
      return false;
    }
    if (known !== undefined && known.incarnation >= outcome.incarnation) return false;
    this.outcomes.set(outcome.guest, { ...outcome, worker });
    const sender = this.workers.get(worker);
    if (sender !== undefined) sender.ended += 1;
    return true;
  }

  /**
   * The sum of the workers' statistics, lost ones up to their last interval. Updates that were pending there went down
   * with the guests they belonged to, and count as discarded. Where all of these guests have ended since, the updates
   * were applied before.
   * @param which all: what was measured so far, which never decreases. counted: without superseded workers, for
   * results.
   */
  merged(which: 'all' | 'counted'): Snapshot {
    const sum = new Snapshot(this.layout);
    const applied = this.layout.counter('deferred_applied');
    const discarded = this.layout.counter('deferred_discarded');
    for (const worker of this.workers.values()) {
      const { snapshot, lost, superseded } = worker;
      if (superseded && which === 'counted') continue;
      sum.add(snapshot);
      if (lost === null) continue;
      const settled = snapshot.counter('deferred_applied') + snapshot.counter('deferred_discarded');
      const pending = Math.max(0, snapshot.counter('deferred_queued') - settled);
      addTo(sum.counters, !superseded && allEnded(worker) ? applied : discarded, pending);
    }
    return sum;
  }

  get workersLost(): number {
    return [...this.workers.values()].filter(({ lost }) => lost !== null).length;
  }

  /** Deferred updates queued and not settled, on the workers that live. */
  get backlog(): number {
    return this.#sum((state) => (state.lost === null ? (state.interval?.backlog ?? 0) : 0));
  }

  get oldestAgeSeconds(): number {
    const ages = [...this.workers.values()].map((w) => (w.lost === null ? (w.interval?.oldestAgeSeconds ?? 0) : 0));
    return Math.max(0, ...ages);
  }

  /** How far locked_vm is from the pages finished operations hold, of running guests, summed over workers. */
  get driftPages(): number {
    return this.#sum((state) => (state.superseded ? 0 : Math.abs(Number(state.interval?.driftPages ?? 0))));
  }

  /** How far the workers' clocks are from the Redis clock at most, and have moved against it since they came, ms. */
  get clocks(): { skewMs: number; roundTripMs: number; jumpMs: number } {
    const clocks = { skewMs: 0, roundTripMs: 0, jumpMs: 0 };
    for (const { registration, interval } of this.workers.values()) {
      const { clockOffsetMs, roundTripMs } = registration;
      clocks.skewMs = Math.max(clocks.skewMs, Math.abs(clockOffsetMs));
      clocks.roundTripMs = Math.max(clocks.roundTripMs, roundTripMs);
      const moved = Math.abs((interval?.clockOffsetMs ?? clockOffsetMs) - clockOffsetMs);
      clocks.jumpMs = Math.max(clocks.jumpMs, moved);
    }
    return clocks;
  }

  get clockNotes(): string[] {
    const { skewMs, jumpMs } = this.clocks;
    if (jumpMs > CLOCK_NOTE_MS) return [`a worker's clock jumped by ${Math.round(jumpMs)} ms; no figure depends on it`];
    if (skewMs <= CLOCK_NOTE_MS) return [];
    return [`a worker's clock is ${Math.round(skewMs)} ms away from that of Redis; guests start by that of Redis`];
  }

  /** Losses that cost the run. */
  get lossReasons(): string[] {
    return this.missing.map(
      ({ registration, lost }) => `worker ${registration.worker} was lost before its final account: ${lost ?? ''}`,
    );
  }

  /** Losses that cost nothing. */
  get lossNotes(): string[] {
    return [...this.workers].flatMap(([name, { lost, superseded, accounted, ended }]) => {
      if (!superseded && !accounted) return [];
      const counts = ended === 0 ? 'it had no guest' : 'its guests had ended, and all they did counts';
      return [`worker ${name} was lost: ${lost ?? ''}; ${superseded ? 'nothing it measured counts' : counts}`];
    });
  }

  /** Deferred updates that workers had queued, and neither applied nor discarded. */
  get missingUpdates(): string[] {
    return [...this.workers].flatMap(([name, { final, superseded }]) => {
      if (final === null || superseded || final.deferred.missingCount === 0) return [];
      const ranges = final.deferred.missing.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(', ');
      return [`worker ${name}: ${final.deferred.missingCount} deferred updates missing, ids ${ranges}`];
    });
  }

  /** Guests that began later than planned though no worker was lost. */
  get lateNotes(): string[] {
    const late = [...this.outcomes.values()].flatMap(({ lateMs }) => lateMs ?? []);
    if (late.length === 0) return [];
    const most = Math.max(...late) / 1000;
    return [
      `${late.length} guests began up to ${most.toFixed(1)} s late: taking and building them took longer than the time before their start`,
    ];
  }

  /** By invariant, of all workers: what a lost one found is found. */
  get violations(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const { interval } of this.workers.values()) {
      for (const [name, n] of Object.entries(interval?.violations ?? {})) sum[name] = (sum[name] ?? 0) + n;
    }
    return sum;
  }

  /** Guests by state while the run goes on. */
  get guestStates(): Record<GuestState, number> {
    const ended = this.outcomes.size;
    const ranOn = (lost: boolean): number =>
      this.#sum((state) =>
        !state.superseded && (state.lost !== null) === lost ? (state.interval?.states['running'] ?? 0) : 0,
      );
    // Outcomes come sooner than the next interval: a guest that has ended no longer runs.
    const running = Math.min(ranOn(false), this.plan.guests.length - ended);
    // As of the lost worker's last word; an outcome that came after it is no loss.
    const lost = Math.max(0, Math.min(ranOn(true), this.plan.guests.length - ended - running));
    const { completed: finished, stopped, failed } = this.#outcomeCounts();
    const pending = Math.max(0, this.plan.guests.length - ended - running - lost);
    return { pending, running, finished, stopped, failed, lost };
  }

  /** The workers side by side. @param nowMs monotonic milliseconds. */
  workerHealth(nowMs: number): WorkerHealth[] {
    return [...this.workers].map(([name, { registration, snapshot, interval, lastSeenMs, lost, final }]) => {
      const late = snapshot.series(LATENESS);
      return {
        name,
        state: lost !== null ? 'lost' : final !== null ? 'done' : 'alive',
        silenceSeconds: (nowMs - lastSeenMs) / 1000,
        // What a lost worker had went down with it, or runs elsewhere.
        guestsRunning: lost === null ? (interval?.states['running'] ?? 0) : 0,
        deferredBacklog: lost === null ? (interval?.backlog ?? 0) : 0,
        threads: registration.threads,
        idleSeconds: snapshot.counter('thread_idle_ns') / 1e9,
        eventLoopDelaySeconds: (interval?.eventLoopDelayP99Ns ?? 0) / 1e9,
        residentBytes: interval?.residentBytes ?? 0,
        cpuSeconds: interval?.cpuSeconds ?? 0,
        operations: ACTUAL_SERIES.reduce((sum, id) => sum + snapshot.count(id), 0),
        lateness: { sumSeconds: (late?.sumNs ?? 0) / 1e9, count: snapshot.count(LATENESS) },
      };
    });
  }

  /** Guests by outcome; conserved: planned = completed + stopped + failed + lost once the run is over. */
  guestCounts(): GuestCounts {
    const planned = this.plan.guests.length;
    const counts = this.#outcomeCounts();
    const open = planned - this.outcomes.size;
    const rerun = this.reruns.size;
    // Unless a worker is missing, a guest without an outcome was never started: the user stopped the run.
    if (this.missing.length === 0 && !this.abandoned)
      return { planned, ...counts, stopped: counts.stopped + open, lost: 0, rerun };
    return { planned, ...counts, lost: open, rerun };
  }

  #outcomeCounts(): Record<GuestOutcome['state'], number> {
    const counts = { completed: 0, stopped: 0, failed: 0 };
    for (const { state } of this.outcomes.values()) counts[state] += 1;
    return counts;
  }

  #sum(of: (state: WorkerState) => number): number {
    let sum = 0;
    for (const state of this.workers.values()) sum += of(state);
    return sum;
  }
}

/** When the last guest must have ended, real ms after the start; Infinity when the plan does not say. */
export function longestMs({ guests, durationNs, pace }: RunPlan): number {
  if (pace === 0) return Infinity;
  const end = (guest: RunPlan['guests'][number]): number =>
    Math.min(guest.startNs + (guest.durationNs ?? Infinity), durationNs ?? Infinity);
  return guests.reduce((longest, guest) => Math.max(longest, end(guest)), 0) / pace / 1e6;
}
