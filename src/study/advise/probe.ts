/** A fleet simulated under a limit: how many requests for locked memory the limit refused. */
import { EXIT, UserError } from '../../base/errors.ts';
import type { StopSignal } from '../../base/stop-signal.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { simulateAll } from '../../emulator/host-pool.ts';
import { guestsOfHost, type HostResult, type HostTask } from '../../emulator/host-result.ts';
import type { RunPlan } from '../../engine/plan.ts';
import { actualSeries, Op, Outcome, OUTCOMES } from '../../metrics/ops.ts';
import type { MODEL_COUNTERS } from '../../model/env.ts';
import { mergedSnapshot } from '../../run/simulated-results.ts';

/** Operations that ask for memory to be locked. */
const REQUESTS = [Op.map, Op.pin, Op.mlock, Op.attach];

/** What simulations under one limit came to, all seeds together. */
export interface Probe {
  /** Null: no limit. */
  readonly limitPages: number | null;
  /** Requests for locked memory that were granted or that the limit refused, and how many it refused. */
  readonly requests: number;
  readonly refused: number;
  /** Requests that something else refused, by outcome (`enospc`): no limit would change that. */
  readonly otherRefusals: Readonly<Record<string, number>>;
  /** Of these, mappings beyond dma_entry_limit. */
  readonly entryLimitRefusals: number;
  /** Most mappings in one container. */
  readonly mappings: number;
  /** Invariants that were violated. */
  readonly violations: readonly string[];
}

export const shareOf = (probe: Probe): number => (probe.requests === 0 ? 0 : probe.refused / probe.requests);

/** A fleet, and the limit to simulate it under; null: none. */
export interface Question {
  readonly plans: readonly RunPlan[];
  readonly limitPages: number | null;
}

/** @throws UserError if a guest ends with an error. */
export async function probeAll(
  questions: readonly Question[],
  threads: number | undefined,
  stop: StopSignal | undefined,
): Promise<Probe[]> {
  const tasks: HostTask[] = [];
  const slices = questions.map(({ plans, limitPages }) =>
    plans.map((plan) => {
      const memlockBytes = limitPages === null ? null : limitPages * PAGE_BYTES;
      const limited = { ...plan, guests: plan.guests.map((g) => ({ ...g, memlockBytes, capIpcLock: false })) };
      const { guests: _guests, ...head } = limited;
      const from = tasks.length;
      for (let i = 0; i < Math.min(plan.host.count, Math.max(1, plan.guests.length)); i += 1) {
        tasks.push({ plan: head, guests: guestsOfHost(limited, i) });
      }
      return { plan, from, to: tasks.length };
    }),
  );
  const hosts = await simulateAll(tasks, { threads, stop });
  return slices.map((runs, i) => {
    const limitPages = questions[i]?.limitPages ?? null;
    const probes = runs.map(({ plan, from, to }) => probeOf(plan, hosts.slice(from, to), limitPages));
    const otherRefusals: Record<string, number> = {};
    for (const [outcome, n] of probes.flatMap((p) => Object.entries(p.otherRefusals))) {
      otherRefusals[outcome] = (otherRefusals[outcome] ?? 0) + n;
    }
    return {
      limitPages,
      otherRefusals,
      entryLimitRefusals: probes.reduce((n, p) => n + p.entryLimitRefusals, 0),
      requests: probes.reduce((n, p) => n + p.requests, 0),
      refused: probes.reduce((n, p) => n + p.refused, 0),
      mappings: Math.max(...probes.map((p) => p.mappings)),
      violations: [...new Set(probes.flatMap((p) => p.violations))],
    };
  });
}

/**
 * The limit refuses with ENOMEM, or mlock with EPERM where it is 0; other reasons for ENOMEM, such as injected faults,
 * are told apart by the model's counter of its refusals. A call that a signal interrupted was neither granted nor
 * refused.
 */
function probeOf(plan: RunPlan, hosts: readonly HostResult[], limitPages: number | null): Omit<Probe, 'limitPages'> {
  const broken = hosts.find(({ error }) => error !== null)?.error;
  if (broken !== undefined) throw new UserError(EXIT.inconclusive, `a guest ended with an error: ${broken}`, null);
  const snapshot = mergedSnapshot(plan, hosts);
  const count = (op: number, outcome: number): number => snapshot.count(actualSeries(op, outcome));
  const counter = (name: (typeof MODEL_COUNTERS)[number]): number =>
    snapshot.counters[snapshot.layout.counterNames.indexOf(name)] ?? 0;
  const all = (outcome: number): number => REQUESTS.reduce((n, op) => n + count(op, outcome), 0);
  const granted = all(Outcome.ok);
  const denied = limitPages === 0 ? count(Op.mlock, Outcome.other_error) : 0;
  const over = Math.min(all(Outcome.enomem), counter('limit_refusals'));
  const others = OUTCOMES.flatMap((name, outcome): [string, number][] => {
    if (outcome === Outcome.ok || outcome === Outcome.interrupted) return [];
    const ofLimit = outcome === Outcome.enomem ? over : outcome === Outcome.other_error ? denied : 0;
    const n = all(outcome) - ofLimit;
    return n === 0 ? [] : [[name, n]];
  });
  return {
    requests: granted + over + denied,
    refused: over + denied,
    otherRefusals: Object.fromEntries(others),
    entryLimitRefusals: counter('entry_limit_refusals'),
    mappings: Math.max(0, ...hosts.map(({ mappingsMax }) => mappingsMax)),
    violations: [...new Set(hosts.flatMap(({ violationCounts }) => Object.keys(violationCounts)))],
  };
}
