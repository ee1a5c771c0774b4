/**
 * Whether a run goes on though it should have ended. With a pace its plan says when. At pace 0 no clock does, so a run
 * in which nothing happens any more, because its guests wait for something that never comes, is given up.
 */
import { actualSeries, OPS, OUTCOMES } from '../metrics/ops.ts';
import { longestMs, type RunState } from './run-state.ts';

const OPERATIONS = OPS.flatMap((_, op) => OUTCOMES.map((_outcome, outcome) => actualSeries(op, outcome)));
/**
 * Workers that use a smaller part of a processor do nothing that could still end; one operation may take minutes of it.
 */
const IDLE_SHARE = 0.2;
/** Busy workers are waited for so many times longer. */
const BUSY_PATIENCE = 10;
/** Between looks, ms: workers speak once a second. */
const LOOK_MS = 1000;

export class Overdue {
  readonly #longestMs: number;
  #lookedMs = -Infinity;
  /** Since when nothing has happened, and what had happened and been used by then. */
  #sinceMs = 0;
  #done = -1;
  #cpuSeconds = 0;

  constructor(
    private readonly state: RunState,
    private readonly graceMs: number,
  ) {
    this.#longestMs = longestMs(state.plan);
  }

  /** Why the run has to be stopped; undefined: it may go on. @param elapsedMs since the last start of guests. */
  why(nowMs: number, elapsedMs: number): string | undefined {
    const seconds = this.graceMs / 1000;
    if (elapsedMs > this.#longestMs + this.graceMs) return `guests went on ${seconds} s past their planned end`;
    if (this.state.plan.pace !== 0 || !this.#standsStill(nowMs)) return undefined;
    return `nothing has happened for more than ${seconds} s: no operation, no update and no guest has ended`;
  }

  #standsStill(nowMs: number): boolean {
    if (nowMs - this.#lookedMs < LOOK_MS) return false;
    this.#lookedMs = nowMs;
    let done = this.state.outcomes.size;
    let cpuSeconds = 0;
    for (const { snapshot, interval, lost } of this.state.workers.values()) {
      if (lost !== null) continue;
      cpuSeconds += interval?.cpuSeconds ?? 0;
      done += snapshot.counter('deferred_applied') + snapshot.counter('deferred_discarded');
      for (const id of OPERATIONS) done += snapshot.count(id);
    }
    if (done !== this.#done) {
      this.#sinceMs = nowMs;
      this.#done = done;
      this.#cpuSeconds = cpuSeconds;
      return false;
    }
    const stoodMs = nowMs - this.#sinceMs;
    const busy = cpuSeconds - this.#cpuSeconds > (IDLE_SHARE * stoodMs) / 1000;
    return stoodMs > (busy ? BUSY_PATIENCE * this.graceMs : this.graceMs);
  }
}
