/**
 * A live run as `run` and `coordinator` do it: what the coordinator tells becomes events, which the watch adds up and
 * the sinks keep and show. Whatever happens, nothing started here is left behind.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { stringify } from 'yaml';
import { EXIT, type ExitCode } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import type { Interrupts } from '../console/interrupts.ts';
import { say, stderr } from '../console/output.ts';
import type { CoordinatorOptions } from '../coordinator/coordinator-api.ts';
import { Coordinator } from '../coordinator/coordinator.ts';
import { removeEnded } from '../coordinator/remains.ts';
import { otherPlan } from '../coordinator/resume.ts';
import { capacityForAll } from '../coordinator/slices.ts';
import { refuseTooLarge } from '../emulator/capacity.ts';
import type { RunPlan } from '../engine/plan.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { findBegun, findEnded, type WrittenRun } from '../report/load.ts';
import { tryDirectory } from '../report/place.ts';
import type { RunIdentity, RunResults } from '../report/results.ts';
import { StatusLine } from '../report/status-line.ts';
import { withDefaults } from '../scenario/origins.ts';
import { memlockWarnings } from '../scenario/plan-text.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { accountPolicy } from './account-policy.ts';
import { finishReport, printResults } from './finish-report.ts';
import { DEFAULT_LEASE_MS } from './lease.ts';
import { LiveEvents } from './live-events.ts';
import { LiveFigures } from './live-figures.ts';
import { type FleetOptions, LiveFleet, openTarget, type RedisChoice, type UsedRedis } from './live-fleet.ts';
import { REGISTRY } from './registry.ts';
import type { RunEvent, RunSink } from './run-event.ts';
import { recordedCommandLine, runRecord } from './run-record.ts';
import { RunWatch } from './run-watch.ts';
import { withHistories } from './shortest-history.ts';
import { PrometheusSink } from './sinks/prometheus.ts';
import { DirectorySink } from './sinks/run-directory.ts';
import { StatusSink } from './sinks/status.ts';

/** What is run. */
export interface LiveSubject {
  readonly resolved: ResolvedScenario;
  readonly plan: RunPlan;
  /** Id of a new run; undefined: one that no other run has. */
  readonly run: string | undefined;
  /** A run whose coordinator is gone, to go on with. */
  readonly resume: string | undefined;
  /** Latencies are judged whether or not a threshold is of one. */
  readonly strict: boolean;
}

/** When a run begins, and what becomes of it when workers are lost. */
export interface LivePolicy extends Pick<CoordinatorOptions, 'minWorkers' | 'onWorkerLoss'> {
  /** Ms; undefined: the usual one. */
  readonly lease: number | undefined;
}

/** Where a run can be seen. */
export interface LiveOutput {
  /** Where run directories go. */
  readonly out: string;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly metricsPort: number | undefined;
  readonly metricsHost: string;
  /** Whether the live page is served, and where; a port alone is enough. */
  readonly ui: boolean;
  readonly uiPort: number | undefined;
}

export interface LiveRunOptions {
  readonly subject: LiveSubject;
  readonly policy: LivePolicy;
  readonly fleet: FleetOptions;
  readonly redis: RedisChoice;
  readonly output: LiveOutput;
}

/** Guests of a lost worker wait this long for another one to come, ms. */
const REJOIN_MS = 30_000;

/** Runs to the end. @returns the exit status of the verdict. @throws UserError when there is nothing to report. */
export async function liveRun(options: LiveRunOptions, interrupts: Interrupts): Promise<ExitCode> {
  const { subject, output } = options;
  const { plan, resume } = subject;
  const ended = resume === undefined ? null : findEnded(output.out, resume);
  if (ended !== null) return showEnded(ended, plan, options.redis, output.json);
  tryDirectory(output.out);
  refuseTooLarge(plan.guests, resolveVariant(plan.variant), 'use fewer guests, or fewer mappings in each');
  const status = new StatusLine(stderr, { quiet: output.quiet, term: process.env['TERM'] });
  interrupts.onFirst((text) => status.message(text));
  interrupts.defer(() => status.clear());
  const watch = new RunWatch(plan);
  const runId = resume ?? subject.run ?? `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  const written = resume === undefined ? null : findBegun(output.out, runId, watch.replay);
  const startedAt = written?.record.run.startedAt ?? new Date().toISOString();
  const figures = new LiveFigures(liveIdentity(subject, runId, startedAt), watch);
  for (const text of memlockWarnings(plan, REGISTRY)) status.message(`pinstorm: warning: ${text}`);
  const directory = new DirectorySink(output.out);
  const served = await serve(output, figures, directory, status, interrupts);
  const redis = await openTarget(options.redis);
  interrupts.defer(() => redis.own?.close());
  if (interrupts.count > 0) return EXIT.stopped;

  const joinWith = options.fleet.workers > 0 ? null : `pinstorm worker --redis ${redis.target.label}`;
  const sinks = [directory, ...served, new StatusSink(status, () => watch.progress, joinWith)];
  const results = await conduct(options, { figures, written, redis, status, directory, sinks }, interrupts);
  const { ended: kept } = directory;
  if (results === null || kept === null) return EXIT.stopped;
  printResults(results, output.json);
  status.message(`pinstorm: ${kept.written}`);
  if (kept.note !== null) status.message(`pinstorm: ${kept.note}`);
  if (kept.failure !== null) throw kept.failure;
  return results.verdict.exitCode as ExitCode;
}

/** What a run needs at hand. */
interface LiveParts {
  readonly figures: LiveFigures;
  readonly written: WrittenRun | null;
  readonly redis: UsedRedis;
  readonly status: StatusLine;
  readonly directory: DirectorySink;
  readonly sinks: readonly RunSink[];
}

/** From the first worker to the results. @returns null when the user stopped it before guests started. */
async function conduct(options: LiveRunOptions, parts: LiveParts, interrupts: Interrupts): Promise<RunResults | null> {
  const { figures, written, redis, status, directory, sinks } = parts;
  const { subject, policy, fleet: fleetOptions } = options;
  const { plan } = subject;
  const runId = figures.identity.id;
  const emit = (event: RunEvent): void => {
    const following = figures.watch.take(event);
    for (const sink of sinks) sink.take(event);
    if (event.t === 'begun') interrupts.left = `the run directory ${directory.path} holds what was measured`;
    if (event.t === 'event' && event.kind === 'threshold') coordinator.stop('threshold');
    for (const next of following) emit(next);
  };
  const events = new LiveEvents(figures, () => begunOf(subject, figures, written), fleetOptions.workers > 0, emit);
  const coordinator = new Coordinator(
    { target: redis.target, plan, runId, resume: subject.resume !== undefined, ...coordination(policy, fleetOptions) },
    events,
  );
  figures.coordinator = coordinator;
  interrupts.onFirst((text) => {
    status.message(text);
    coordinator.stop();
  });
  if (fleetOptions.workers === 0) {
    status.message(`pinstorm: run ${runId}; should this process die, the same command with --resume ${runId} goes on`);
  }
  const fleet = new LiveFleet(coordinator, fleetOptions);
  fleet.start(redis, { runId, capacity: capacityForAll(plan) }, interrupts, (line) => {
    // What a worker says before its end is repeated with its loss; the rest helps to find a bug.
    if (process.env['PINSTORM_DEBUG']) status.message(line);
  });
  const loop = monitorEventLoopDelay({ resolution: 10 });
  loop.enable();
  const end = await coordinator.run();
  loop.disable();
  events.stop();
  status.clear();
  if (directory.path === undefined) {
    await fleet.end();
    return null;
  }
  // The run stays in Redis until its results are on disk: until then another coordinator can take this one's place.
  await coordinator.dismiss();
  const { reasons, notes } = coordinator;
  const how = { end, reasons, notes, durationSeconds: events.elapsedSeconds, eventLoopDelayP99Ns: loop.percentile(99) };
  const results = await withHistories(figures.results(how));
  events.event('end', { verdict: results.verdict.verdict, reasons }, false);
  emit({ t: 'ended', results });
  await fleet.end();
  return results;
}

const coordination = (
  { minWorkers, onWorkerLoss, lease = DEFAULT_LEASE_MS }: LivePolicy,
  { workers }: FleetOptions,
) => ({
  minWorkers,
  onWorkerLoss,
  leaseMs: lease,
  // Nobody will join a run on a private Redis.
  rejoinMs: workers > 0 ? 0 : REJOIN_MS,
});

const begunOf = (
  { resolved, plan }: LiveSubject,
  { identity, healthFacts }: LiveFigures,
  written: WrittenRun | null,
) => ({
  t: 'begun' as const,
  record: runRecord(plan, { clock: 'real', run: identity, health: healthFacts }),
  scenario: stringify(withDefaults(resolved, REGISTRY)),
  plan,
  written,
});

function liveIdentity({ plan, strict }: LiveSubject, id: string, startedAt: string): RunIdentity {
  const { name, variant, seed, pace, hash } = plan;
  return {
    id,
    name,
    driver: 'wall',
    variant,
    seed,
    pace,
    planHash: hash,
    commandLine: recordedCommandLine(),
    startedAt,
    version: VERSION,
    account: accountPolicy(plan),
    ...(strict ? { strict: true } : {}),
  };
}

/** Opens /metrics and the live page, where they are wanted, and says where they are. */
async function serve(
  { metricsPort, metricsHost: host, ui, uiPort }: LiveOutput,
  figures: LiveFigures,
  directory: DirectorySink,
  status: StatusLine,
  interrupts: Interrupts,
): Promise<RunSink[]> {
  const sinks: RunSink[] = [];
  if (metricsPort !== undefined) {
    const prometheus = new PrometheusSink(figures);
    const { port, close } = await prometheus.serve({ port: metricsPort, host });
    interrupts.defer(close);
    status.message(`pinstorm: metrics at http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`);
    sinks.push(prometheus);
  }
  if (ui || uiPort !== undefined) {
    const { LivePage } = await import('./sinks/live-page.ts');
    const page = await LivePage.open({
      port: uiPort ?? 0,
      run: figures.identity,
      scale: figures.watch.total.layout.scale,
      figures,
      report: () => join(directory.path ?? '', 'report.html'),
      // As the first Ctrl-C.
      onStop: () => {
        if (interrupts.count === 0) interrupts.signal();
      },
    });
    interrupts.defer(() => page.close());
    status.message(`pinstorm: the run is shown at ${page.url}`);
    sinks.push(page);
  }
  return sinks;
}

/**
 * The coordinator died after it had written the results: they stand, and only what is left in Redis remains to be done.
 */
async function showEnded(
  { path, results }: NonNullable<ReturnType<typeof findEnded>>,
  plan: RunPlan,
  choice: RedisChoice,
  json: boolean,
): Promise<ExitCode> {
  const { id, planHash } = results.run;
  if (planHash !== plan.hash) throw otherPlan(id, 'another plan');
  const { target, own } = await openTarget(choice);
  try {
    await removeEnded(target, id);
  } finally {
    await own?.close();
  }
  const { written, failure } = finishReport(path);
  printResults(results, json);
  say(`pinstorm: run ${id} had ended: ${written}\n`);
  if (failure !== null) throw failure;
  return results.verdict.exitCode as ExitCode;
}
