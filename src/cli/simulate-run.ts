/** What `simulate` does with a plan: the emulated hosts, the run directory, the summary. */
import { availableParallelism } from 'node:os';
import { stringify } from 'yaml';
import { EXIT, UserError, type ExitCode } from '../base/errors.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { styleFor } from '../report/format.ts';
import { machineFacts, RUN_DIRECTORY_VERSION, RunDirectory } from '../report/run-dir.ts';
import { StatusLine } from '../report/status-line.ts';
import { renderSummary } from '../report/summary.ts';
import { plain } from '../scenario/source.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { simulateAll } from '../worker/virtual-pool.ts';
import { guestsOfHost } from '../worker/virtual-run.ts';
import { mergedSnapshot, virtualHealth, virtualIdentity, virtualResults } from './virtual-results.ts';

export interface SimulateOptions {
  readonly resolved: ResolvedScenario;
  readonly plan: RunPlan;
  readonly threads: number | undefined;
  /** Where run directories go. */
  readonly out: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Runs to the end. @returns the exit status of the verdict. @throws UserError when there is nothing to report. */
export async function simulateRun(options: SimulateOptions): Promise<ExitCode> {
  const { plan } = options;
  const status = new StatusLine(process.stderr, { quiet: options.quiet, term: process.env['TERM'] });
  const startedAt = new Date().toISOString();
  const { guests: _guests, ...head } = plan;
  const tasks = Array.from({ length: Math.min(plan.host.count, Math.max(1, plan.guests.length)) }, (_, index) => ({
    plan: head,
    guests: guestsOfHost(plan, index),
  }));
  const hosts = await simulateAll(tasks, {
    threads: options.threads ?? availableParallelism(),
    onDone: (done) => {
      if (tasks.length > 1 && !options.quiet) status.message(`pinstorm: ${done} of ${tasks.length} hosts simulated`);
    },
  }).catch((error: unknown) => {
    if (error instanceof Error && error.name === 'ArenaFullError') {
      throw new UserError(
        EXIT.invalid,
        `the scenario does not fit: ${error.message}`,
        'use more emulated hosts, for example --set host.count=4',
      );
    }
    throw error;
  });
  const results = virtualResults(plan, hosts);
  const snapshot = mergedSnapshot(plan, hosts);
  const directory = new RunDirectory(
    options.out,
    {
      schemaVersion: RUN_DIRECTORY_VERSION,
      run: {
        ...virtualIdentity(plan),
        commandLine: ['pinstorm', ...process.argv.slice(2)],
        startedAt,
      },
      node: process.version,
      machine: machineFacts(),
      statistics: { digits: snapshot.layout.scale.digits, counters: [...snapshot.layout.counterNames] },
      thresholds: plan.thresholds.map(({ metric, expression }) => ({ metric, expression })),
      expect: [...plan.expect],
      guestsPlanned: plan.guests.length,
      minShare: 1,
      health: virtualHealth(plan),
    },
    stringify(plain(options.resolved.root)),
    plan,
  );
  const endSeconds = results.durationNs / 1e9;
  directory.event(0, 'start', { guests: plan.guests.length, hosts: hosts.length });
  for (const { marks } of hosts) {
    for (const { guest, atNs, label, value } of marks) directory.event(atNs / 1e9, 'mark', { guest, label, value });
  }
  for (const { violations } of hosts) for (const v of violations) directory.event(endSeconds, 'violation', v);
  const gauges = { deferred_backlog: 0, locked_vm_drift_pages: results.accounting.driftPages };
  const { guestsFinished, guestsFailed } = results.coverage;
  directory.interval(endSeconds, snapshot, gauges, { finished: guestsFinished, failed: guestsFailed });
  directory.event(endSeconds, 'end', { verdict: results.verdict.verdict, reasons: results.verdict.reasons });
  directory.finish(results, renderSummary(results, styleFor({}, {})));
  if (options.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  else process.stdout.write(renderSummary(results, styleFor(process.stdout, process.env)));
  status.message(`pinstorm: run directory ${directory.path}`);
  return results.verdict.exitCode as ExitCode;
}
