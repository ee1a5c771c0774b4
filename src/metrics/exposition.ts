/**
 * The Prometheus endpoint. Values are read from shared memory when a scrape comes; the threads that write them notice
 * nothing. Histograms come from counts between fixed edges, so they are exact at each edge, and a series' count is
 * the sum of its buckets of the same reading.
 */
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { Add, Labels, Value } from './metric.ts';
import {
  DEFERRED_LOCK_WAIT,
  DEFERRED_SETTLE,
  GUEST_STATES,
  type GuestState,
  LATENESS,
  SCHEDULE_LAG,
  SERIES,
  seriesInfo,
  type SeriesInfo,
} from './ops.ts';
import { addRunMetrics, type RunHealth } from './run-metrics.ts';
import type { StatsView } from './snapshot.ts';

/** What the statistics blocks do not hold: asked for at each scrape, so it must be at hand. */
export interface LiveGauges {
  /** Deferred updates queued and not yet applied, lost or discarded. */
  readonly deferredBacklog: number;
  /** Age of the oldest of them in seconds, 0 if there is none. */
  readonly deferredOldestAgeSeconds: number;
  /** How far locked_vm is from the pages finished operations hold, over running guests. */
  readonly lockedVmDriftPages: number;
  /** Violations found so far, by invariant. Those that are listed with 0 let a query see the first one. */
  readonly invariantViolations: Readonly<Record<string, number>>;
  readonly guests: Readonly<Partial<Record<GuestState, number>>>;
  /** Driver threads. */
  readonly threads: number;
  /** Whether the generator is too late for its figures to be trusted. */
  readonly saturated: boolean;
}

/** Identity of the run, exported once as pinstorm_run_info. */
export interface RunInfo {
  readonly runId: string;
  readonly scenario: string;
  readonly variant: string;
  /** Model nanoseconds per real nanosecond; 0 as fast as it goes. */
  readonly pace: number;
  readonly profile: { readonly name: string; readonly calibrated: boolean };
  readonly version: string;
  /** Invariants the scenario expects to be violated. */
  readonly expect: readonly string[];
}

export interface MetricSources {
  readonly run: RunInfo;
  /** `coordinator` for the sums of the whole run, `worker` for one worker's own: a query must not add both. */
  readonly role: 'coordinator' | 'worker';
  /** Of the coordinator only. */
  readonly health?: () => RunHealth;
  readonly stats: StatsView;
  readonly gauges: () => LiveGauges;
}

const COUNTER_HELP: Readonly<Record<string, string>> = {
  trylock_attempts: 'Attempts to take mmap_sem for writing without waiting.',
  trylock_failures: 'Attempts that found mmap_sem taken: each defers an accounting update.',
  mmap_write_acquisitions: 'Times mmap_sem was taken for writing.',
  mmap_read_acquisitions: 'Times mmap_sem was taken for reading.',
  lock_waits: 'Lock acquisitions that had to wait.',
  limit_refusals: 'Operations refused because locked_vm would exceed RLIMIT_MEMLOCK.',
  ring_full_waits: 'Times an actor waited because the hand-over ring of deferred updates was full.',
  chunks: 'Physically contiguous chunks pinned, each accounted for by itself.',
  entry_limit_refusals: 'Mappings refused because their container held as many as dma_entry_limit allows.',
  pages_pinned: 'Pages of 4 KiB pinned.',
  pages_unpinned: 'Pages of 4 KiB unpinned.',
  values_clamped: 'Latencies outside 0 to 1 h, kept as the nearer end.',
};

/** Exported as states of deferred_jobs_total instead. */
const DEFERRED_COUNTERS: Readonly<Record<string, string>> = {
  deferred_queued: 'queued',
  deferred_applied: 'applied',
  deferred_lost: 'lost',
  deferred_discarded: 'discarded',
};

/** Gauges and histograms of prom-client that break the naming rules `promtool check metrics` knows. */
const MISNAMED_DEFAULTS = ['active_handles_total', 'active_requests_total', 'active_resources_total'];

/** A registry with all of pinstorm's metrics and those of Node itself. */
export function createRegistry(sources: MetricSources): Registry {
  const { stats } = sources;
  const registry = new Registry();
  const add: Add = (type, name, help, read) => {
    const full = `pinstorm_${name}`;
    const metric = {
      name: full,
      help,
      type,
      aggregator: 'sum' as const,
      reset() {},
      get: () => Promise.resolve({ name: full, help, type, aggregator: 'sum' as const, values: read() }),
    };
    registry.registerMetric(metric as unknown as Metric);
  };
  addHistograms(stats, add);
  addCounters(stats, add);
  addGauges(sources, add);
  addFacts(sources, add);
  if (sources.health !== undefined) addRunMetrics(sources.run.runId, sources.health, add);

  collectDefaultMetrics({ register: registry, prefix: 'pinstorm_' });
  for (const name of MISNAMED_DEFAULTS) registry.removeSingleMetric(`pinstorm_nodejs_${name}`);
  return registry;
}

const one = (value: number): Value[] => [{ labels: {}, value }];

function addCounters(stats: StatsView, add: Add): void {
  for (const name of stats.layout.counterNames) {
    if (name in DEFERRED_COUNTERS || name === 'thread_idle_ns') continue;
    add('counter', `${name}_total`, COUNTER_HELP[name] ?? `Total of ${name.replaceAll('_', ' ')}.`, () =>
      one(stats.counter(name)),
    );
  }
  add('counter', 'thread_idle_seconds_total', 'Time driver threads slept because nothing was due.', () =>
    one(stats.counter('thread_idle_ns') / 1e9),
  );
  add('counter', 'deferred_jobs_total', 'Deferred accounting updates by what became of them.', () =>
    Object.entries(DEFERRED_COUNTERS)
      .filter(([name]) => stats.layout.counterNames.includes(name))
      .map(([name, state]) => ({ labels: { state }, value: stats.counter(name) })),
  );
}

/** What is asked for at each scrape. */
function addGauges({ run, gauges }: MetricSources, add: Add): void {
  add('counter', 'invariant_violations_total', 'Violated accounting invariants.', () =>
    Object.entries(gauges().invariantViolations).map(([invariant, value]) => ({
      labels: { invariant, expected: run.expect.includes(invariant) ? 'yes' : 'no' },
      value,
    })),
  );
  add('gauge', 'deferred_backlog', 'Deferred updates not yet applied.', () => one(gauges().deferredBacklog));
  add('gauge', 'deferred_oldest_age_seconds', 'Age of the oldest deferred update not yet applied.', () =>
    one(gauges().deferredOldestAgeSeconds),
  );
  add(
    'gauge',
    'locked_vm_drift_pages',
    'How far locked_vm is from what finished operations hold: work in progress, and deferred updates.',
    () => one(gauges().lockedVmDriftPages),
  );
  add('gauge', 'guests', 'Synthetic guests by state.', () => {
    const { guests } = gauges();
    return GUEST_STATES.map((state) => ({ labels: { state }, value: guests[state] ?? 0 }));
  });
  add('gauge', 'threads', 'Driver threads of this process.', () => one(gauges().threads));
  add('gauge', 'saturated', '1 if the generator is too late for its figures to be trusted.', () =>
    one(gauges().saturated ? 1 : 0),
  );
}

/** What never changes. */
function addFacts({ run, role }: MetricSources, add: Add): void {
  const { runId, scenario, variant, pace, profile, version } = run;
  const facts = {
    run_id: runId,
    role,
    scenario,
    variant,
    pace: String(pace),
    profile: profile.name,
    calibrated: profile.calibrated ? 'yes' : 'no',
  };
  add('gauge', 'run_info', 'The run this process works for; always 1.', () => [{ labels: facts, value: 1 }]);
  add('gauge', 'build_info', 'Versions; always 1.', () => [{ labels: { version, node: process.version }, value: 1 }]);
}

function addHistograms(stats: StatsView, add: Add): void {
  const { layout } = stats;
  const upTo = [...layout.edgesNs].map((ns) => String(ns / 1e9));
  upTo.push('+Inf');
  const histogram = (name: string, help: string, ids: readonly number[], labelsOf: (s: SeriesInfo) => Labels) => {
    const full = `pinstorm_${name}`;
    // The label objects never change: a scrape allocates only the values.
    const rows = ids.map((id) => {
      const labels = labelsOf(seriesInfo(id));
      return { id, labels, edges: upTo.map((le) => Object.assign({}, labels, { le })) };
    });
    add('histogram', name, help, () => {
      const values: Value[] = [];
      for (const { id, labels, edges } of rows) {
        const series = stats.series(id);
        if (series === null) continue;
        let cumulative = 0;
        series.buckets.forEach((n, i) => {
          cumulative += n;
          values.push({ labels: edges[i] as Labels, value: cumulative, metricName: `${full}_bucket` });
        });
        values.push({ labels, value: series.sumNs / 1e9, metricName: `${full}_sum` });
        values.push({ labels, value: cumulative, metricName: `${full}_count` });
      }
      return values;
    });
  };
  const ids = (kind: SeriesInfo['kind']) => SERIES.flatMap((s, i) => (s.kind === kind ? [i] : []));
  const byOp = (s: SeriesInfo): Labels => ({ op: s.op as string, outcome: s.outcome as string });
  const byMode = (s: SeriesInfo): Labels => ({ mode: s.mode as string });
  const none = (): Labels => ({});
  histogram('op_duration_seconds', 'Operations, from their actual start.', ids('actual'), byOp);
  histogram('op_duration_intended_seconds', 'Operations, from their intended start.', ids('intended'), byOp);
  histogram('lock_wait_seconds', 'Waiting for a lock.', ids('lock_wait'), byMode);
  histogram('lock_hold_seconds', 'Holding a lock.', ids('lock_hold'), byMode);
  histogram('schedule_lag_seconds', 'From the intended to the actual start of an operation.', [SCHEDULE_LAG], none);
  histogram('deferred_settle_seconds', 'From queueing a deferred update to its application.', [DEFERRED_SETTLE], none);
  histogram(
    'deferred_lock_wait_seconds',
    'The part of a deferred update spent waiting for mmap_sem.',
    [DEFERRED_LOCK_WAIT],
    none,
  );
  histogram('lateness_seconds', 'How late the generator itself resumed its actors.', [LATENESS], none);
}
