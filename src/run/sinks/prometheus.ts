import { VERSION } from '../../base/version.ts';
import type { MetricSources } from '../../metrics/exposition.ts';
import { type MetricsServer, serveMetrics } from '../../metrics/metrics-server.ts';
import type { RunHealth } from '../../metrics/run-metrics.ts';
import { INVARIANTS } from '../../model/oracle.ts';
import type { LiveFigures } from '../live-figures.ts';
import type { RunEvent, RunSink } from '../run-event.ts';
import { stageStarts } from '../run-notes.ts';

/** Serves a live run at /metrics. A scrape asks for the figures as they are then. */
export class PrometheusSink implements RunSink {
  readonly #figures: LiveFigures;
  #startSeconds: number | null = null;

  constructor(figures: LiveFigures) {
    this.#figures = figures;
  }

  /** @throws UserError 104 if the port cannot be had. */
  serve(at: { readonly port: number; readonly host: string }): Promise<MetricsServer> {
    return serveMetrics(this.#sources(), at);
  }

  take(event: RunEvent): void {
    if (event.t === 'begun') this.#startSeconds = event.startEpochSeconds;
  }

  #sources(): MetricSources {
    const figures = this.#figures;
    const { plan, total } = figures.watch;
    const { variant, name, pace, profile, expect } = plan;
    return {
      run: { runId: figures.identity.id, scenario: name, variant, pace, profile, version: VERSION, expect },
      role: 'coordinator',
      stats: total,
      gauges: () => ({
        deferredBacklog: figures.state.backlog,
        deferredOldestAgeSeconds: figures.state.oldestAgeSeconds,
        lockedVmDriftPages: figures.state.driftPages,
        invariantViolations: {
          ...Object.fromEntries(INVARIANTS.map((invariant) => [invariant, 0])),
          ...figures.state.violations,
        },
        guests: figures.state.guestStates,
        threads: figures.threads,
        saturated: figures.watch.saturation !== null,
      }),
      health: () => this.#health(),
    };
  }

  #health(): RunHealth {
    const { watch, coordinator, exitStatus, workers } = this.#figures;
    const { durationNs, pace } = watch.plan;
    return {
      startSeconds: this.#startSeconds,
      plannedSeconds: durationNs === null || pace === 0 ? null : durationNs / pace / 1e9,
      phases: coordinator.phases,
      stages: this.#stages(),
      exitStatus,
      thresholds: watch.judged,
      workers,
      redis: coordinator.redisHealth,
    };
  }

  /** The stages that have begun, with epoch seconds. */
  #stages(): RunHealth['stages'] {
    const started = this.#startSeconds;
    if (started === null) return [];
    return stageStarts(this.#figures.watch.plan)
      .map(({ atSeconds, stage }) => ({ stage, startSeconds: started + atSeconds }))
      .filter(({ startSeconds }) => startSeconds <= Date.now() / 1000);
  }
}
