/**
 * A run, live or simulated, as a stream of events: one `begun`, then intervals, guests and events in the order in which
 * they are known, then one `ended`. Seconds count from the run's start on the run's own clock.
 */
import type { RunPlan } from '../engine/plan.ts';
import type { Snapshot } from '../metrics/snapshot.ts';
import type { WrittenRun } from '../report/load.ts';
import type { RunResults } from '../report/results.ts';
import type { GuestRow, RunRecord } from '../report/run-dir.ts';
import type { ThresholdContext } from '../report/thresholds.ts';

/** Guests are about to start. */
export interface RunBegun {
  readonly t: 'begun';
  readonly record: RunRecord;
  /** The scenario with all defaults, YAML. */
  readonly scenario: string;
  readonly plan: RunPlan;
  /** What another process had written of the run before this one took its place. */
  readonly written: WrittenRun | null;
  /** When guests start, on the Redis clock; null in simulated time. */
  readonly startEpochSeconds: number | null;
}

/** The guests of an interval's end, by state. A simulated run loses none. */
export interface GuestStates {
  readonly pending: number;
  readonly running: number;
  readonly finished: number;
  readonly stopped: number;
  readonly failed: number;
  readonly lost?: number;
}

export interface RunInterval {
  readonly t: 'interval';
  readonly startSeconds: number;
  readonly endSeconds: number;
  /** What the interval added. */
  readonly delta: Snapshot;
  /** Values at its end. */
  readonly gauges: ThresholdContext['gauges'];
  readonly guests: GuestStates;
  /** Violations so far by invariant. Simulated runs have an event for each instead. */
  readonly violations: Readonly<Record<string, number>>;
  /** The share of this machine's processors that other processes have used, 0 .. 1; null where it does not matter. */
  readonly othersShare: number | null;
}

/** A guest ended. */
export interface RunGuest {
  readonly t: 'guest';
  readonly row: GuestRow;
  /** The process whose place this one took knew it. Left out: no. */
  readonly replayed?: boolean;
}

/** A line of events.jsonl. */
export interface RunHappening {
  readonly t: 'event';
  readonly atSeconds: number;
  readonly kind: string;
  readonly fields: Readonly<Record<string, unknown>>;
  /** As of a guest. */
  readonly replayed?: boolean;
}

export interface RunEnded {
  readonly t: 'ended';
  readonly results: RunResults;
}

export type RunEvent = RunBegun | RunInterval | RunGuest | RunHappening | RunEnded;

/** A place where the events of a run go: the run directory, the status line, the live page, Prometheus. */
export interface RunSink {
  /** @throws UserError when it cannot keep what it must keep. */
  take(event: RunEvent): void;
}
