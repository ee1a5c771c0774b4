/** The guests of a run as jobs: cut into slices, each claimed by one worker, handed out by capacity. */
import type { Redis } from 'ioredis';
import { reclaim, unclaimed, type Reclaimed } from './claims.ts';
import { sliceGuests, type RunKeys } from './protocol.ts';
import type { JobProducer } from './queue.ts';
import type { WorkerState } from './run-state.ts';

export class Slices {
  /** Guests of a slice; the last one may have fewer. */
  readonly size: number;

  constructor(
    private readonly redis: Redis,
    private readonly keys: RunKeys,
    private readonly jobs: () => JobProducer,
    private readonly guests: number,
  ) {
    this.size = sliceGuests(guests);
  }

  get count(): number {
    return Math.ceil(this.guests / this.size);
  }

  /** Whether workers of these capacities have room for all; a slice runs on one worker. */
  fit(capacities: readonly number[]): boolean {
    return capacities.reduce((sum, capacity) => sum + Math.floor(capacity / this.size), 0) >= this.count;
  }

  guestsOf(slices: readonly number[]): number[] {
    return slices.flatMap((slice) => {
      const from = slice * this.size;
      return Array.from({ length: Math.min(this.guests, from + this.size) - from }, (_, i) => from + i);
    });
  }

  /** Fences a worker and takes its slices away. */
  reclaim(worker: string): Promise<Reclaimed> {
    return reclaim(this.redis, this.keys, worker, this.count);
  }

  /**
   * Adds the jobs of slices, given with their incarnation. One that is there already is left as it is, and one that was taken
   * already is refused by its claim.
   */
  async add(slices: readonly (readonly [slice: number, incarnation: number])[], epochMs: number): Promise<void> {
    const jobs = slices.map(([slice, incarnation]) => ({
      id: `slice-${slice}-${incarnation}`,
      data: {
        v: 1,
        slice,
        from: slice * this.size,
        to: Math.min(this.guests, (slice + 1) * this.size),
        incarnation,
        ...(incarnation === 1 ? {} : { epochMs }),
      },
    }));
    if (jobs.length > 0) await this.jobs().addAll(jobs);
  }

  /** Adds the jobs of all slices that nobody holds. */
  async addWaiting(epochMs: number): Promise<void> {
    await this.add(await unclaimed(this.redis, this.keys, this.count), epochMs);
  }

  /** How many slices each worker may run at a time: by capacity, so that all that are open find a place. */
  shares(alive: readonly WorkerState[], ended: { has(guest: number): boolean }): Record<string, number> {
    let open = 0;
    for (let slice = 0; slice < this.count; slice++) {
      if (this.guestsOf([slice]).some((guest) => !ended.has(guest))) open++;
    }
    const capacity = alive.reduce((sum, { registration }) => sum + registration.capacity, 0);
    const jobs: Record<string, number> = {};
    for (const { registration } of alive) {
      const room = Math.floor(registration.capacity / this.size);
      jobs[registration.worker] = Math.min(room, Math.ceil((open * registration.capacity) / capacity));
    }
    return jobs;
  }
}
