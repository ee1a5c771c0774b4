/** From the results of emulated hosts to the results of a run. Everything in it follows from the plan. */
import { VERSION } from '../base/version.ts';
import type { HostResult } from '../emulator/host-result.ts';
import { markLines } from '../engine/mark-tally.ts';
import { type GuestPlan, neverBegins, neverBegunNote, type RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { decodeSnapshot } from '../metrics/read-snapshot.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import { parseThreshold, type Threshold } from '../metrics/threshold.ts';
import { MODEL_COUNTERS } from '../model/env.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { buildResults } from '../report/build.ts';
import { explainOverPenalty } from '../report/explanation.ts';
import { duration } from '../report/format.ts';
import type { Coverage, RunIdentity, RunResults } from '../report/results.ts';
import type { ThresholdJudge } from '../report/threshold-judge.ts';
import { accountPolicy } from './account-policy.ts';

/** Distinct marks a report repeats. */
const NOTES_MAX = 8;

/** Results must not say when or how they were made: run.json does. */
const NO_INSTANT = '1970-01-01T00:00:00.000Z';

/** Who the run is, as far as its results go: the same for every run of the plan. */
export function virtualIdentity(plan: RunPlan): RunIdentity {
  return {
    id: plan.hash.slice(0, 16),
    name: plan.name,
    driver: 'virtual',
    variant: plan.variant,
    seed: plan.seed,
    pace: plan.pace,
    planHash: plan.hash,
    commandLine: [],
    startedAt: NO_INSTANT,
    version: VERSION,
    account: accountPolicy(plan),
  };
}

/** The sum of the hosts' statistics. */
export function mergedSnapshot(plan: RunPlan, hosts: readonly HostResult[]): Snapshot {
  const layout = statsLayout(plan);
  const sum = new Snapshot(layout);
  for (const host of hosts) sum.add(decodeSnapshot(layout, host.snapshot));
  return sum;
}

export const virtualHealth = (plan: RunPlan): RunResults['health'] => ({
  lateness: null,
  saturated: false,
  saturation: null,
  nullOperation: null,
  eventLoopDelayP99Ns: null,
  cores: plan.host.cpus ?? 0,
  threads: 0,
  workers: plan.host.count,
  profile: { name: plan.profile.name, calibrated: plan.profile.calibrated },
});

/** When the last guest's work was done, whole ns. */
export const durationOf = (hosts: readonly HostResult[]): number =>
  Math.round(Math.max(0, ...hosts.map((host) => host.endNs)));

export const thresholdsOf = (plan: RunPlan): Threshold[] =>
  plan.thresholds.map((t) => parseThreshold(t.metric, t.expression, MODEL_COUNTERS));

/** Guests by how they ended; those that never begin are in none of these. */
function guestsByEnd(
  plan: RunPlan,
  hosts: readonly HostResult[],
): Pick<Coverage, 'guestsFinished' | 'guestsStopped' | 'guestsFailed'> {
  const completed = hosts.flatMap(({ guests }) => guests.filter(({ state }) => state === 'completed'));
  const begun = completed.filter(({ guest }) => !neverBegins(plan.guests[guest] as GuestPlan, plan));
  const guestsFailed = hosts.reduce((n, host) => n + host.guestsFailed, 0);
  // A guest that neither completed nor failed was cut off by a stop, or had not begun by then.
  const guestsStopped = plan.guests.length - completed.length - guestsFailed;
  return { guestsFinished: begun.length, guestsStopped, guestsFailed };
}

/** `hosts` in the order of their numbers, all of them; `judge` has followed their intervals. */
export function virtualResults(plan: RunPlan, hosts: readonly HostResult[], judge?: ThresholdJudge): RunResults {
  const sum = (of: (host: HostResult) => number): number => hosts.reduce((n, host) => n + of(host), 0);
  const counts: Record<string, number> = {};
  for (const host of hosts) {
    for (const [name, n] of Object.entries(host.violationCounts)) counts[name] = (counts[name] ?? 0) + n;
  }
  const details = new Map<string, string>();
  for (const { violations } of hosts) {
    for (const { invariant, guest, detail } of violations) {
      if (!details.has(invariant)) details.set(invariant, `first ${invariant}, guest ${guest}: ${detail}`);
    }
  }
  const errors = hosts.flatMap(({ error }) => (error === null ? [] : [error]));
  const penalty = hosts.flatMap(({ violations }) => violations).find(({ invariant }) => invariant === 'over-penalty');
  const { lateness: _lateness, nullOperation: _null, ...health } = virtualHealth(plan);
  return buildResults({
    run: virtualIdentity(plan),
    complete: true,
    stoppedByUser: hosts.some(({ stoppedAtNs }) => stoppedAtNs !== null),
    durationNs: durationOf(hosts),
    coverage: {
      guestsPlanned: plan.guests.length,
      ...guestsByEnd(plan, hosts),
      guestsLost: 0,
      workersLost: 0,
      minShare: 1,
    },
    snapshot: mergedSnapshot(plan, hosts),
    thresholds: thresholdsOf(plan),
    judge,
    accounting: {
      balance: (counts['balance'] ?? 0) > 0 ? 'violated' : sum((host) => host.checked) > 0 ? 'exact' : 'unchecked',
      driftPages: sum((host) => host.driftPages),
      invariants: sum((host) => host.checked) > 0 ? [...INVARIANTS] : [],
      violations: Object.entries(counts).map(([invariant, count]) => ({
        invariant,
        count,
        expected: plan.expect.includes(invariant),
        history: null,
      })),
      notes: [
        ...(plan.notes ?? []),
        ...neverBegunNote(plan),
        ...errors,
        ...stopNotes(hosts),
        ...unjudgedNotes(hosts),
        ...notes(hosts),
        ...details.values(),
      ],
      explanation: penalty === undefined ? null : explainOverPenalty(accountPolicy(plan)),
    },
    deferredBacklogMax: Math.max(0, ...hosts.map((host) => host.deferredBacklogMax)),
    health,
  });
}

/**
 * How far the hosts came that the user stopped, where there are several: their figures are of different spans of time.
 */
function stopNotes(hosts: readonly HostResult[]): string[] {
  const at = hosts.flatMap(({ stoppedAtNs }) => (stoppedAtNs === null ? [] : [stoppedAtNs]));
  if (at.length === 0 || hosts.length === 1) return [];
  const range = `${duration(Math.min(...at))} to ${duration(Math.max(...at))}`;
  return [`stopped at ${range} of simulated time: ${at.length} of ${hosts.length} hosts; the others had ended`];
}

/** Guests whose account nobody could judge, because the host was left in the middle of their operations. */
function unjudgedNotes(hosts: readonly HostResult[]): string[] {
  const left = hosts
    .flatMap(({ guests }) => guests)
    .filter(({ state, endNs }) => state === 'stopped' && endNs === null);
  if (left.length === 0) return [];
  const [who, whose] = left.length === 1 ? ['1 guest was', 'its'] : [`${left.length} guests were`, 'their'];
  return [`${who} left in the middle of an operation when the user stopped the run: ${whose} account was not judged`];
}

function notes(hosts: readonly HostResult[]): string[] {
  const all = markLines(hosts.map(({ markCounts }) => markCounts));
  return all.length <= NOTES_MAX ? all : [...all.slice(0, NOTES_MAX), `and ${all.length - NOTES_MAX} more`];
}
