import type { GuestEnd, GuestStates } from '../engine/guest-life.ts';
import type { MarkCount } from '../engine/mark-tally.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { refuseTooLarge } from './capacity.ts';
import type { Violation } from './emulator.ts';

export interface VirtualMark {
  readonly guest: number;
  readonly atNs: number;
  readonly label: string;
  readonly value: string;
}

export interface VirtualViolation extends Violation {
  readonly atNs: number;
}

/** Instants at which statistics are taken while a host runs: `fromNs`, and every `everyNs` after it up to `toNs`. */
export interface GridLine {
  readonly fromNs: number;
  /** Infinity: only `fromNs`. */
  readonly everyNs: number;
  /** Infinity: as long as the host runs. */
  readonly toNs: number;
}

/** What an interval of simulated time added on one host. */
export interface HostInterval {
  /** Null: the rest, up to the end of the host. */
  readonly endNs: number | null;
  /** The increase of the statistics, encoded. */
  readonly delta: string;
  /** The rest is as it was at the end of the interval. */
  readonly backlog: number;
  readonly driftPages: number;
  readonly guests: GuestStates;
}

/** How a guest ended; ns of simulated time. */
export interface VirtualGuest {
  readonly guest: number;
  readonly state: GuestEnd;
  /** When its actors were at rest, when its last deferred update had been applied, when its processes had exited. */
  readonly restNs: number | null;
  readonly settledNs: number | null;
  /** Null, as the others, where the host was left before that: its account was not judged. */
  readonly endNs: number | null;
  readonly operations: number;
  readonly failedOperations: number;
  readonly lockedVmAfterPages: string;
  readonly error: string | null;
}

/** What one emulated host gives back: plain data. */
export interface HostResult {
  /** Its statistics, encoded. */
  readonly snapshot: string;
  /** Empty unless the task asked for them. */
  readonly intervals: readonly HostInterval[];
  /** When the last guest's work was done, ns of simulated time. */
  readonly endNs: number;
  readonly events: number;
  /** When it was told to stop before its end; null: it was not. */
  readonly stoppedAtNs: number | null;
  readonly guestsFinished: number;
  /** Guests whose workload ended with an error, with the first of them. */
  readonly guestsFailed: number;
  readonly error: string | null;
  /** Address spaces whose account was judged at rest. */
  readonly checked: number;
  readonly violationCounts: Readonly<Record<string, number>>;
  readonly violations: readonly VirtualViolation[];
  readonly driftPages: number;
  readonly deferredBacklogMax: number;
  /** Most mappings a container has had. */
  readonly mappingsMax: number;
  /** The first marks of its guests. */
  readonly marks: readonly VirtualMark[];
  /** All of them, counted. */
  readonly markCounts: readonly MarkCount[];
  /** In the order of their ends. */
  readonly guests: readonly VirtualGuest[];
}

export interface HostTask {
  /** The plan; `guests` are those of this host alone. */
  readonly plan: Omit<RunPlan, 'guests'>;
  readonly guests: readonly GuestPlan[];
  /** Left out: only the statistics of the whole run are kept. */
  readonly grid?: readonly GridLine[];
  /** Guests end at their next operation after this instant, and no further guest starts. */
  readonly stopAtNs?: number;
  readonly control?: HostControl;
  /** See HostOptions. */
  readonly stepByStep?: boolean;
}

/** What a host shares with the thread that waits for it. */
export interface HostControl {
  /** Word 0: not 0 once the host is to stop. */
  readonly stop: Int32Array;
  /** Word 0: how far it is. */
  readonly simulatedNs: Float64Array;
}

/** The guests of host `index`: dealt out in turn. */
export function guestsOfHost(plan: RunPlan, index: number): GuestPlan[] {
  return plan.guests.filter((guest) => guest.index % plan.host.count === index);
}

const FEWER_ON_A_HOST = 'use more emulated hosts, for example --set host.count=4, or fewer mappings in each guest';

/** The tasks of a run, one per emulated host. @throws UserError 104 for a host that holds too much. */
export function hostTasks(plan: RunPlan, grid?: readonly GridLine[]): HostTask[] {
  const { guests, ...head } = plan;
  const count = Math.min(plan.host.count, Math.max(1, guests.length));
  return Array.from({ length: count }, (_, i) => {
    const own = guestsOfHost(plan, i);
    refuseTooLarge(own, resolveVariant(plan.variant), FEWER_ON_A_HOST);
    return { plan: head, guests: own, ...(grid === undefined ? {} : { grid }) };
  });
}
