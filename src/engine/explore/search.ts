/** Runs a strategy over an execution until it is exhausted, a bound is reached or something is wrong. */
import { type Execution, type Failure, outcomeText } from './execution.ts';
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
  const outcomes = new Map<string, number>();
  const failures = new Map<string, Found>();
  const states = o.states ? new Set<number>() : null;
  let interleavings = 0;
  let redundant = 0;
  let steps = 0;
  let bound: string | null = null;
  let violated = false;
  for (let schedules = 0; !violated; schedules += 1) {
    if (!strategy.begin()) {
      bound ??= strategy.bound();
      break;
    }
    if (schedules >= o.maxSchedules) {
      bound = `${o.maxSchedules} schedules`;
      break;
    }
    if (o.maxTotalSteps !== undefined && steps >= o.maxTotalSteps) {
      bound = `${o.maxTotalSteps} steps in all`;
      break;
    }
    if (o.stop?.() === true) {
      bound = 'the user';
      break;
    }
    x.reset();
    let over = false;
    for (;;) {
      const enabled = x.enabled();
      if (enabled.length === 0) {
        x.finish();
        over = true;
        break;
      }
      if (x.depth >= o.maxSteps) {
        bound ??= `${o.maxSteps} steps`;
        break;
      }
      const id = strategy.pick(x, enabled);
      if (id < 0) {
        redundant += 1;
        break;
      }
      const footprint = x.take(id, (site) => strategy.fault(x, site));
      strategy.took?.(x, footprint);
      steps += 1;
      if (steps % PAUSE_EVERY === 0) yield;
      if (o.stop?.() === true) break;
      if (states !== null && states.size < STATES_MAX && (strategy.isFresh?.(x.depth - 1) ?? true)) {
        states.add(x.stateHash());
      }
      if (x.failures.some((f) => !(o.expected?.has(f.kind) ?? false))) break;
    }
    strategy.end?.(x);
    o.atEnd?.(x);
    for (const failure of x.failures) {
      if (!failures.has(failure.kind)) {
        failures.set(failure.kind, {
          failure,
          choices: [...x.choices],
          faults: [...x.faults],
          schedules: schedules + 1,
        });
      }
      if (!(o.expected?.has(failure.kind) ?? false)) violated = true;
    }
    if (!over || strategy.repeating === true) continue;
    interleavings += 1;
    const outcome = outcomeText(x.outcome());
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return {
    verdict: violated ? 'violated' : bound === null ? 'exhausted' : 'bounded',
    bound,
    interleavings,
    redundant,
    steps,
    states: states?.size ?? null,
    outcomes,
    failures,
  };
}
