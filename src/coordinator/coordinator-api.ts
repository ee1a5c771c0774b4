/** What the coordinator of a run is told, and what it tells. */
import type { GuestOutcome } from '../emulator/emulator.ts';
import type { RunPlan } from '../engine/plan.ts';
import type { RedisTarget } from '../wire/redis.ts';

export interface CoordinatorOptions {
  readonly target: RedisTarget;
  readonly plan: RunPlan;
  readonly runId: string;
  /** The run is there already: take the place of its coordinator. */
  readonly resume: boolean;
  /** The run starts when this many have registered and can hold all guests together. */
  readonly minWorkers: number;
  /** How long to wait for them, ms. */
  readonly gatherMs?: number;
  /** A worker silent for this long is lost, ms. */
  readonly leaseMs: number;
  /** What becomes of a lost worker's guests. */
  readonly onWorkerLoss: 'rerun' | 'partial';
  /** How long they wait for a worker with room, ms. */
  readonly rejoinMs: number;
  /** How long a stopped run may take to come to rest, ms. */
  readonly graceMs?: number;
}

export interface CoordinatorListener {
  /** All workers are there; guests start at `startAtMs`, epoch ms of the Redis clock, which is in `inMs`. */
  started(startAtMs: number, inMs: number): void;
  /** About once a second while guests run, and once at the end. */
  progress(): void;
  /** A guest ended; one that runs again after a loss ends again. */
  guest(outcome: GuestOutcome, worker: string, replayed: boolean): void;
  event(
    kind:
      | 'gathering'
      | 'worker_joined'
      | 'no_room'
      | 'worker_left'
      | 'worker_lost'
      | 'rerun'
      | 'guest_failed'
      | 'mark'
      | 'stop'
      | 'resumed'
      | 'redis_full',
    fields: Record<string, unknown>,
    /** It was known to the coordinator whose place this one took. */
    replayed: boolean,
  ): void;
}

/** Who or what ends a run before its guests do. */
export type Stopper = 'user' | 'threshold' | 'failure';

export type RunEnd =
  /** Every guest ended by itself and every worker gave its final account. */
  | 'complete'
  /** The user stopped it; the workers gave their final accounts. */
  | 'stopped'
  /** Something is missing: `reasons` says what. */
  | 'partial';
