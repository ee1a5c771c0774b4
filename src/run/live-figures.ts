/** The figures of a live run, from what its workers have said (RunState) and what its events come to (RunWatch). */
import { availableParallelism } from 'node:os';
import type { RunEnd } from '../coordinator/coordinator-api.ts';
import type { Coordinator } from '../coordinator/coordinator.ts';
import { RunState } from '../coordinator/run-state.ts';
import { neverBegunNote, type RunPlan } from '../engine/plan.ts';
import { LATENESS } from '../metrics/ops.ts';
import type { WorkerHealth } from '../metrics/run-metrics.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { buildResults, quantilesOf } from '../report/build.ts';
import { explainOverPenalty } from '../report/explanation.ts';
import type { RunIdentity, RunResults, WorkerFigures } from '../report/results.ts';
import type { RunRecord } from '../report/run-dir.ts';
import { stateOf } from '../report/thresholds.ts';
import { decide } from '../report/verdict.ts';
import { accountPolicy } from './account-policy.ts';
import { conservation, coverage, coverageSoFar, firstDetails, oddities } from './run-notes.ts';
import { type RunWatch, violationsOf } from './run-watch.ts';
import { saturationOf } from './saturation.ts';

/** How a run ended, as its coordinator knows it. */
export interface LiveEnd {
  readonly end: RunEnd;
  /** What speaks against taking the figures for the whole run, and what does not. */
  readonly reasons: readonly string[];
  readonly notes: readonly string[];
  readonly durationSeconds: number;
  readonly eventLoopDelayP99Ns: number;
}

export class LiveFigures {
  readonly identity: RunIdentity;
  readonly watch: RunWatch;
  /** What the coordinator knows, once there is one. */
  coordinator: Pick<Coordinator, 'state' | 'phases' | 'redisHealth'>;
  readonly #plan: RunPlan;

  constructor(identity: RunIdentity, watch: RunWatch) {
    this.identity = identity;
    this.watch = watch;
    this.#plan = watch.plan;
    this.coordinator = { state: new RunState(watch.plan, watch.total.layout), phases: {}, redisHealth: null };
  }

  get state(): RunState {
    return this.coordinator.state;
  }

  get threads(): number {
    return [...this.state.workers.values()].reduce((sum, { registration }) => sum + registration.threads, 0);
  }

  get healthFacts(): RunRecord['health'] {
    const { name, calibrated } = this.#plan.profile;
    return {
      cores: availableParallelism(),
      threads: this.threads,
      workers: this.state.workers.size,
      profile: { name, calibrated },
    };
  }

  /** The workers side by side, now. */
  get workers(): WorkerHealth[] {
    return this.state.workerHealth(performance.now());
  }

  /** The exit status if everything still to come were fine: what is under way counts neither as missing nor as lost. */
  get exitStatus(): number {
    const { judged, saturation, total } = this.watch;
    const [applied, discarded] = [total.counter('deferred_applied'), total.counter('deferred_discarded')];
    return decide({
      complete: this.state.missing.length === 0,
      stoppedByUser: false,
      strict: this.identity.strict === true,
      coverage: coverageSoFar(this.state),
      accounting: {
        violations: violationsOf(this.#plan, this.state.violations),
        deferred: { queued: applied + discarded, applied, discarded, lost: 0 },
      },
      health: { saturated: saturation !== null, saturation },
      // What nothing has been measured of yet may still be.
      thresholds: judged.filter((t) => stateOf(t) !== 'not judged'),
    }).exitCode;
  }

  /** The results so far, while the run goes on: guests under way are neither finished nor lost. */
  soFar(): RunResults {
    const { endSeconds: durationSeconds } = this.watch;
    const results = this.results({ end: 'partial', reasons: [], notes: [], durationSeconds, eventLoopDelayP99Ns: 0 });
    return { ...results, coverage: coverageSoFar(this.state) };
  }

  results({ end, reasons, notes, durationSeconds, eventLoopDelayP99Ns }: LiveEnd): RunResults {
    const { state, watch } = this;
    const counts = state.guestCounts();
    const counted = [...state.workers.values()].filter(({ superseded }) => !superseded);
    const finals = counted.filter(({ accounted }) => !accounted).map(({ final }) => final);
    const snapshot = state.merged('counted');
    const violations = violationsOf(this.#plan, state.violations);
    const details = finals.flatMap((final) => final?.violations ?? []);
    const accounted = counted.length > 0 && finals.every((final) => final !== null);
    const violated = violations.some(({ invariant }) => invariant === 'balance');
    const penalty = details.find(({ invariant }) => invariant === 'over-penalty');
    const saturation = saturationOf(this.#plan, snapshot, watch.othersShare);
    const missing = finals.reduce((sum, final) => sum + (final?.deferred.missingCount ?? 0), 0);
    const delays = [...state.workers.values()].map((w) => w.interval?.eventLoopDelayP99Ns ?? 0);
    return buildResults({
      run: this.identity,
      // Lost guests are missing coverage; a run that is partial without them did not come to its end.
      complete: end !== 'partial' || counts.lost > 0 || missing > 0,
      stoppedByUser: end === 'stopped',
      durationNs: Math.round(durationSeconds * 1e9),
      coverage: coverage(state),
      snapshot,
      thresholds: watch.thresholds,
      judge: watch.judge,
      accounting: {
        balance: violated ? 'violated' : accounted ? 'exact' : 'unchecked',
        driftPages: state.driftPages,
        invariants: accounted ? [...INVARIANTS] : [],
        violations,
        notes: [
          ...(this.#plan.notes ?? []),
          ...neverBegunNote(this.#plan),
          ...conservation(counts, reasons),
          ...notes,
          ...state.lateNotes,
          ...watch.markNotes,
          ...firstDetails(details),
          ...oddities(state),
        ],
        explanation: penalty === undefined ? null : explainOverPenalty(accountPolicy(this.#plan)),
      },
      deferredBacklogMax: watch.backlogMax,
      health: {
        ...this.healthFacts,
        saturated: saturation !== null,
        saturation,
        eventLoopDelayP99Ns: Math.max(eventLoopDelayP99Ns, ...delays),
        clocks: state.clocks,
        perWorker: this.#perWorker,
      },
    });
  }

  get #perWorker(): WorkerFigures[] {
    const guests = new Map<string, number>();
    for (const { worker } of this.state.outcomes.values()) guests.set(worker, (guests.get(worker) ?? 0) + 1);
    return this.workers.flatMap((health) => {
      const worker = this.state.workers.get(health.name);
      if (worker === undefined) return [];
      const { host, capacity } = worker.registration;
      const { name, threads, operations, cpuSeconds, residentBytes } = health;
      const lateness = quantilesOf(worker.snapshot, LATENESS);
      const own = { name, host, threads, capacity, guests: guests.get(name) ?? 0, operations, lateness };
      return [{ ...own, cpuSeconds, residentBytes, lost: worker.lost }];
    });
  }
}
