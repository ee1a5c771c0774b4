/**
 * Executes every schedule of another strategy twice and compares, step by step, who could go next and what each was
 * about to do. A difference means that something besides the choices decides what the model does, and no token could be
 * trusted.
 */
import type { FaultSite } from '../../model/env.ts';
import { STEP_NAMES } from '../../model/steps.ts';
import type { Execution } from './execution.ts';
import type { Footprint } from './footprint.ts';
import type { Strategy } from './strategy.ts';

export class NotDeterministicError extends Error {
  override readonly name = 'NotDeterministicError';
}

export class DeterminismCheck implements Strategy {
  readonly name: string;
  #repeating = true;
  #picks: number[] = [];
  #faults: boolean[] = [];
  #seen: string[] = [];
  #asked = 0;

  constructor(private readonly inner: Strategy) {
    this.name = inner.name;
  }

  begin(): boolean {
    this.#repeating = !this.#repeating;
    this.#asked = 0;
    if (this.#repeating) return true;
    this.#picks = [];
    this.#faults = [];
    this.#seen = [];
    return this.inner.begin();
  }

  pick(x: Execution, enabled: readonly number[]): number {
    const standing = enabled.map((id) => `${x.actors[id]?.name} ${STEP_NAMES[x.actors[id]?.nextStep ?? 0]}`).join(', ');
    if (this.#repeating) {
      const before = this.#seen[x.depth];
      if (before !== standing) {
        throw new NotDeterministicError(`step ${x.depth}: first ${before ?? 'nothing'}, then ${standing}`);
      }
      return this.#picks[x.depth] as number;
    }
    const id = this.inner.pick(x, enabled);
    this.#picks.push(id);
    this.#seen.push(standing);
    return id;
  }

  fault(x: Execution, site: FaultSite): boolean {
    if (this.#repeating) {
      this.#asked += 1;
      return this.#faults[this.#asked - 1] ?? false;
    }
    const answer = this.inner.fault(x, site);
    this.#faults.push(answer);
    return answer;
  }

  took(x: Execution, footprint: Readonly<Footprint>): void {
    if (!this.#repeating) this.inner.took?.(x, footprint);
  }

  end(x: Execution): void {
    if (!this.#repeating) this.inner.end?.(x);
  }

  isFresh(depth: number): boolean {
    return !this.#repeating && (this.inner.isFresh?.(depth) ?? true);
  }

  get repeating(): boolean {
    return this.#repeating;
  }

  bound(): string | null {
    return this.inner.bound();
  }

  promise(): string {
    return this.inner.promise?.() ?? '';
  }
}
