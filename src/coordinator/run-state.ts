/**
 * What the coordinator knows of a run: the merged state of its workers. Every update is idempotent: intervals by
 * sequence number, outcomes by guest and incarnation.
 */
import { actualSeries, LATENESS, OPS, OUTCOMES } from '../metrics/ops.ts';
import type { WorkerHealth } from '../metrics/run-metrics.ts';
import { Snapshot, decodeSnapshot } from '../metrics/snapshot.ts';
import type { StatsLayout } from '../metrics/stats.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import type { GuestOutcome } from '../worker/emulator-api.ts';
import type { Final, Interval, Registration } from './protocol.ts';

const ACTUAL_SERIES = OPS.flatMap((_, op) => OUTCOMES.map((_outcome, outcome) => actualSeries(op, outcome)));

export interface WorkerState {
  readonly registration: Registration;
  /** Monotonic milliseconds of the last sign of life. */
  lastSeenMs: number;
  seq: number;
  interval: Interval | null;
  snapshot: Snapshot;
  final: Final | null;
  /** Why it was declared lost, or null. */
  lost: string | null;
}

export interface GuestCounts {
  readonly planned: number;
  readonly completed: number;
  readonly stopped: number;
  readonly failed: number;
  /** Without an outcome though the run is over, on account of a lost worker. */
  readonly lost: number;
}

export class RunState {
  readonly plan: RunPlan;
  readonly layout: StatsLayout;
  readonly workers = new Map<string, WorkerState>();
  readonly outcomes = new Map<number, GuestOutcome>();
  /** Messages refused: of unknown or lost workers, or inconsistent with the plan. */
  refused = 0;
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
      interval: null,
      snapshot: new Snapshot(this.layout),
      final: null,
      lost: null,
    });
  }

  /** The worker that sent a message; null, and counted, if it is unknown or was declared lost. */
  sender(worker: string, nowMs: number): WorkerState | null {
    const state = this.workers.get(worker);
    if (state === undefined || state.lost !== null) {
      this.refused++;
      return null;
    }
    state.lastSeenMs = nowMs;
    return state;
  }

  interval(state: WorkerState, interval: Interval): void {
    if (interval.seq <= state.seq) return;
    try {
      state.snapshot = decodeSnapshot(this.layout, interval.snapshot);
    } catch {
      this.refused++;
      return;
    }
    state.seq = interval.seq;
    state.interval = interval;
  }

  /** @returns whether it is news. */
  outcome(outcome: GuestOutcome): boolean {
    const known = this.outcomes.get(outcome.guest);
    if (outcome.guest >= this.plan.guests.length) {
      this.refused++;
      return false;
    }
    if (known !== undefined && known.incarnation >= outcome.incarnation) return false;
    this.outcomes.set(outcome.guest, outcome);
    return true;
  }

  /**
   * The sum of all workers' statistics, lost ones up to their last interval. Updates that were pending there went down with the
   * guests they belonged to: they count as discarded.
   */
  merged(): Snapshot {
    const sum = new Snapshot(this.layout);
    const discarded = this.layout.counter('deferred_discarded');
    for (const { snapshot, lost } of this.workers.values()) {
      sum.add(snapshot);
      if (lost === null) continue;
      const settled = snapshot.counter('deferred_applied') + snapshot.counter('deferred_discarded');
      sum.counters[discarded]! += Math.max(0, snapshot.counter('deferred_queued') - settled);
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
    return this.#sum((state) => Math.abs(Number(state.interval?.driftPages ?? 0)));
  }

  get violations(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const { interval } of this.workers.values()) {
      for (const [name, n] of Object.entries(interval?.violations ?? {})) sum[name] = (sum[name] ?? 0) + n;
    }
    return sum;
  }

  /** Guests by state while the run goes on. */
  get guestStates(): { pending: number; running: number; finished: number; failed: number; lost: number } {
    const ended = this.outcomes.size;
    const ranOn = (lost: boolean): number =>
      this.#sum((state) => ((state.lost !== null) === lost ? (state.interval?.states['running'] ?? 0) : 0));
    const running = ranOn(false);
    // As of the lost worker's last word; an outcome that came after it is no loss.
    const lost = Math.max(0, Math.min(ranOn(true), this.plan.guests.length - ended - running));
    let failed = 0;
    for (const { state } of this.outcomes.values()) if (state === 'failed') failed++;
    const pending = Math.max(0, this.plan.guests.length - ended - running - lost);
    return { pending, running, finished: ended - failed, failed, lost };
  }

  /** The workers side by side. @param nowMs monotonic milliseconds. */
  workerHealth(nowMs: number): WorkerHealth[] {
    return [...this.workers].map(([name, { registration, snapshot, interval, lastSeenMs, lost, final }]) => {
      const late = snapshot.series(LATENESS);
      return {
        name,
        state: lost !== null ? 'lost' : final !== null ? 'done' : 'alive',
        silenceSeconds: (nowMs - lastSeenMs) / 1000,
        guestsRunning: interval?.states['running'] ?? 0,
        deferredBacklog: interval?.backlog ?? 0,
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
    const counts = { completed: 0, stopped: 0, failed: 0 };
    for (const { state } of this.outcomes.values()) counts[state]++;
    const open = planned - this.outcomes.size;
    // Without a lost worker, a guest without an outcome was never started: the user stopped the run.
    if (this.workersLost === 0 && !this.abandoned)
      return { planned, ...counts, stopped: counts.stopped + open, lost: 0 };
    return { planned, ...counts, lost: open };
  }

  #sum(of: (state: WorkerState) => number): number {
    let sum = 0;
    for (const state of this.workers.values()) sum += of(state);
    return sum;
  }
}
