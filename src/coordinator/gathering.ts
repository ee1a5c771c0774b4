/** Whether the workers that a run waits for are there. */
import { EXIT, UserError } from '../base/errors.ts';
import type { CoordinatorOptions } from './coordinator-api.ts';
import type { Decisions } from './decisions.ts';
import type { RunState } from './run-state.ts';
import type { Slices } from './slices.ts';

export class Gathering {
  /** For how many guests there was room when the listener last heard that it is too little. */
  #roomTold: number | undefined;
  /** How many workers there were when the listener last heard that the run waits for more. */
  #presentTold: number | undefined;

  constructor(
    private readonly state: RunState,
    private readonly slices: Slices,
    private readonly decisions: Decisions,
    private readonly options: CoordinatorOptions,
  ) {}

  /** Whether enough workers are there, with room for every guest; the error with which to give up after a while. */
  look(): boolean | UserError {
    const { minWorkers, gatherMs = 60_000, leaseMs } = this.options;
    const { workers, plan } = this.state;
    for (const worker of this.decisions.gone.keys()) workers.delete(worker);
    this.decisions.gone.clear();
    // A worker that is silent does not count until it speaks again.
    const heardSinceMs = performance.now() - leaseMs;
    const present = this.state.alive.filter(({ lastSeenMs }) => lastSeenMs >= heardSinceMs);
    const room = Math.min(plan.guests.length, this.slices.room(present) * this.slices.size);
    const enough = present.length >= minWorkers;
    if (!enough && present.length !== this.#presentTold) {
      this.decisions.event('gathering', { workers: present.length, of: minWorkers });
      this.#presentTold = present.length;
    }
    const fits = this.slices.room(present) >= this.slices.count;
    if (enough && !fits && room !== this.#roomTold) {
      this.decisions.event('no_room', { workers: present.length, room, guests: plan.guests.length });
      this.#roomTold = room;
    }
    if (enough && fits) return true;
    if (performance.now() - this.decisions.phaseSinceMs <= gatherMs) return false;
    return new UserError(
      EXIT.inconclusive,
      `${present.length} of ${minWorkers} workers came within ${gatherMs / 1000} s, with room for ${room} of ${plan.guests.length} guests`,
      this.slices.roomHint(present),
    );
  }
}
