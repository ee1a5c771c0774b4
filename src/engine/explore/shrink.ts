/**
 * Makes a failure small enough to read: first the fewest preemptions that still show it, then as few operations as
 * possible, then the shortest of the schedules found. Each trial is a search of its own, bounded; what cannot be made
 * smaller within its bounds stays as it was found.
 */
import type { CaseActor, ExploreCase } from './case.ts';
import { DfsStrategy } from './dfs.ts';
import type { Execution, Failure } from './execution.ts';
import { reduceSchedule } from './reduce-schedule.ts';
import { type Recording, ReplayStrategy } from './replay.ts';
import { type Bounds, type Found, search, searching } from './search.ts';

/** Executions and steps of one trial, and steps of all: half a second, and a few seconds. */
const TRIAL_SCHEDULES = 3000;
const TRIAL_STEPS = 400_000;
const STEPS_MAX = 4_000_000;
const SHORT_STEPS = 200;
const PREEMPTIONS_MAX = 3;

export interface Shrunk extends Recording {
  /** The case without the operations left out. */
  readonly plan: ExploreCase;
  readonly dropped: readonly number[];
  readonly failure: Failure;
  readonly preemptions: number;
}

/** Makes an execution of a case: under which variant, and in which world. */
export type Make = (plan: ExploreCase) => Execution;

/** The case without some operations, counted over setup and then actor by actor. */
export function withoutOps(plan: ExploreCase, dropped: readonly number[]): ExploreCase {
  if (dropped.length === 0) return plan;
  const gone = new Set(dropped);
  let n = 0;
  const kept = (): boolean => {
    n += 1;
    return !gone.has(n - 1);
  };
  const setup = plan.setup.filter(kept);
  const actors = plan.actors.map((a): CaseActor => ({ ...a, ops: a.ops.filter(kept) }));
  return { ...plan, setup, actors };
}

/** Makes a failure small, with pauses, for a caller that must listen to signals meanwhile. */
export function* shrinking(plan: ExploreCase, make: Make, found: Found, bounds: Bounds): Generator<void, Shrunk, void> {
  const { kind } = found.failure;
  let stepsLeft = STEPS_MAX;
  const trial = function* (dropped: readonly number[], most: number): Generator<void, Shrunk | null, void> {
    const smaller = withoutOps(plan, dropped);
    // Programs that never end are tried in short pieces first.
    for (let maxSteps = SHORT_STEPS; ; maxSteps *= 4) {
      const within = { ...bounds, maxSteps: Math.min(maxSteps, bounds.maxSteps) };
      for (let preemptions = 0; preemptions <= most; preemptions += 1) {
        if (stepsLeft <= 0) return null;
        const { best, steps, cut } = yield* shortest(smaller, make, kind, preemptions, within);
        stepsLeft -= steps;
        if (best !== null) return { ...best, plan: smaller, dropped, preemptions };
        if (!cut && preemptions === most) return null;
      }
      if (maxSteps >= Math.min(bounds.maxSteps, found.failure.step)) return null;
    }
  };
  let best = (yield* trial([], PREEMPTIONS_MAX)) ?? asFound(plan, make, found);
  // A failure of the outcome is a statement about all operations.
  if (kind === 'outcome') return best;
  const count = plan.setup.length + plan.actors.reduce((n, a) => n + a.ops.length, 0);
  for (let again = true; again;) {
    again = false;
    for (let op = count - 1; op >= 0; op -= 1) {
      if (best.dropped.includes(op)) continue;
      const smaller = yield* trial(
        [...best.dropped, op].toSorted((a, b) => a - b),
        Math.min(best.preemptions, PREEMPTIONS_MAX),
      );
      if (smaller === null) continue;
      best = smaller;
      again = true;
    }
  }
  return best;
}

function asFound(plan: ExploreCase, make: Make, found: Found): Shrunk {
  const x = make(plan);
  const { choices, faults, failure } = reduceSchedule(x, found, found.failure.kind) ?? found;
  search(x, new ReplayStrategy({ choices, faults }), { maxSteps: choices.length, maxSchedules: 1 });
  return { plan, dropped: [], choices, faults, failure, preemptions: x.preemptions };
}

/** The shortest schedule of a trial that fails in this way, by switches and then by steps. */
function* shortest(
  plan: ExploreCase,
  make: Make,
  kind: string,
  preemptions: number,
  bounds: Bounds,
): Generator<
  void,
  { readonly best: (Recording & { readonly failure: Failure }) | null; readonly steps: number; readonly cut: boolean },
  void
> {
  let best: (Recording & { readonly failure: Failure }) | null = null;
  let size = Infinity;
  let x: Execution;
  try {
    x = make(plan);
  } catch {
    // Without the operation left out the setup no longer works.
    return { best, steps: 0, cut: false };
  }
  let cut = false;
  const { steps } = yield* searching(x, new DfsStrategy({ preemptions }), {
    ...bounds,
    maxSchedules: TRIAL_SCHEDULES,
    maxTotalSteps: TRIAL_STEPS,
    expected: EVERYTHING,
    atEnd(ended) {
      cut ||= ended.depth >= bounds.maxSteps;
      const failure = ended.failures.find((f) => f.kind === kind);
      if (failure === undefined) return;
      const choices = ended.choices.slice(0, failure.step);
      let switches = 0;
      for (let n = 1; n < choices.length; n += 1) if (choices[n] !== choices[n - 1]) switches += 1;
      if (switches * 10_000 + choices.length >= size) return;
      size = switches * 10_000 + choices.length;
      best = { choices, faults: [...ended.faults], failure };
    },
  });
  return { best, steps, cut };
}

/** A set that every failure is in: a trial goes on after one. */
const EVERYTHING: ReadonlySet<string> = Object.assign(new Set<string>(), { has: () => true });
