/** What a run directory records of a run at its start. */
import type { RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { machineFacts, RUN_DIRECTORY_VERSION, type RunRecord } from '../report/run-dir.ts';

export function runRecord(plan: RunPlan, how: Pick<RunRecord, 'clock' | 'run' | 'health'>): RunRecord {
  const { clock, run, health } = how;
  const { scale, counterNames } = statsLayout(plan);
  return {
    schemaVersion: RUN_DIRECTORY_VERSION,
    clock,
    run,
    node: process.version,
    machine: machineFacts(),
    statistics: { digits: scale.digits, counters: [...counterNames] },
    thresholds: plan.thresholds.map(({ metric, expression }) => ({ metric, expression })),
    ...(plan.stages === undefined ? {} : { stages: [...plan.stages] }),
    expect: [...plan.expect],
    guestsPlanned: plan.guests.length,
    minShare: 1,
    health,
  };
}

/** The command line of this process. A password in a Redis address does not belong into the run directory. */
export const recordedCommandLine = (): string[] => [
  'pinstorm',
  ...process.argv.slice(2).map((argument) => argument.replace(/(rediss?:\/\/[^:@/]*):[^@]*@/g, '$1:***@')),
];
