/** The guests of a run as jobs: cut into slices, each claimed by one worker, handed out by capacity. */
import type { Redis } from 'ioredis';
import type { RunPlan } from '../engine/plan.ts';
import type { RunKeys } from '../wire/keys.ts';
import { planSlices, sliceGuests } from '../wire/plan-slices.ts';
import type { JobProducer } from '../wire/queue.ts';
import type { Lead } from './lead.ts';
import { type Holding, holdings, reclaim, type Reclaimed } from './reclaim.ts';
import type { WorkerState } from './run-state.ts';

export class Slices {
  /** Guests of the largest slice. */
  readonly size: number;
  readonly #reruns = new Map<number, { readonly incarnation: number; readonly epochMs: number }>();

  constructor(
    private readonly redis: Redis,
    private readonly keys: RunKeys,
    private readonly jobs: () => JobProducer,
    private readonly slices: readonly (readonly number[])[],
    private readonly lead: Lead,
  ) {
    this.size = slices.reduce((most, { length }) => Math.max(most, length), 1);
  }

  get count(): number {
    return this.slices.length;
  }

  /** Slices that workers have room for; a slice runs on one worker. */
  room(workers: readonly WorkerState[]): number {
    return workers.reduce((sum, worker) => sum + this.#slots(worker), 0);
  }

  /** What to do where workers have too little room. */
  roomHint(workers: readonly WorkerState[]): string {
    const alone = sliceGuests(this.slices.reduce((sum, { length }) => sum + length, 0));
    return this.size > alone && this.room(workers) === 0
      ? `give one worker a --capacity of ${this.size}: so many guests share the quota of one uid`
      : 'start more workers, or give them more --capacity';
  }

  #slots({ registration }: WorkerState): number {
    return Math.floor(registration.capacity / this.size);
  }

  /** Slices with a guest that has not ended. */
  open(ended: (guest: number) => boolean): Set<number> {
    const open = new Set<number>();
    for (let slice = 0; slice < this.count; slice += 1) {
      if (this.guestsOf([slice]).some((guest) => !ended(guest))) open.add(slice);
    }
    return open;
  }

  guestsOf(slices: readonly number[]): number[] {
    return slices.flatMap((slice) => this.slices[slice] ?? []);
  }

  /** Fences a worker and takes its slices away. */
  reclaim(worker: string): Promise<Reclaimed> {
    return this.lead.as(() => reclaim(this.redis, this.keys, worker, this.count, this.lead.token));
  }

  /** These slices are to run again, in the incarnations given, as if the run had started at `epochMs`. */
  rerun(slices: readonly (readonly [slice: number, incarnation: number])[], epochMs: number): void {
    for (const [slice, incarnation] of slices) this.#reruns.set(slice, { incarnation, epochMs });
  }

  /**
   * Adds the jobs of all slices that wait for a worker and were not lost a moment ago: those have to be queued again. A
   * job that is there already is left as it is, and one of a slice that was taken is refused by its claim: so this can
   * be repeated, and recovers jobs that were taken but never run.
   */
  async addWaiting(held: readonly Holding[]): Promise<void> {
    const jobs = held.flatMap(({ slice, incarnation, worker }) => {
      const rerun = this.#reruns.get(slice);
      if (worker !== null || (incarnation > 1 && rerun?.incarnation !== incarnation)) return [];
      const epoch = rerun === undefined ? {} : { epochMs: rerun.epochMs };
      return [{ id: `slice-${slice}-${incarnation}`, data: { v: 1, slice, incarnation, ...epoch } }];
    });
    if (jobs.length > 0) await this.jobs().addAll(jobs);
  }

  holdings(): Promise<Holding[]> {
    return holdings(this.redis, this.keys, this.count);
  }

  /**
   * How many slices each worker may run at a time, in proportion to its room, so that all that are open find a place.
   */
  shares(workers: readonly WorkerState[], open: number): Record<string, number> {
    const room = Math.max(1, this.room(workers));
    return Object.fromEntries(
      workers.map((worker) => {
        const slots = this.#slots(worker);
        return [worker.registration.worker, Math.min(slots, Math.ceil((open * slots) / room))];
      }),
    );
  }
}

/** The capacity with which one worker has room for all slices. */
export function capacityForAll(plan: Pick<RunPlan, 'guests' | 'variant'>): number {
  const slices = planSlices(plan);
  return slices.length * slices.reduce((most, { length }) => Math.max(most, length), 1);
}
