/** The events of a live run, from what its coordinator tells. Here the run's clock is read. */
import type { CoordinatorListener } from '../coordinator/coordinator-api.ts';
import type { GuestOutcome } from '../emulator/emulator.ts';
import type { RunPlan } from '../engine/plan.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import type { GuestRow } from '../report/run-dir.ts';
import type { LiveFigures } from './live-figures.ts';
import { MachineLoad } from './machine-load.ts';
import type { RunBegun, RunEvent } from './run-event.ts';
import { dropNegative } from './run-notes.ts';

export class LiveEvents implements CoordinatorListener {
  readonly #figures: LiveFigures;
  readonly #begun: () => Omit<RunBegun, 'startEpochSeconds'>;
  readonly #emit: (event: RunEvent) => void;
  /** Null: the workers are on other machines, where nobody asks what else runs. */
  readonly #load: MachineLoad | null;
  /** When guests start: on the Redis clock, and on this process's own. */
  #startEpochSeconds = 0;
  #startMs: number | null = null;
  #endMs: number | null = null;
  /** What the workers had sent by the end of the last interval. */
  #sent: Snapshot;
  #sentSeconds = 0;
  #goesOn = false;

  /** @param begun asked for once, when all workers are there. @param ownWorkers they are on this machine. */
  constructor(
    figures: LiveFigures,
    begun: () => Omit<RunBegun, 'startEpochSeconds'>,
    ownWorkers: boolean,
    emit: (event: RunEvent) => void,
  ) {
    this.#figures = figures;
    this.#begun = begun;
    this.#emit = emit;
    this.#load = ownWorkers ? new MachineLoad() : null;
    this.#sent = new Snapshot(figures.watch.total.layout);
  }

  get elapsedSeconds(): number {
    return this.#startMs === null ? 0 : ((this.#endMs ?? performance.now()) - this.#startMs) / 1000;
  }

  /** The run is over: its clock stands. */
  stop(): void {
    this.#endMs = performance.now();
  }

  started(startAtMs: number, inMs: number): void {
    this.#startEpochSeconds = startAtMs / 1000;
    // The run was resumed when the start is past.
    this.#startMs = performance.now() + Math.min(0, inMs);
    const begun = this.#begun();
    const { written, plan, record } = begun;
    if (written !== null) {
      this.#sent = written.snapshot;
      this.#sentSeconds = written.endSeconds;
      this.#goesOn = true;
    }
    this.#emit({ ...begun, startEpochSeconds: this.#startEpochSeconds });
    if (written === null) this.#happened(0, 'start', { runId: record.run.id, guests: plan.guests.length });
  }

  progress(): void {
    const { state } = this.#figures;
    const now = state.merged('all');
    const delta = now.since(this.#sent);
    if (this.#goesOn) dropNegative(delta);
    this.#goesOn = false;
    this.#sent = now;
    const startSeconds = this.#sentSeconds;
    const endSeconds = this.elapsedSeconds;
    this.#sentSeconds = endSeconds;
    this.#emit({
      t: 'interval',
      startSeconds,
      endSeconds,
      delta,
      gauges: { deferred_backlog: state.backlog, locked_vm_drift_pages: state.driftPages },
      guests: state.guestStates,
      violations: state.violations,
      othersShare: this.#othersShare(),
    });
  }

  guest(outcome: GuestOutcome, worker: string, replayed: boolean): void {
    const { state, watch } = this.#figures;
    const epochMs = state.epochs.get(outcome.guest);
    const laterSeconds = epochMs === undefined ? 0 : Math.max(0, epochMs / 1000 - this.#startEpochSeconds);
    this.#emit({ t: 'guest', row: guestRow(watch.plan, outcome, worker, laterSeconds), replayed });
  }

  event(kind: string, fields: Record<string, unknown>, replayed: boolean): void {
    this.#happened(this.elapsedSeconds, kind, fields, replayed);
  }

  #happened(atSeconds: number, kind: string, fields: Record<string, unknown>, replayed = false): void {
    this.#emit({ t: 'event', atSeconds, kind, fields, replayed });
  }

  #othersShare(): number | null {
    const { user, system } = process.cpuUsage();
    const workers = this.#figures.workers.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
    return this.#load?.others((user + system) / 1e6 + workers) ?? null;
  }
}

/** @param laterSeconds by how much later than planned its start was due, because it ran again. */
function guestRow(plan: RunPlan, outcome: GuestOutcome, worker: string, laterSeconds: number): GuestRow {
  const { guest, incarnation, state, operations, failedOperations, error, lockedVmAfterPages, phasesMs } = outcome;
  const planned = plan.guests[guest];
  const seconds = (ms: number | undefined): number | null => (ms === undefined ? null : Math.max(0, ms) / 1000);
  return {
    guest,
    class: planned?.class ?? '',
    incarnation,
    worker,
    state,
    startSeconds: laterSeconds + (plan.pace === 0 ? 0 : (planned?.startNs ?? 0) / plan.pace / 1e9),
    restSeconds: seconds(phasesMs?.rest),
    settledSeconds: seconds(phasesMs?.settled),
    endSeconds: seconds(phasesMs?.ended),
    operations,
    failedOperations,
    lockedVmAfterPages,
    error: error ?? null,
  };
}
