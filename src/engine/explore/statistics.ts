/** What the executions of another strategy were like: steps, preemptions, actors, and which steps were switched at. */
import type { FaultSite } from '../../model/env.ts';
import { STEP_NAMES, STEP_ROWS } from '../../model/steps.ts';
import type { Execution } from './execution.ts';
import type { Footprint } from './footprint.ts';
import type { Strategy } from './strategy.ts';

export interface Range {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
}

export class Statistics implements Strategy {
  readonly name: string;
  readonly #steps = new Gauge();
  readonly #preemptions = new Gauge();
  readonly #actors = new Gauge();
  /** Preemptions by the step the preempted actor stood at. */
  readonly #at = new Float64Array(STEP_NAMES.length);

  constructor(private readonly inner: Strategy) {
    this.name = inner.name;
  }

  begin(): boolean {
    return this.inner.begin();
  }

  pick(x: Execution, enabled: readonly number[]): number {
    const id = this.inner.pick(x, enabled);
    if (id >= 0 && id !== x.current && enabled.includes(x.current)) {
      const step = x.actors[x.current]?.nextStep ?? -1;
      if (step >= 0) this.#at[step] = (this.#at[step] as number) + 1;
    }
    return id;
  }

  fault(x: Execution, site: FaultSite): boolean {
    return this.inner.fault(x, site);
  }

  took(x: Execution, footprint: Readonly<Footprint>): void {
    this.inner.took?.(x, footprint);
  }

  end(x: Execution): void {
    this.#steps.add(x.depth);
    this.#preemptions.add(x.preemptions);
    this.#actors.add(x.actors.length);
    this.inner.end?.(x);
  }

  isFresh(depth: number): boolean {
    return this.inner.isFresh?.(depth) ?? true;
  }

  get repeating(): boolean {
    return this.inner.repeating ?? false;
  }

  bound(): string | null {
    return this.inner.bound();
  }

  promise(): string {
    return this.inner.promise?.() ?? '';
  }

  summary(): {
    readonly steps: Range;
    readonly preemptions: Range;
    readonly actors: Range;
    /** Kernel functions in front of which most preemptions fell. */
    readonly preemptedAt: readonly { readonly fn: string; readonly times: number }[];
  } {
    const byFn = new Map<string, number>();
    for (const [step, times] of this.#at.entries()) {
      const fn = STEP_ROWS[step]?.fn ?? '';
      if (times > 0) byFn.set(fn, (byFn.get(fn) ?? 0) + times);
    }
    return {
      steps: this.#steps.range(),
      preemptions: this.#preemptions.range(),
      actors: this.#actors.range(),
      preemptedAt: [...byFn]
        .map(([fn, times]) => ({ fn, times }))
        .toSorted((a, b) => b.times - a.times)
        .slice(0, 5),
    };
  }
}

class Gauge {
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = 0;

  add(value: number): void {
    this.#count += 1;
    this.#sum += value;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
  }

  range(): Range {
    if (this.#count === 0) return { min: 0, max: 0, mean: 0 };
    return { min: this.#min, max: this.#max, mean: this.#sum / this.#count };
  }
}
