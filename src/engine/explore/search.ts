/** Runs a strategy over an execution until it is exhausted, a bound is reached or something is wrong. */
import type { Execution, Failure } from './execution.ts';
import { outcomeText } from './outcome.ts';
import type { Recording } from './replay.ts';
import type { Strategy } from './strategy.ts';

export interface Bounds {
  /** Steps of one execution at most. */
  readonly maxSteps: number;
  /** Executions at most. */
  readonly maxSchedules: number;
  /** Steps of all executions together; the last one is completed. */
  readonly maxTotalSteps?: number;
  /** Asked between steps: whether the user wants to stop. */
  readonly stop?: () => boolean;
}

export interface SearchOptions extends Bounds {
  /** Failures that are known and do not end the search. */
  readonly expected?: ReadonlySet<string>;
  /** Count distinct states; costs about as much as executing. */
  readonly states?: boolean;
  /** Called after each execution, the ones given up included. */
  readonly atEnd?: (x: Execution) => void;
}

export interface Found extends Recording {
  readonly failure: Failure;
  /** Executions before it, itself included. */
  readonly schedules: number;
}

export interface SearchResult {
  /** `exhausted`: every schedule was executed, up to the order of steps that commute. */
  readonly verdict: 'exhausted' | 'bounded' | 'violated';
  /** What the bound was, when bounded. */
  readonly bound: string | null;
  /** Executions run to their end. */
  readonly interleavings: number;
  /** Executions given up as redundant. */
  readonly redundant: number;
  readonly steps: number;
  readonly states: number | null;
  /** Final outcomes and how many executions ended in each. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** First of each kind of failure, expected ones included. */
  readonly failures: ReadonlyMap<string, Found>;
}

/** States counted at most: beyond it the set itself would fill the memory. */
const STATES_MAX = 4_000_000;

/** Steps between two pauses of `searching`: some milliseconds. */
const PAUSE_EVERY = 4096;

export function search(x: Execution, strategy: Strategy, o: SearchOptions): SearchResult {
  const running = searching(x, strategy, o);
  for (;;) {
    const step = running.next();
    if (step.done === true) return step.value;
  }
}

/** The same with pauses, for a caller that must listen to signals meanwhile. */
export function* searching(x: Execution, strategy: Strategy, o: SearchOptions): Generator<void, SearchResult, void> {
  const tally = new Tally(o);
  let bound: string | null = null;
  for (let schedules = 0; !tally.violated; schedules += 1) {
    if (!strategy.begin()) {
      bound ??= strategy.bound();
      break;
    }
    const reached = boundReached(o, schedules, tally.steps);
    if (reached !== null) {
      bound = reached;
      break;
    }
    x.reset();
    const end = yield* executing(x, strategy, o, tally);
    if (end === 'cut') bound ??= `${o.maxSteps} steps`;
    if (end === 'redundant') tally.redundant += 1;
    strategy.end?.(x);
    o.atEnd?.(x);
    tally.takeFailures(x, schedules + 1);
    if (end === 'over' && strategy.repeating !== true) tally.takeOutcome(x);
  }
  return tally.result(bound);
}

/** What keeps another execution from being begun; null for nothing. */
function boundReached(o: SearchOptions, schedules: number, steps: number): string | null {
  if (schedules >= o.maxSchedules) return `${o.maxSchedules} schedules`;
  if (o.maxTotalSteps !== undefined && steps >= o.maxTotalSteps) return `${o.maxTotalSteps} steps in all`;
  return o.stop?.() === true ? 'the user' : null;
}

/** How an execution ended: `over` by itself, `cut` by the bound of steps, given up by its strategy, or left. */
type End = 'over' | 'cut' | 'redundant' | 'left';

/** One execution from its start on. */
function* executing(x: Execution, strategy: Strategy, o: SearchOptions, tally: Tally): Generator<void, End, void> {
  for (;;) {
    const enabled = x.enabled();
    if (enabled.length === 0) {
      x.finish();
      return 'over';
    }
    if (x.depth >= o.maxSteps) return 'cut';
    const id = strategy.pick(x, enabled);
    if (id < 0) return 'redundant';
    const footprint = x.take(id, (site) => strategy.fault(x, site));
    strategy.took?.(x, footprint);
    tally.steps += 1;
    if (tally.steps % PAUSE_EVERY === 0) yield;
    if (o.stop?.() === true) return 'left';
    if (tally.countsStates && (strategy.isFresh?.(x.depth - 1) ?? true)) tally.takeState(x);
    if (x.failures.some((f) => tally.isUnexpected(f))) return 'left';
  }
}

/** What a search has found so far. */
class Tally {
  redundant = 0;
  steps = 0;
  violated = false;
  #interleavings = 0;
  readonly #expected: ReadonlySet<string>;
  readonly #states: Set<number> | null;
  readonly #outcomes = new Map<string, number>();
  readonly #failures = new Map<string, Found>();

  constructor(o: SearchOptions) {
    this.#expected = o.expected ?? new Set();
    this.#states = o.states ? new Set() : null;
  }

  isUnexpected(failure: Failure): boolean {
    return !this.#expected.has(failure.kind);
  }

  get countsStates(): boolean {
    return this.#states !== null && this.#states.size < STATES_MAX;
  }

  takeState(x: Execution): void {
    this.#states?.add(x.stateHash());
  }

  /** @param schedules executions up to this one. */
  takeFailures(x: Execution, schedules: number): void {
    for (const failure of x.failures) {
      if (!this.#failures.has(failure.kind)) {
        this.#failures.set(failure.kind, { failure, choices: [...x.choices], faults: [...x.faults], schedules });
      }
      if (this.isUnexpected(failure)) this.violated = true;
    }
  }

  takeOutcome(x: Execution): void {
    this.#interleavings += 1;
    const outcome = outcomeText(x.outcome());
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
  }

  result(bound: string | null): SearchResult {
    return {
      verdict: this.violated ? 'violated' : bound === null ? 'exhausted' : 'bounded',
      bound,
      interleavings: this.#interleavings,
      redundant: this.redundant,
      steps: this.steps,
      states: this.#states?.size ?? null,
      outcomes: this.#outcomes,
      failures: this.#failures,
    };
  }
}
