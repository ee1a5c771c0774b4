/**
 * Uniform random choice at every step that others can see. Each execution has a stream of its own, so that execution n
 * of a seed is the same whatever came before it.
 */
import { type Prng, stream } from '../../base/prng.ts';
import type { Execution } from './execution.ts';
import { goOn, type Strategy } from './strategy.ts';

export class RandomStrategy implements Strategy {
  readonly name = 'random';
  #execution = 0;
  #random: Prng;

  constructor(private readonly seed: number) {
    this.#random = stream(seed, 'explore random 0');
  }

  begin(): boolean {
    this.#random = stream(this.seed, `explore random ${this.#execution}`);
    this.#execution += 1;
    return true;
  }

  pick(x: Execution, enabled: readonly number[]): number {
    if (enabled.includes(x.current) && x.nextIsLocal(x.current)) return x.current;
    return enabled.length === 1 ? goOn(x, enabled) : (enabled[this.#random.below(enabled.length)] as number);
  }

  fault(): boolean {
    return this.#random.below(2) === 1;
  }

  bound(): string {
    return 'random schedules';
  }
}
