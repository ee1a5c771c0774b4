/**
 * What a guest's actors do. One workload a file; each is a generator over kernel paths, so it runs under every driver.
 */
import type { z } from 'zod';
import type { Actor } from '../engine/actor.ts';
import type { GuestPlan } from '../engine/guest-plan.ts';
import type { Path } from '../model/env.ts';

/** What one actor of a workload needs of the arena, at most. */
export interface Needs {
  readonly mappings: number;
  /** Pieces its memory can fall into. */
  readonly segments: number;
  /** It forks: a process more, and a copy of what describes the guest's memory. */
  readonly forks?: boolean;
  /** Pages an mdev driver can hold. */
  readonly externalPages: number;
  /** Pages it maps at most, counted once per mapping; left out: few. */
  readonly mappedPages?: number;
}

export interface Workload<O = unknown> {
  readonly name: string;
  /** One line for lists and editors. */
  readonly summary: string;
  readonly options: z.ZodType<O, unknown>;
  /** The task kinds it makes sense for; the first is the default. */
  needs(options: O, guest: GuestPlan): Needs;
  /** Runs until the actor is told to stop or the work is done. */
  run(actor: Actor, options: O): Path<void>;
}

/** Ties a workload's options to its schema; the registry itself forgets the type again. */
export function workload<O>(w: Workload<O>): Workload {
  return w as unknown as Workload;
}
