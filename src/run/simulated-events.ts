/** The events of a simulated run, once its hosts have run. Everything in them but `begun` follows from the plan. */
import { stringify } from 'yaml';
import type { HostResult } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import type { RunResults } from '../report/results.ts';
import { withDefaults } from '../scenario/origins.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { REGISTRY } from './registry.ts';
import type { RunEvent, RunGuest, RunHappening } from './run-event.ts';
import { recordedCommandLine, runRecord } from './run-record.ts';
import { gaugesOf, type SimulatedInterval } from './simulated-intervals.ts';
import { virtualHealth, virtualIdentity } from './simulated-results.ts';

export interface Simulated {
  readonly resolved: ResolvedScenario;
  readonly plan: RunPlan;
  /** When this process began with it. */
  readonly startedAt: string;
  /** In the order of their numbers. */
  readonly hosts: readonly HostResult[];
  readonly intervals: readonly SimulatedInterval[];
  readonly results: RunResults;
}

export function* simulatedEvents({
  resolved,
  plan,
  startedAt,
  hosts,
  intervals,
  results,
}: Simulated): Generator<RunEvent> {
  const run = { ...virtualIdentity(plan), commandLine: recordedCommandLine(), startedAt };
  yield {
    t: 'begun',
    record: runRecord(plan, { clock: 'virtual', run, health: virtualHealth(plan) }),
    scenario: stringify(withDefaults(resolved, REGISTRY)),
    plan,
    written: null,
    startEpochSeconds: null,
  };
  let startSeconds = 0;
  for (const interval of intervals) {
    const endSeconds = interval.endNs / 1e9;
    const { delta, guests } = interval;
    const gauges = gaugesOf(interval);
    yield { t: 'interval', startSeconds, endSeconds, delta, gauges, guests, violations: {}, othersShare: null };
    startSeconds = endSeconds;
  }
  yield* happenings(plan, hosts, results);
  for (const [host, { guests }] of hosts.entries()) {
    for (const guest of guests) yield guestEvent(plan, host, guest);
  }
  yield { t: 'ended', results };
}

function guestEvent(
  plan: RunPlan,
  host: number,
  { guest, state, restNs, settledNs, endNs, ...rest }: HostResult['guests'][number],
): RunGuest {
  const planned = plan.guests[guest];
  const row = {
    guest,
    class: planned?.class ?? '',
    incarnation: 1,
    worker: `host ${host}`,
    state,
    startSeconds: (planned?.startNs ?? 0) / 1e9,
    restSeconds: seconds(restNs),
    settledSeconds: seconds(settledNs),
    endSeconds: seconds(endNs),
    ...rest,
  };
  return { t: 'guest', row };
}

const seconds = (ns: number | null): number | null => (ns === null ? null : ns / 1e9);

interface Moment {
  readonly atNs: number;
  readonly kind: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What happened, in the order of simulated time. */
function happenings(plan: RunPlan, hosts: readonly HostResult[], results: RunResults): RunHappening[] {
  const { verdict, reasons } = results.verdict;
  const happened = hosts.flatMap(({ marks, violations }): Moment[] => [
    ...marks.map(({ atNs, ...fields }) => ({ atNs, kind: 'mark', fields })),
    ...violations.map(({ atNs, ...fields }) => ({
      atNs,
      kind: 'violation',
      fields: { ...fields, expected: plan.expect.includes(fields.invariant) },
    })),
  ]);
  const stages = (plan.stages ?? []).flatMap(({ name, startNs }): Moment[] =>
    startNs < results.durationNs ? [{ atNs: startNs, kind: 'stage', fields: { stage: name } }] : [],
  );
  const stops = results.thresholds.flatMap(({ metric, expression, stoppedAtSeconds }): Moment[] => {
    if (stoppedAtSeconds === undefined) return [];
    const atNs = stoppedAtSeconds * 1e9;
    return [
      { atNs, kind: 'threshold', fields: { metric, expression } },
      { atNs, kind: 'stop', fields: { by: 'threshold' } },
    ];
  });
  const stopped = hosts.flatMap(({ stoppedAtNs }): Moment[] =>
    stoppedAtNs === null ? [] : [{ atNs: stoppedAtNs, kind: 'stop', fields: { by: 'user' } }],
  );
  const moments = [
    { atNs: 0, kind: 'start', fields: { guests: plan.guests.length, hosts: hosts.length } },
    ...[...happened, ...stages, ...stops, ...stopped].toSorted((a, b) => a.atNs - b.atNs),
    { atNs: results.durationNs, kind: 'end', fields: { verdict, reasons } },
  ];
  return moments.map(({ atNs, ...what }) => ({ t: 'event', atSeconds: atNs / 1e9, ...what }));
}
