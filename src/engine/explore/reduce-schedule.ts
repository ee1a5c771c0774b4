/**
 * Makes one failing schedule shorter without searching: leaves out runs of steps, and shortens runs, as long as the
 * failure stays. Delta debugging (Andreas Zeller, Ralf Hildebrandt: "Simplifying and Isolating Failure-Inducing Input",
 * IEEE TSE 28, 2002) on the list of runs. For programs that never end, where a search from the start does not come far
 * enough.
 */
import type { Execution, Failure } from './execution.ts';
import type { Recording } from './replay.ts';
import { goOn } from './strategy.ts';

/** Executions of one reduction. */
const TRIES_MAX = 3000;
const SHORT = 64;

interface Run {
  readonly actor: number;
  readonly steps: number;
}

export interface Reduced extends Recording {
  readonly failure: Failure;
}

export function reduceSchedule(x: Execution, recording: Recording, kind: string): Reduced | null {
  let tries = 0;
  /** Executes the runs as far as they can be, and says how it failed. */
  const attempt = (runs: readonly Run[]): Reduced | null => {
    tries += 1;
    let fault = 0;
    const decide = (): boolean => {
      fault += 1;
      return recording.faults[fault - 1] ?? false;
    };
    const failed = (): Failure | undefined => x.failures.find((f) => f.kind === kind);
    x.reset();
    const most = recording.choices.length;
    for (const { actor, steps } of runs) {
      for (let n = 0; n < steps && failed() === undefined && x.enabled().includes(actor); n += 1) x.take(actor, decide);
    }
    for (let ids = x.enabled(); failed() === undefined && x.depth < most; ids = x.enabled()) {
      if (ids.length === 0) {
        x.finish();
        break;
      }
      x.take(goOn(x, ids), decide);
    }
    const failure = failed();
    return failure === undefined ? null : { failure, choices: x.choices.slice(0, failure.step), faults: [...x.faults] };
  };
  let best = attempt(runsOf(recording.choices));
  if (best === null) return null;
  for (let again = true; again && tries < TRIES_MAX;) {
    again = false;
    for (let size = Math.max(1, runsOf(best.choices).length >> 1); size >= 1 && tries < TRIES_MAX; size >>= 1) {
      for (let at = 0; at < runsOf(best.choices).length && tries < TRIES_MAX;) {
        const runs: Run[] = runsOf(best.choices);
        const smaller = attempt(runs.toSpliced(at, size));
        if (smaller !== null && weight(smaller) < weight(best)) {
          best = smaller;
          again = true;
        } else {
          at += size;
        }
      }
    }
    for (let at = 0; at < runsOf(best.choices).length && tries < TRIES_MAX; at += 1) {
      const steps = runsOf(best.choices)[at]?.steps ?? 0;
      // A loop must keep its phase, so every short length is tried, then halves.
      const lengths = Array.from({ length: Math.min(SHORT, steps - 1) }, (_, n) => n + 1);
      for (let length = steps >> 1; length > SHORT; length >>= 1) lengths.push(length);
      for (const length of lengths) {
        const runs: Run[] = runsOf(best.choices);
        const smaller = attempt(runs.with(at, { actor: (runs[at] as Run).actor, steps: length }));
        if (smaller === null || weight(smaller) >= weight(best)) continue;
        best = smaller;
        again = true;
        break;
      }
    }
  }
  return best;
}

/** Runs first, then steps. */
const weight = (r: Recording): number => runsOf(r.choices).length * 1_000_000 + r.choices.length;

function runsOf(choices: readonly number[]): Run[] {
  const runs: { actor: number; steps: number }[] = [];
  for (const actor of choices) {
    const last = runs.at(-1);
    if (last?.actor === actor) last.steps += 1;
    else runs.push({ actor, steps: 1 });
  }
  return runs;
}
