/**
 * PCT: random priorities with d - 1 change points. Sebastian Burckhardt, Pravesh Kothari, Madanlal Musuvathi, Santosh
 * Nagarakatte: "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010, section 3.1. A
 * defect of depth d in a program of n actors and k steps shows in one execution with probability at least 1 / (n
 * k^(d-1)).
 *
 * differs: k counts only steps that others can see, and neither n nor k is known beforehand (work items come and go),
 * so the largest values met so far are used; the bound holds for executions that come after.
 */
import { type Prng, stream } from '../../base/prng.ts';
import type { Execution } from './execution.ts';
import type { Strategy } from './strategy.ts';

export class PctStrategy implements Strategy {
  readonly name = 'pct';
  #execution = 0;
  #random: Prng;
  /** Most actors and most visible steps of an execution so far. */
  #actors = 2;
  #stepsMax = 1;
  #steps = 0;
  #priorities: number[] = [];
  #changeAt: number[] = [];

  /** `depth` d: the number of ordering constraints a defect needs. */
  constructor(
    private readonly seed: number,
    private readonly depth: number,
  ) {
    this.#random = stream(seed, 'explore pct 0');
  }

  begin(): boolean {
    this.#random = stream(this.seed, `explore pct ${this.#execution}`);
    this.#execution += 1;
    this.#steps = 0;
    this.#priorities = [];
    this.#changeAt = Array.from({ length: this.depth - 1 }, () => 1 + this.#random.below(this.#stepsMax));
    return true;
  }

  pick(x: Execution, enabled: readonly number[]): number {
    let best = this.#highest(enabled);
    if (x.nextIsLocal(best)) return best;
    this.#steps += 1;
    for (const [i, at] of this.#changeAt.entries()) {
      // Below every starting priority, and below earlier change points.
      if (at === this.#steps) this.#priorities[best] = -1 - i;
    }
    best = this.#highest(enabled);
    return best;
  }

  fault(): boolean {
    return this.#random.below(2) === 1;
  }

  end(x: Execution): void {
    this.#actors = Math.max(this.#actors, x.actors.length);
    this.#stepsMax = Math.max(this.#stepsMax, this.#steps);
  }

  bound(): string {
    return 'random schedules';
  }

  promise(): string {
    const [n, k, d] = [this.#actors, this.#stepsMax, this.depth];
    const p = 1 / (n * k ** (d - 1));
    return `a defect of depth ${d} shows in one execution with probability >= 1/(n k^(d-1)) = 1/(${n} * ${k}^${d - 1}) = ${p.toPrecision(2)}`;
  }

  #highest(enabled: readonly number[]): number {
    let best = enabled[0] as number;
    for (const id of enabled) if (this.#priority(id) > this.#priority(best)) best = id;
    return best;
  }

  /** Drawn when an actor is first seen: an actor that comes later gets a random place among the others. */
  #priority(id: number): number {
    return (this.#priorities[id] ??= this.#random.float());
  }
}
