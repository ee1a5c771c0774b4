/** What a worker process asks of the emulator: the part that owns the arena and the threads. */
import type { GuestEnd, GuestStates } from '../engine/guest-life.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';
import type { Snapshot } from '../metrics/snapshot.ts';
import type { StatsBlock } from '../metrics/stats.ts';
import type { Violation as OracleViolation } from '../model/oracle.ts';

export interface GuestOutcome {
  readonly guest: number;
  readonly incarnation: number;
  readonly state: GuestEnd;
  readonly operations: number;
  readonly failedOperations: number;
  /** locked_vm after the guest's end in pages, decimal: it may have wrapped to an unsigned 64-bit value. */
  readonly lockedVmAfterPages: string;
  readonly error?: string;
  /** Real ms since the run's start at which its actors were at rest, its updates applied, its processes gone. */
  readonly phasesMs?: { readonly rest: number; readonly settled: number; readonly ended: number };
  /** Real ms by which it began later than planned, because no worker had taken and built it in time. */
  readonly lateMs?: number;
}

/** Something a guest wants kept in the run's events, for example locked_vm after its maps. */
export interface Mark {
  readonly guest: number;
  readonly incarnation: number;
  readonly label: string;
  readonly value: string;
}

/** A finding of the oracle, as it leaves the process: without the address of the mm there. */
export type Violation = Omit<OracleViolation, 'mm'>;

/** What the oracle and the invariants say once everything is at rest. */
export interface AccountingReport {
  /** Address spaces checked. */
  readonly checked: number;
  /** Violations found in all; `violations` holds the first few. */
  readonly violationCount: number;
  readonly violations: readonly Violation[];
}

export interface Emulator {
  readonly threads: number;
  /** Runs a guest to its end. `startAtMs`: when the run starts, ms of the machine's monotonic clock (hrtime). */
  startGuest(plan: GuestPlan, incarnation: number, startAtMs: number): Promise<GuestOutcome>;
  /** Graceful: guests end at the next operation boundary. */
  stopGuests(): void;
  /** Moves updates from the hand-over ring in shared memory to `out`, frees their slots; returns how many. */
  drainDeferred(max: number, out: DeferredUpdate[]): number;
  /** Doorbell: called soon after the ring became non-empty. */
  onDeferred(callback: () => void): void;
  /**
   * Takes mmap_sem for write (may wait), applies once. False: this operation id was applied before; ignored and
   * counted.
   */
  applyDeferred(update: DeferredUpdate): boolean | Promise<boolean>;
  /** The update of a guest that died: counted, not applied. */
  discardDeferred(update: DeferredUpdate): void;
  /** Statistics since the start of this process. */
  snapshot(): Snapshot;
  /** The live statistics, read at a scrape; all of one layout. */
  readonly blocks: readonly StatsBlock[];
  /** After all guests ended and all updates were applied: oracle and invariants. */
  quiesce(): Promise<AccountingReport>;
  /** Guests by state. */
  states(): GuestStates;
  /** Pages by which locked_vm differs from what finished operations hold, over the guests that run. */
  driftPages(): bigint;
  /** Violations so far, by invariant. */
  readonly violationCounts: ReadonlyMap<string, number>;
  /** Rejects when a driver thread dies. */
  readonly failure: Promise<unknown>;
  /** Called for what a guest wants kept in the run's events. */
  onMark: (mark: Mark) => void;
  close(): Promise<void>;
}

/** What the deferred pipeline needs of it. */
export type DeferredPort = Pick<Emulator, 'drainDeferred' | 'onDeferred' | 'applyDeferred' | 'discardDeferred'>;

export interface EmulatorOptions {
  readonly plan: RunPlan;
  /** Threads of the pool. */
  readonly threads: number;
}
export type CreateEmulator = (options: EmulatorOptions) => Promise<Emulator>;
