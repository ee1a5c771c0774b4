/**
 * A live run as `run` and `coordinator` do it: Redis, workers, coordinator, metrics, status line, run directory,
 * summary. Whatever happens, nothing started here is left behind.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { stringify } from 'yaml';
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import type { Interrupts } from '../console/interrupts.ts';
import { print, say, stderr, stdout } from '../console/output.ts';
import { WorkerProcesses } from '../coordinator/children.ts';
import type { RunEnd } from '../coordinator/coordinator-api.ts';
import { Coordinator, otherPlan } from '../coordinator/coordinator.ts';
import { type PrivateRedis, startPrivateRedis } from '../coordinator/private-redis.ts';
import { checkRedis } from '../coordinator/redis-check.ts';
import { removeEnded } from '../coordinator/remains.ts';
import type { RunPlan } from '../engine/plan.ts';
import { createRegistry } from '../metrics/exposition.ts';
import { serveMetrics } from '../metrics/metrics-server.ts';
import type { WorkerHealth } from '../metrics/run-metrics.ts';
import { styleFor } from '../report/format.ts';
import { findBegun, findEnded } from '../report/load.ts';
import { tryDirectory } from '../report/place.ts';
import { machineFacts, RUN_DIRECTORY_VERSION, RunDirectory } from '../report/run-dir.ts';
import { StatusLine } from '../report/status-line.ts';
import { renderSummary } from '../report/summary.ts';
import { withDefaults } from '../scenario/origins.ts';
import { memlockWarnings } from '../scenario/plan-text.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { parseRedisUrl, type RedisTarget } from '../wire/redis.ts';
import { finishReport } from './finish-report.ts';
import { DEFAULT_LEASE_MS } from './lease.ts';
import type { LivePage } from './live-page.ts';
import { REGISTRY } from './registry.ts';
import { RunWatch } from './run-watch.ts';
import { withHistories } from './shortest-history.ts';

export interface LiveRunOptions {
  readonly resolved: ResolvedScenario;
  readonly plan: RunPlan;
  /** Undefined: a private one. */
  readonly redis: string | undefined;
  readonly prefix: string | undefined;
  readonly tlsCa: string | undefined;
  /** A run whose coordinator is gone, to go on with. */
  readonly resume?: string | undefined;
  /** Id of a new run; undefined: one that no other run has. */
  readonly run?: string | undefined;
  readonly lease: number | undefined;
  readonly onWorkerLoss: 'rerun' | 'partial';
  /** Worker processes to start on this machine. */
  readonly workers: number;
  /** Threads of each of them. */
  readonly threads: number;
  readonly minWorkers: number;
  readonly metricsPort: number | undefined;
  readonly metricsHost: string;
  /** Whether the live page is served, and where; a port alone is enough. */
  readonly ui: boolean;
  readonly uiPort: number | undefined;
  /** Where run directories go. */
  readonly out: string;
  readonly json: boolean;
  readonly strict: boolean;
  readonly quiet: boolean;
}

/** Guests of a lost worker wait this long for another one to come, ms. */
const REJOIN_MS = 30_000;

/** Runs to the end. @returns the exit status of the verdict. @throws UserError when there is nothing to report. */
export async function liveRun(options: LiveRunOptions, interrupts: Interrupts): Promise<ExitCode> {
  const { plan } = options;
  const ended = options.resume === undefined ? null : findEnded(options.out, options.resume);
  if (ended !== null) return showEnded(ended, options);
  tryDirectory(options.out);
  const runId = options.resume ?? options.run ?? `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  const status = new StatusLine(stderr, { quiet: options.quiet, term: process.env['TERM'] });
  let stopGently = (): void => {};
  interrupts.onFirst((text) => {
    status.message(text);
    stopGently();
  });
  interrupts.defer(() => status.clear());
  const watch = new RunWatch(options, runId);
  for (const text of memlockWarnings(plan, REGISTRY)) status.message(`pinstorm: warning: ${text}`);
  let warned = false;
  if (options.metricsPort !== undefined) {
    const registry = createRegistry(watch.metricSources());
    const { metricsHost: host } = options;
    const { port, close } = await serveMetrics(registry, { port: options.metricsPort, host });
    interrupts.defer(close);
    status.message(`pinstorm: metrics at http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`);
  }
  let page: LivePage | undefined;
  if (options.ui || options.uiPort !== undefined) {
    const { LivePage: Page } = await import('./live-page.ts');
    page = await Page.open({
      port: options.uiPort ?? 0,
      run: watch.identity(),
      scale: watch.layout.scale,
      // As the first Ctrl-C.
      onStop: () => {
        if (interrupts.count === 0) interrupts.signal();
      },
    });
    interrupts.defer(() => page?.close() ?? Promise.resolve());
    status.message(`pinstorm: the run is shown at ${page.url}`);
  }
  const [target, redis] = await openTarget(options);
  if (redis !== undefined) interrupts.defer(() => redis.close());
  if (interrupts.count > 0) return EXIT.stopped;

  let directory: RunDirectory | undefined;
  const begun = options.resume === undefined ? null : findBegun(options.out, runId, watch.replay);
  if (begun !== null) watch.resume(begun);
  // Nobody will join a run on a private Redis.
  const rejoinMs = options.workers > 0 ? 0 : REJOIN_MS;
  const { minWorkers, onWorkerLoss, lease: leaseMs = DEFAULT_LEASE_MS } = options;
  /** Up to where the live page has the run. */
  let shownSeconds = begun?.endSeconds ?? 0;
  const workers = (): WorkerHealth[] => watch.state.workerHealth(performance.now());
  const record = (atSeconds: number, kind: string, fields: Record<string, unknown>, again = false): void => {
    directory?.event(atSeconds, kind, fields, again);
    page?.event(atSeconds, kind, fields);
  };
  const coordinator = new Coordinator(
    { target, plan, runId, resume: options.resume !== undefined, minWorkers, leaseMs, onWorkerLoss, rejoinMs },
    {
      started(startAtMs, inMs) {
        watch.start(startAtMs, inMs);
        const scenario = stringify(withDefaults(options.resolved, REGISTRY));
        directory = new RunDirectory(options.out, runRecord(), scenario, plan, begun ?? undefined);
        interrupts.left = `the run directory ${directory.path} holds what was measured`;
        if (begun === null) record(0, 'start', { runId, guests: plan.guests.length });
      },
      progress() {
        const { delta, gauges, guests, progress, crossed } = watch.interval();
        const violated = watch.newlyViolated();
        directory?.interval(watch.elapsedSeconds, delta, { ...gauges, ...watch.violationGauges() }, guests);
        const counters = Object.fromEntries(delta.layout.counterNames.map((name, i) => [name, delta.counters[i]!]));
        const interval = { startSeconds: shownSeconds, endSeconds: watch.elapsedSeconds, counters, gauges, guests };
        page?.interval(interval, delta, () => watch.resultsSoFar(), workers());
        shownSeconds = watch.elapsedSeconds;
        for (const fields of violated) record(watch.elapsedSeconds, 'violation', fields);
        for (const { atSeconds, stage } of watch.stagesBegun()) record(atSeconds, 'stage', { stage });
        status.update(progress, performance.now());
        if (progress.saturated && !warned) {
          const { reason, advice } = progress.saturated;
          status.message(`pinstorm: warning: latencies are not to be trusted: ${reason}; ${advice}`);
        }
        warned ||= Boolean(progress.saturated);
        if (crossed === null) return;
        const { metric, expression } = crossed;
        record(watch.elapsedSeconds, 'threshold', { metric, expression });
        status.message(`pinstorm: stopping, a threshold is crossed: ${metric} ${expression}`);
        coordinator.stop('threshold');
      },
      guest(outcome, worker, replayed) {
        const row = watch.guestRow(outcome, worker);
        directory?.guest(row, replayed);
        page?.guest(row);
      },
      event(kind, fields, replayed) {
        watch.event(kind, fields);
        record(watch.elapsedSeconds, kind, fields, replayed);
        const text = replayed ? undefined : said(kind, fields);
        if (text !== undefined) status.message(`pinstorm: ${text}`);
      },
    },
  );
  watch.follow(coordinator);
  stopGently = () => coordinator.stop();
  const runRecord = (): ConstructorParameters<typeof RunDirectory>[1] => ({
    schemaVersion: RUN_DIRECTORY_VERSION,
    clock: 'real',
    run: watch.identity(),
    node: process.version,
    machine: machineFacts(),
    statistics: { digits: watch.layout.scale.digits, counters: [...watch.layout.counterNames] },
    thresholds: plan.thresholds.map(({ metric, expression }) => ({ metric, expression })),
    ...(plan.stages === undefined ? {} : { stages: [...plan.stages] }),
    expect: [...plan.expect],
    guestsPlanned: plan.guests.length,
    minShare: 1,
    health: watch.healthFacts(),
  });
  if (options.workers === 0) {
    status.message(`pinstorm: run ${runId}; should this process die, the same command with --resume ${runId} goes on`);
  }
  let children: WorkerProcesses | undefined;
  // Ends everything: told twice, it does it once.
  let ending: Promise<void> | undefined;
  const end = (graceMs: number): Promise<void> =>
    (ending ??= (async () => {
      await coordinator.dismiss();
      await children?.finish(graceMs);
      await coordinator.close(coordinator.state.workers.size > options.workers);
    })());
  let redisGone = false;
  interrupts.defer(() => end(interrupts.count > 1 || redisGone ? 0 : 5000));
  if (options.workers > 0) {
    const { workers: count, threads } = options;
    children = new WorkerProcesses(
      { main: process.argv[1] as string, target, runId, count, threads, capacity: Math.max(1, plan.guests.length) },
      {
        gone: (worker, why) => coordinator.workerGone(worker, why),
        said: (worker, line) => {
          // What a worker says before its end is repeated with its loss; the rest is for whoever looks for a bug.
          if (process.env['PINSTORM_DEBUG']) status.message(`${worker}: ${line}`);
        },
      },
    );
  }
  const watchRedis = async (): Promise<void> => {
    await redis?.ended;
    if (redis === undefined || ending !== undefined) return;
    redisGone = true;
    coordinator.redisGone(new UserError(EXIT.inconclusive, 'the private redis-server ended'));
  };
  void watchRedis();
  const loop = monitorEventLoopDelay({ resolution: 10 });
  loop.enable();
  const outcome: RunEnd = await coordinator.run();
  loop.disable();
  watch.stop();
  status.clear();
  if (directory === undefined) {
    await end(5000);
    return EXIT.stopped;
  }

  // The run stays in Redis until its results are on disk: until then another coordinator can take this one's place.
  await coordinator.dismiss();
  const results = await withHistories(watch.results(outcome, coordinator, loop.percentile(99)));
  const summary = renderSummary(results, styleFor({}, {}));
  record(watch.elapsedSeconds, 'end', { verdict: results.verdict.verdict, reasons: coordinator.reasons });
  directory.finish(results, summary);
  const { written, failure } = finishReport(directory.path);
  await end(5000);
  if (options.json) print(`${JSON.stringify(results, null, 2)}\n`);
  else print(renderSummary(results, styleFor(stdout, process.env)));
  status.message(`pinstorm: ${written}`);
  if (directory.note !== null) status.message(`pinstorm: ${directory.note}`);
  await page?.end(results, workers(), join(directory.path, 'report.html'));
  if (failure !== null) throw failure;
  return results.verdict.exitCode as ExitCode;
}

/**
 * The coordinator died after it had written the results: they stand, and only what is left in Redis remains to be done.
 */
async function showEnded(
  { path, results }: NonNullable<ReturnType<typeof findEnded>>,
  options: LiveRunOptions,
): Promise<ExitCode> {
  const { id, planHash } = results.run;
  if (planHash !== options.plan.hash) throw otherPlan(id, 'another plan');
  const [target, redis] = await openTarget(options);
  try {
    await removeEnded(target, id);
  } finally {
    await redis?.close();
  }
  const { written, failure } = finishReport(path);
  if (options.json) print(`${JSON.stringify(results, null, 2)}\n`);
  else print(renderSummary(results, styleFor(stdout, process.env)));
  say(`pinstorm: run ${id} had ended: ${written}\n`);
  if (failure !== null) throw failure;
  return results.verdict.exitCode as ExitCode;
}

const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** What the terminal is told of an event, if anything. */
function said(kind: string, fields: Record<string, unknown>): string | undefined {
  const worker = String(fields['worker']);
  switch (kind) {
    case 'no_room':
      return `room for ${String(fields['room'])} of ${plural(Number(fields['guests']), 'guest')} on ${plural(Number(fields['workers']), 'worker')}: waiting for more`;
    case 'worker_lost':
      return `worker ${worker} was lost: ${String(fields['why'])}`;
    case 'rerun':
      return fields['guests'] === 0
        ? undefined
        : `${plural(Number(fields['guests']), 'guest')} of worker ${worker} ${fields['guests'] === 1 ? 'runs' : 'run'} again elsewhere`;
    case 'resumed':
      return `going on with ${plural(Number(fields['workers']), 'worker')}; guests that have ended: ${String(fields['guests'])}`;
    case 'redis_full':
      return 'the memory of Redis is full: waiting';
    default:
      return undefined;
  }
}

async function openTarget(options: LiveRunOptions): Promise<[RedisTarget, PrivateRedis | undefined]> {
  if (options.redis === undefined) {
    const redis = await startPrivateRedis();
    return [redis.target, redis];
  }
  const target = parseRedisUrl(options.redis, options);
  await checkRedis(target);
  return [target, undefined];
}
