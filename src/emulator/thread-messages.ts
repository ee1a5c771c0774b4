/** What the main thread of a worker process and its driver threads tell each other. */
import type { MessagePort } from 'node:worker_threads';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import type { Capacity, Ref } from '../model/arena.ts';
import type { InvariantName, Violation } from '../model/oracle.ts';
import type { Mark } from './emulator.ts';

/** The one long task of a driver thread. */
export interface ThreadTask {
  readonly thread: number;
  readonly plan: RunPlanHead;
  readonly arena: SharedArrayBuffer;
  readonly capacity: Capacity;
  readonly control: { readonly buffer: SharedArrayBuffer; readonly threads: number; readonly ringCells: number };
  readonly stats: { readonly buffer: SharedArrayBuffer; readonly byteOffset: number };
  readonly port: MessagePort;
}

/** The plan without its guests, which arrive one by one. */
export type RunPlanHead = Omit<RunPlan, 'guests'>;

export type ToThread =
  | {
      readonly type: 'start';
      readonly guest: GuestPlan;
      readonly incarnation: number;
      /** End of the run for this guest, ns of model time after the start; null: none. */
      readonly runEndNs: number | null;
      /** The run's start on the monotonic clock of the machine, ms. */
      readonly runStartMs: number;
      readonly guestMm: Ref;
      readonly bufferPage: number;
      readonly bufferPages: number;
      readonly actors: readonly { readonly index: number; readonly actor: Ref; readonly task: Ref }[];
    }
  | { readonly type: 'exit'; readonly guest: number; readonly actors: readonly Ref[] }
  /** The actor `worker`, a kworker, is to apply a deferred update of the guest. */
  | {
      readonly type: 'work';
      readonly guest: number;
      /** Whose trylock failed. */
      readonly from: Ref;
      readonly worker: Ref;
      readonly mm: Ref;
      readonly npage: number;
    };

export type ViolationCounts = { readonly [K in InvariantName]?: number };

export type FromThread =
  /** The thread is warm and takes guests. */
  | { readonly type: 'ready' }
  | {
      readonly type: 'parked';
      readonly guest: number;
      readonly actor: Ref;
      readonly operations: number;
      readonly failedOperations: number;
      readonly error: string | null;
      /** Violations on this thread since the last such message, by invariant. */
      readonly violations: ViolationCounts;
    }
  | { readonly type: 'exited'; readonly guest: number; readonly actor: Ref; readonly violations: ViolationCounts }
  | { readonly type: 'worked'; readonly worker: Ref }
  | ({ readonly type: 'mark' } & Mark)
  | { readonly type: 'violation'; readonly violation: Violation };
