/** The figures of a live run as they come in: for Prometheus, the status line, the interval files and the results. */
import { availableParallelism } from 'node:os';
import { VERSION } from '../base/version.ts';
import type { RunEnd } from '../coordinator/coordinator-api.ts';
import type { Coordinator } from '../coordinator/coordinator.ts';
import { RunState } from '../coordinator/run-state.ts';
import type { GuestOutcome } from '../emulator/emulator.ts';
import { markLines, MarkTally } from '../engine/mark-tally.ts';
import { neverBegunNote, type RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import type { MetricSources } from '../metrics/exposition.ts';
import { LATENESS, SCHEDULE_LAG } from '../metrics/ops.ts';
import type { RunHealth } from '../metrics/run-metrics.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import type { StatsLayout } from '../metrics/stats.ts';
import { parseThreshold, type Threshold } from '../metrics/threshold.ts';
import { MODEL_COUNTERS } from '../model/env.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { buildResults, quantilesOf } from '../report/build.ts';
import { explainOverPenalty } from '../report/explanation.ts';
import { VIOLATIONS_GAUGE } from '../report/load.ts';
import type { RunIdentity, RunResults, ThresholdResult, WorkerFigures } from '../report/results.ts';
import type { GuestRow, RunRecord } from '../report/run-dir.ts';
import type { Progress } from '../report/status-line.ts';
import { ThresholdJudge } from '../report/threshold-judge.ts';
import { stateOf } from '../report/thresholds.ts';
import { decide } from '../report/verdict.ts';
import { accountPolicy } from './account-policy.ts';
import { MachineLoad } from './machine-load.ts';
import {
  busiest,
  conservation,
  coverage,
  coverageSoFar,
  dropNegative,
  firstDetails,
  oddities,
  percentile,
  stageStarts,
} from './run-notes.ts';

/**
 * The generator is saturated when its actors resume later than this, p99 over the run, ns of real time. Lateness times
 * pace is what a latency has too much of, so a slow pace bears more: as much as is half a millisecond of model time.
 */
const SATURATED_LATENESS_NS = 10_000_000;
const SATURATED_MODEL_NS = 500_000;

/** A run slowed down further than this is not worth having. */
const SLOWEST_ADVISED_PACE = 0.005;
const NOTES_MAX = 20;

interface WatchOptions {
  readonly plan: RunPlan;
  readonly workers: number;
  readonly threads: number;
  /** Latencies are judged whether or not a threshold is of one. */
  readonly strict: boolean;
}

export class RunWatch {
  readonly layout: StatsLayout;
  state: RunState;
  readonly #options: WatchOptions;
  readonly #plan: RunPlan;
  readonly #runId: string;
  #startedAt = new Date().toISOString();
  /** By worker, what its guests said and how many of them. */
  readonly #violatedTold = new Set<string>();
  readonly #marks = new Map<string, MarkTally>();
  readonly #thresholds: readonly Threshold[];
  readonly #judge: ThresholdJudge;
  #coordinator: Pick<Coordinator, 'phases' | 'redisHealth'> | undefined;
  #startSeconds: number | null = null;
  #judged: readonly ThresholdResult[] = [];
  #startMs: number | null = null;
  #endMs: number | null = null;
  #snapshot: Snapshot;
  #atSeconds = 0;
  #backlogMax = 0;
  #stagesTold = 0;
  #resumed = false;
  readonly #load = new MachineLoad();
  /** A threshold that was crossed in what was written before the run went on. */
  #crossedBefore: ThresholdResult | null = null;

  constructor(options: WatchOptions, runId: string) {
    const { plan } = options;
    this.#options = options;
    this.#plan = plan;
    this.#runId = runId;
    this.layout = statsLayout(plan);
    this.#thresholds = plan.thresholds.map((t) => parseThreshold(t.metric, t.expression, MODEL_COUNTERS));
    this.state = new RunState(plan, this.layout);
    const { stages, pace } = plan;
    this.#judge = new ThresholdJudge(this.#thresholds, {
      aborts: plan.thresholds,
      stages,
      scale: pace === 0 ? 1 : 1 / pace,
    });
    this.#snapshot = new Snapshot(this.layout);
  }

  /** What it says is served from now on. */
  follow(coordinator: Coordinator): void {
    this.#coordinator = coordinator;
    this.state = coordinator.state;
  }

  /** The guests start at `startAtMs` on the Redis clock, which is in `inMs`; the run was resumed when that is past. */
  start(startAtMs: number, inMs: number): void {
    this.#startSeconds = startAtMs / 1000;
    this.#startMs = performance.now() + Math.min(0, inMs);
  }

  /** An interval that was written before the run went on: thresholds over windows know it. */
  readonly replay = (endSeconds: number, delta: Snapshot, gauges: Readonly<Record<string, number>>): void => {
    this.#crossedBefore ??= this.#judge.interval(endSeconds * 1e9, delta, gauges);
    this.#backlogMax = Math.max(this.#backlogMax, gauges['deferred_backlog'] ?? 0);
  };

  /** The run goes on: what was written of it counts as known. */
  resume({ record, snapshot, endSeconds }: { record: RunRecord; snapshot: Snapshot; endSeconds: number }): void {
    this.#startedAt = record.run.startedAt;
    this.#snapshot = snapshot;
    this.#atSeconds = endSeconds;
    this.#resumed = true;
    const { stages = [], pace } = this.#plan;
    this.#stagesTold = stages.filter(({ startNs }) => startNs / (pace === 0 ? 1 : pace) / 1e9 <= endSeconds).length;
  }

  stop(): void {
    this.#endMs = performance.now();
  }

  get elapsedSeconds(): number {
    return this.#startMs === null ? 0 : ((this.#endMs ?? performance.now()) - this.#startMs) / 1000;
  }

  /** Merges what the workers have sent. @returns what came since the last call. */
  interval(): {
    delta: Snapshot;
    gauges: Record<string, number>;
    guests: Record<string, number>;
    progress: Progress;
    /** The threshold that is to stop the run now. */
    crossed: ThresholdResult | null;
  } {
    const merged = this.state.merged('all');
    const delta = merged.since(this.#snapshot);
    if (this.#resumed) dropNegative(delta);
    this.#resumed = false;
    this.#snapshot = merged;
    const seconds = this.elapsedSeconds - this.#atSeconds;
    this.#atSeconds = this.elapsedSeconds;
    const { backlog, driftPages, guestStates: guests } = this.state;
    const gauges = { deferred_backlog: backlog, locked_vm_drift_pages: driftPages };
    const crossed = this.#judge.interval(this.#atSeconds * 1e9, delta, gauges) ?? this.#crossedBefore;
    this.#crossedBefore = null;
    this.#judged = this.#judge.results({ snapshot: merged, durationNs: this.#atSeconds * 1e9, gauges });
    this.#backlogMax = Math.max(this.#backlogMax, backlog);
    const progress: Progress = {
      states: { ...guests, dead: guests.failed },
      ...this.#remaining(),
      ...busiest(delta, seconds),
      deferredBacklog: backlog,
      lagNs: percentile(delta, [SCHEDULE_LAG], 99),
      saturated: this.#saturation(),
    };
    return { delta, gauges, guests, progress, crossed };
  }

  /** Violations so far, by invariant, as the interval files have them: what is left of a run that does not end. */
  violationGauges(): Record<string, number> {
    return Object.fromEntries(
      this.#violations().map(({ invariant, count }) => [`${VIOLATIONS_GAUGE}${invariant}`, count]),
    );
  }

  /** Invariants violated for the first time since the last call. */
  newlyViolated(): RunResults['accounting']['violations'] {
    const fresh = this.#violations().filter(({ invariant }) => !this.#violatedTold.has(invariant));
    for (const { invariant } of fresh) this.#violatedTold.add(invariant);
    return fresh;
  }

  /** Stages of the scenario that have begun since the last call, with when, seconds of real time. */
  stagesBegun(): { atSeconds: number; stage: string }[] {
    const begun = stageStarts(this.#plan).filter(({ atSeconds }) => atSeconds <= this.elapsedSeconds);
    const told = this.#stagesTold;
    this.#stagesTold = begun.length;
    return begun.slice(told);
  }

  event(kind: string, fields: Record<string, unknown>): void {
    const worker = String(fields['worker']);
    if (kind === 'rerun') this.#marks.delete(worker);
    if (kind !== 'mark') return;
    const marks = this.#marks.get(worker) ?? new MarkTally();
    marks.add(Number(fields['guest']), String(fields['label']), String(fields['value']));
    this.#marks.set(worker, marks);
  }

  guestRow(outcome: GuestOutcome, worker: string): GuestRow {
    const { guest, incarnation, state, operations, failedOperations, error, lockedVmAfterPages, phasesMs } = outcome;
    const plan = this.#plan.guests[guest];
    const epochMs = this.state.epochs.get(guest);
    const laterSeconds = epochMs === undefined ? 0 : Math.max(0, epochMs / 1000 - (this.#startSeconds ?? 0));
    const seconds = (ms: number | undefined): number | null => (ms === undefined ? null : Math.max(0, ms) / 1000);
    return {
      guest,
      class: plan?.class ?? '',
      incarnation,
      worker,
      state,
      startSeconds: laterSeconds + (this.#plan.pace === 0 ? 0 : (plan?.startNs ?? 0) / this.#plan.pace / 1e9),
      restSeconds: seconds(phasesMs?.rest),
      settledSeconds: seconds(phasesMs?.settled),
      endSeconds: seconds(phasesMs?.ended),
      operations,
      failedOperations,
      lockedVmAfterPages,
      error: error ?? null,
    };
  }

  metricSources(): MetricSources {
    const { variant, name, pace, profile, expect } = this.#plan;
    const current = (): Snapshot => this.#snapshot;
    return {
      run: { runId: this.#runId, scenario: name, variant, pace, profile, version: VERSION, expect },
      role: 'coordinator',
      stats: { layout: this.layout, counter: (c) => current().counter(c), series: (id) => current().series(id) },
      gauges: () => ({
        deferredBacklog: this.state.backlog,
        deferredOldestAgeSeconds: this.state.oldestAgeSeconds,
        lockedVmDriftPages: this.state.driftPages,
        invariantViolations: {
          ...Object.fromEntries(INVARIANTS.map((invariant) => [invariant, 0])),
          ...this.state.violations,
        },
        guests: this.state.guestStates,
        threads: this.#threads(),
        saturated: this.#saturation() !== null,
      }),
      health: () => this.#health(),
    };
  }

  #health(): RunHealth {
    const { durationNs, pace } = this.#plan;
    return {
      startSeconds: this.#startSeconds,
      plannedSeconds: durationNs === null || pace === 0 ? null : durationNs / pace / 1e9,
      phases: this.#coordinator?.phases ?? {},
      stages: this.#stages(),
      exitStatus: this.#statusSoFar(),
      thresholds: this.#judged,
      workers: this.state.workerHealth(performance.now()),
      redis: this.#coordinator?.redisHealth ?? null,
    };
  }

  /** The stages that have begun, with epoch seconds. */
  #stages(): RunHealth['stages'] {
    const started = this.#startSeconds;
    if (started === null) return [];
    return stageStarts(this.#plan)
      .map(({ atSeconds, stage }) => ({ stage, startSeconds: started + atSeconds }))
      .filter(({ startSeconds }) => startSeconds <= Date.now() / 1000);
  }

  /** The exit status if everything still to come were fine: what is under way counts neither as missing nor as lost. */
  #statusSoFar(): number {
    const settled = ['deferred_applied', 'deferred_discarded'].map((name) => this.#snapshot.counter(name));
    const [applied = 0, discarded = 0] = settled;
    const saturation = this.#saturation();
    return decide({
      complete: this.state.missing.length === 0,
      stoppedByUser: false,
      strict: this.#options.strict,
      coverage: coverageSoFar(this.state),
      accounting: {
        violations: this.#violations(),
        deferred: { queued: applied + discarded, applied, discarded, lost: 0 },
      },
      health: { saturated: saturation !== null, saturation },
      // What nothing has been measured of yet may still be.
      thresholds: this.#judged.filter((t) => stateOf(t) !== 'not judged'),
    }).exitCode;
  }

  #violations(): RunResults['accounting']['violations'] {
    return Object.entries(this.state.violations).map(([invariant, count]) => ({
      invariant,
      count,
      expected: this.#plan.expect.includes(invariant),
      history: null,
    }));
  }

  identity(): RunIdentity {
    const { name, variant, seed, pace, hash } = this.#plan;
    return {
      id: this.#runId,
      name,
      driver: 'wall',
      variant,
      seed,
      pace,
      planHash: hash,
      commandLine: ['pinstorm', ...process.argv.slice(2).map(maskAddress)],
      startedAt: this.#startedAt,
      version: VERSION,
      account: accountPolicy(this.#plan),
      ...(this.#options.strict ? { strict: true } : {}),
    };
  }

  healthFacts(): { cores: number; threads: number; workers: number; profile: { name: string; calibrated: boolean } } {
    const { name, calibrated } = this.#plan.profile;
    return {
      cores: availableParallelism(),
      threads: this.#threads(),
      workers: this.state.workers.size,
      profile: { name, calibrated },
    };
  }

  /** The figures so far, while the run goes on: guests under way are neither finished nor lost. */
  resultsSoFar(): RunResults {
    const results = this.results('partial', { reasons: [], notes: [] }, 0);
    return { ...results, coverage: coverageSoFar(this.state) };
  }

  results(
    end: RunEnd,
    { reasons, notes }: Pick<Coordinator, 'reasons' | 'notes'>,
    eventLoopDelayP99Ns: number,
  ): RunResults {
    const counts = this.state.guestCounts();
    const counted = [...this.state.workers.values()].filter(({ superseded }) => !superseded);
    const finals = counted.filter(({ accounted }) => !accounted).map(({ final }) => final);
    const snapshot = this.state.merged('counted');
    const violations = this.#violations();
    const details = finals.flatMap((final) => final?.violations ?? []);
    const accounted = counted.length > 0 && finals.every((final) => final !== null);
    const violated = violations.some(({ invariant }) => invariant === 'balance');
    const penalty = details.find(({ invariant }) => invariant === 'over-penalty');
    const saturation = this.#saturation(snapshot);
    const missing = finals.reduce((sum, final) => sum + (final?.deferred.missingCount ?? 0), 0);
    const delays = [...this.state.workers.values()].map((w) => w.interval?.eventLoopDelayP99Ns ?? 0);
    return buildResults({
      run: this.identity(),
      // Lost guests are missing coverage; a run that is partial without them did not come to its end.
      complete: end !== 'partial' || counts.lost > 0 || missing > 0,
      stoppedByUser: end === 'stopped',
      durationNs: Math.round(this.elapsedSeconds * 1e9),
      coverage: coverage(this.state),
      snapshot,
      thresholds: this.#thresholds,
      judge: this.#judge,
      accounting: {
        balance: violated ? 'violated' : accounted ? 'exact' : 'unchecked',
        driftPages: this.state.driftPages,
        invariants: accounted ? [...INVARIANTS] : [],
        violations,
        notes: [
          ...(this.#plan.notes ?? []),
          ...neverBegunNote(this.#plan),
          ...conservation(counts, reasons),
          ...notes,
          ...this.state.lateNotes,
          ...this.#notes(),
          ...firstDetails(details),
          ...oddities(this.state),
        ],
        explanation: penalty === undefined ? null : explainOverPenalty(penalty.detail, accountPolicy(this.#plan)),
      },
      deferredBacklogMax: this.#backlogMax,
      health: {
        ...this.healthFacts(),
        saturated: saturation !== null,
        saturation,
        eventLoopDelayP99Ns: Math.max(eventLoopDelayP99Ns, ...delays),
        clocks: this.state.clocks,
        perWorker: this.#perWorker(),
      },
    });
  }

  #perWorker(): WorkerFigures[] {
    const guests = new Map<string, number>();
    for (const { worker } of this.state.outcomes.values()) guests.set(worker, (guests.get(worker) ?? 0) + 1);
    return this.state.workerHealth(performance.now()).flatMap((health) => {
      const worker = this.state.workers.get(health.name);
      if (worker === undefined) return [];
      const { host, capacity } = worker.registration;
      const { name, threads, operations, cpuSeconds, residentBytes } = health;
      const lateness = quantilesOf(worker.snapshot, LATENESS);
      const own = { name, host, threads, capacity, guests: guests.get(name) ?? 0, operations, lateness };
      return [{ ...own, cpuSeconds, residentBytes, lost: worker.lost }];
    });
  }

  #threads(): number {
    return [...this.state.workers.values()].reduce((sum, { registration }) => sum + registration.threads, 0);
  }

  #remaining(): { share: number | null; etaNs: number | null } {
    const { durationNs, pace } = this.#plan;
    if (durationNs === null || pace === 0) return { share: null, etaNs: null };
    const totalNs = durationNs / pace;
    const doneNs = Math.min(this.elapsedSeconds * 1e9, totalNs);
    return { share: doneNs / totalNs, etaNs: totalNs - doneNs };
  }

  #saturation(snapshot = this.#snapshot): { reason: string; advice: string } | null {
    if (this.#plan.pace === 0) return null;
    const p99 = percentile(snapshot, [LATENESS], 99);
    const limitNs = Math.max(SATURATED_LATENESS_NS, SATURATED_MODEL_NS / this.#plan.pace);
    if (p99 === null || p99 <= limitNs) return null;
    return {
      reason: `actors resumed ${(p99 / 1e6).toFixed(1)} ms late (p99; ${(limitNs / 1e6).toFixed(0)} ms are tolerated)${this.#othersText()}`,
      advice: this.#adviceFor(p99),
    };
  }

  /** What other processes took of this machine, where the workers are on it, too. */
  #othersText(): string {
    if (this.#options.workers === 0) return '';
    const { user, system } = process.cpuUsage();
    const workers = this.state.workerHealth(performance.now()).reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
    const share = this.#load.others((user + system) / 1e6 + workers);
    return share === null || share < 0.2 ? '' : `; other processes used ${Math.round(share * 100)} % of the processors`;
  }

  /** A pace at which a lateness like this is tolerated, and what else there is to do. */
  #adviceFor(p99Ns: number): string {
    const steps = this.#othersText() === '' ? [] : ['end what else runs here'];
    const holds = Number((SATURATED_MODEL_NS / p99Ns).toPrecision(1));
    // So late an actor is not by its own load.
    if (holds < this.#plan.pace && holds >= SLOWEST_ADVISED_PACE) steps.push(`use --pace ${holds}`);
    if (this.#plan.guests.length > 1) steps.push('use fewer guests or more machines');
    return steps.length === 0 ? 'use a smaller --pace' : steps.join(', or ');
  }

  #notes(): string[] {
    const notes = markLines([...this.#marks.values()].map((marks) => marks.counts()));
    if (notes.length <= NOTES_MAX) return notes;
    return [...notes.slice(0, NOTES_MAX), `and ${notes.length - NOTES_MAX} more: see events.jsonl`];
  }
}

/** A password in a Redis address does not belong into the run directory. */
const maskAddress = (argument: string): string => argument.replace(/(rediss?:\/\/[^:@/]*):[^@]*@/g, '$1:***@');
