/**
 * What the events of a live run come to: the figures so far, the judgement on its thresholds, and the events that
 * follow from others. A fold without input, output and clock: the same events give the same figures.
 */
import { markLines, MarkTally } from '../engine/mark-tally.ts';
import type { RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { SCHEDULE_LAG } from '../metrics/ops.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import { parseThreshold, type Threshold } from '../metrics/threshold.ts';
import { MODEL_COUNTERS } from '../model/env.ts';
import type { ThresholdResult, Violation } from '../report/results.ts';
import type { Progress } from '../report/status-line.ts';
import { ThresholdJudge } from '../report/threshold-judge.ts';
import type { ThresholdContext } from '../report/thresholds.ts';
import type { RunEvent, RunHappening, RunInterval } from './run-event.ts';
import { busiest, percentile, stageStarts } from './run-notes.ts';
import { type Saturation, saturationOf } from './saturation.ts';

const NOTES_MAX = 20;

export class RunWatch {
  readonly plan: RunPlan;
  readonly thresholds: readonly Threshold[];
  readonly judge: ThresholdJudge;
  /** Everything the run has measured. */
  readonly total: Snapshot;
  /** The end of the last interval. */
  endSeconds = 0;
  /** The thresholds as they stand. */
  judged: readonly ThresholdResult[] = [];
  backlogMax = 0;
  /** As of the last interval. */
  othersShare: number | null = null;
  saturation: Saturation | null = null;
  progress: Progress | null = null;
  readonly #violated = new Set<string>();
  /** By worker, what its guests marked. */
  readonly #marks = new Map<string, MarkTally>();
  #stagesBegun = 0;
  /** The threshold that was to stop the run by the intervals that were written before the run went on. */
  #crossedBefore: ThresholdResult | null = null;

  constructor(plan: RunPlan) {
    const { stages, pace, thresholds } = plan;
    this.plan = plan;
    this.thresholds = thresholds.map((t) => parseThreshold(t.metric, t.expression, MODEL_COUNTERS));
    this.judge = new ThresholdJudge(this.thresholds, { aborts: thresholds, stages, scale: pace === 0 ? 1 : 1 / pace });
    this.total = new Snapshot(statsLayout(plan));
  }

  /** An interval that was written before the run went on: thresholds over windows know it. */
  readonly replay = (endSeconds: number, delta: Snapshot, gauges: ThresholdContext['gauges']): void => {
    this.#crossedBefore ??= this.judge.interval(endSeconds * 1e9, delta, gauges);
    this.backlogMax = Math.max(this.backlogMax, gauges.deferred_backlog);
  };

  /** @returns the events that follow from it: violations found, stages begun, a threshold that is to stop the run. */
  take(event: RunEvent): readonly RunHappening[] {
    if (event.t === 'interval') return this.#interval(event);
    if (event.t === 'event') this.#happening(event);
    if (event.t === 'begun' && event.written !== null) {
      const { snapshot, endSeconds } = event.written;
      this.total.add(snapshot);
      this.endSeconds = endSeconds;
      this.#stagesBegun = stageStarts(this.plan).filter(({ atSeconds }) => atSeconds <= endSeconds).length;
    }
    return [];
  }

  /** What guests marked, in lines. */
  get markNotes(): string[] {
    const notes = markLines([...this.#marks.values()].map((marks) => marks.counts()));
    if (notes.length <= NOTES_MAX) return notes;
    return [...notes.slice(0, NOTES_MAX), `and ${notes.length - NOTES_MAX} more: see events.jsonl`];
  }

  #interval(interval: RunInterval): RunHappening[] {
    const { endSeconds, delta, gauges, othersShare } = interval;
    this.total.add(delta);
    this.endSeconds = endSeconds;
    this.othersShare = othersShare;
    this.backlogMax = Math.max(this.backlogMax, gauges.deferred_backlog);
    const crossed = this.judge.interval(endSeconds * 1e9, delta, gauges) ?? this.#crossedBefore;
    this.#crossedBefore = null;
    this.judged = this.judge.results({ snapshot: this.total, durationNs: endSeconds * 1e9, gauges });
    this.saturation = saturationOf(this.plan, this.total, othersShare);
    this.progress = this.#progress(interval);
    return [
      ...this.#newlyViolated(interval).map((fields) => happening(endSeconds, 'violation', fields)),
      ...this.#newStages(endSeconds).map(({ atSeconds, stage }) => happening(atSeconds, 'stage', { stage })),
      ...(crossed === null
        ? []
        : [happening(endSeconds, 'threshold', { metric: crossed.metric, expression: crossed.expression })]),
    ];
  }

  #progress({ startSeconds, endSeconds, delta, gauges, guests }: RunInterval): Progress {
    const { durationNs, pace } = this.plan;
    const plannedNs = durationNs === null || pace === 0 ? null : durationNs / pace;
    const doneNs = Math.min(endSeconds * 1e9, plannedNs ?? 0);
    return {
      states: { ...guests, dead: guests.failed },
      share: plannedNs === null ? null : doneNs / plannedNs,
      etaNs: plannedNs === null ? null : plannedNs - doneNs,
      ...busiest(delta, endSeconds - startSeconds),
      deferredBacklog: gauges.deferred_backlog,
      lagNs: percentile(delta, [SCHEDULE_LAG], 99),
      saturated: this.saturation,
    };
  }

  #newlyViolated({ violations }: RunInterval): readonly Violation[] {
    const fresh = violationsOf(this.plan, violations).filter(({ invariant }) => !this.#violated.has(invariant));
    for (const { invariant } of fresh) this.#violated.add(invariant);
    return fresh;
  }

  /** Stages that begin by the end of an interval and did not by the one before. */
  #newStages(endSeconds: number): ReturnType<typeof stageStarts> {
    const begun = stageStarts(this.plan).filter(({ atSeconds }) => atSeconds <= endSeconds);
    const before = this.#stagesBegun;
    this.#stagesBegun = begun.length;
    return begun.slice(before);
  }

  #happening({ kind, fields }: RunHappening): void {
    const worker = String(fields['worker']);
    if (kind === 'rerun') this.#marks.delete(worker);
    if (kind !== 'mark') return;
    const marks = this.#marks.get(worker) ?? new MarkTally();
    marks.add(Number(fields['guest']), String(fields['label']), String(fields['value']));
    this.#marks.set(worker, marks);
  }
}

const happening = (atSeconds: number, kind: string, fields: object): RunHappening => ({
  t: 'event',
  atSeconds,
  kind,
  fields: { ...fields },
});

/** Violations by invariant, as results list them. */
export const violationsOf = ({ expect }: RunPlan, counts: Readonly<Record<string, number>>): Violation[] =>
  Object.entries(counts).map(([invariant, count]) => ({
    invariant,
    count,
    expected: expect.includes(invariant),
    history: null,
  }));
