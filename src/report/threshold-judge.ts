/**
 * Judges thresholds while a run goes, interval by interval: windows, stages, and those that stop the run. A run live or
 * simulated, and one rebuilt from its directory, is judged by the same code on the same intervals.
 *
 * Windows and stages begin and end with intervals. Simulated runs cut their intervals at each of these instants; live
 * ones have an interval a second, and whichever interval lies mostly in a window or stage belongs to it.
 */
import { Snapshot } from '../metrics/snapshot.ts';
import type { Threshold } from '../metrics/threshold.ts';
import type { ThresholdResult } from './results.ts';
import { evaluate, neverMeasured, stateOf, type ThresholdContext } from './thresholds.ts';

export interface JudgedStage {
  readonly name: string;
  readonly startNs: number;
  readonly endNs: number | null;
}

export interface AbortRule {
  readonly abortOnFail: boolean;
  readonly delayAbortEvalNs: number;
}

export interface JudgeOptions {
  /** In the order of the thresholds; left out: none stops the run. */
  readonly aborts?: readonly AbortRule[];
  readonly stages?: readonly JudgedStage[] | undefined;
  /** Nanoseconds of the run's own clock per nanosecond of the scenario: 1 when simulated, 1 / pace live. */
  readonly scale?: number;
}

/** What of the run a threshold has seen so far. */
class Span {
  /** Null: nothing of the run lies in it yet. */
  sum: Snapshot | null = null;
  startNs = 0;
  endNs = 0;
  gauges: ThresholdContext['gauges'] = { locked_vm_drift_pages: 0, deferred_backlog: 0 };

  add(startNs: number, endNs: number, delta: Snapshot, gauges: ThresholdContext['gauges']): void {
    if (this.sum === null) {
      this.sum = new Snapshot(delta.layout);
      this.startNs = startNs;
    }
    this.sum.add(delta);
    this.endNs = endNs;
    this.gauges = gauges;
  }
}

class Judged {
  readonly span = new Span();
  /** Result of the worst whole window. */
  worst: ThresholdResult | null = null;
  /** The result that stopped the run. */
  final: ThresholdResult | null = null;

  constructor(
    readonly threshold: Threshold,
    readonly windowNs: number | null,
    readonly stage: JudgedStage | null,
    readonly abort: AbortRule,
  ) {}

  /** Whether it needs the intervals: one over the whole run that stops nothing is judged at the end. */
  get follows(): boolean {
    return this.windowNs !== null || this.threshold.stage !== null || this.abort.abortOnFail;
  }

  evaluate(): ThresholdResult | null {
    const { sum, startNs, endNs, gauges } = this.span;
    if (sum === null) return null;
    const result = evaluate(this.threshold, { snapshot: sum, durationNs: endNs - startNs, gauges });
    if (this.windowNs === null) return result;
    return { ...result, window: { startSeconds: startNs / 1e9, endSeconds: endNs / 1e9 } };
  }

  /** @returns the state of affairs after the interval; null while a window is not full. */
  take(startNs: number, endNs: number, delta: Snapshot, gauges: ThresholdContext['gauges']): ThresholdResult | null {
    const { stage, span, windowNs } = this;
    const middle = (startNs + endNs) / 2;
    if (stage !== null && (middle < stage.startNs || middle >= (stage.endNs ?? Infinity))) return null;
    span.add(startNs, endNs, delta, gauges);
    if (windowNs === null) return this.evaluate();
    // Full when another interval like this one would make it too long by more than it is too short now.
    if (endNs - span.startNs < windowNs - (endNs - startNs) / 2) return null;
    const result = this.evaluate();
    if (result !== null && (this.worst === null || isWorse(this.threshold, result, this.worst))) this.worst = result;
    span.sum = null;
    return result;
  }

  result(whole: ThresholdContext): ThresholdResult {
    if (this.final !== null) return this.final;
    if (this.windowNs === null && this.threshold.stage === null) return evaluate(this.threshold, whole);
    // A run or stage shorter than one window is its only window.
    return this.worst ?? this.evaluate() ?? neverMeasured(this.threshold);
  }
}

/** Whether a window is further on the wrong side than another. */
function isWorse({ comparison }: Threshold, a: ThresholdResult, b: ThresholdResult): boolean {
  // What was measured says more than what was not.
  if (a.observed === null || b.observed === null) return b.observed === null;
  if (comparison.startsWith('<')) return a.observed > b.observed;
  if (comparison.startsWith('>')) return a.observed < b.observed;
  return b.ok && !a.ok;
}

const NEVER: AbortRule = { abortOnFail: false, delayAbortEvalNs: 0 };

export class ThresholdJudge {
  readonly #judged: readonly Judged[];
  readonly #scale: number;
  #endNs = 0;

  constructor(thresholds: readonly Threshold[], { aborts = [], stages = [], scale = 1 }: JudgeOptions = {}) {
    this.#scale = scale;
    this.#judged = thresholds.map((threshold, i) => {
      const { windowNs } = threshold;
      const stage = stages.find(({ name }) => name === threshold.stage);
      return new Judged(
        threshold,
        windowNs === null ? null : windowNs * scale,
        stage === undefined
          ? null
          : { ...stage, startNs: stage.startNs * scale, endNs: stage.endNs === null ? null : stage.endNs * scale },
        aborts[i] ?? NEVER,
      );
    });
  }

  /**
   * Takes what an interval added, which ends `endNs` after the run's start.
   * @returns the first threshold that is crossed by now and was to stop the run; null: go on.
   */
  interval(endNs: number, delta: Snapshot, gauges: ThresholdContext['gauges']): ThresholdResult | null {
    const startNs = this.#endNs;
    if (endNs <= startNs) return null;
    this.#endNs = endNs;
    let crossed: ThresholdResult | null = null;
    for (const judged of this.#judged) {
      if (!judged.follows || judged.final !== null) continue;
      const result = judged.take(startNs, endNs, delta, gauges);
      const { abortOnFail, delayAbortEvalNs } = judged.abort;
      if (result === null || stateOf(result) !== 'crossed' || !abortOnFail || endNs < delayAbortEvalNs * this.#scale)
        continue;
      judged.final = { ...result, stoppedAtSeconds: endNs / 1e9 };
      crossed ??= judged.final;
    }
    return crossed;
  }

  /** The judgement on the run, in the order of the thresholds; `whole` is what the run was in all. */
  results(whole: ThresholdContext): ThresholdResult[] {
    return this.#judged.map((judged) => judged.result(whole));
  }
}
