/** Small plans for the tests of workloads, and what comes out of them in virtual time. */
import { guestsOfHost, type HostResult } from '../../../src/emulator/host-result.ts';
import { simulateHost } from '../../../src/emulator/host-run.ts';
import type { ActorPlan, GuestPlan, RunPlan } from '../../../src/engine/plan.ts';
import { DEFAULT_PROFILE } from '../../../src/engine/profile.ts';
import { statsLayout } from '../../../src/engine/stats-layout.ts';
import { type Workload, WORKLOADS } from '../../../src/guest/workload/index.ts';
import { optionsOf } from '../../../src/guest/workload/options.ts';
import { actualSeries, Op, Outcome } from '../../../src/metrics/ops.ts';
import { decodeSnapshot } from '../../../src/metrics/read-snapshot.ts';
import type { Snapshot } from '../../../src/metrics/snapshot.ts';

const validOptions = ({ workload = 'null', options = {} }: Partial<ActorPlan>): ActorPlan['options'] =>
  optionsOf(WORKLOADS.get(workload) as Workload).parse(options) as ActorPlan['options'];

export function planOf(variant: string, guest: Partial<GuestPlan>, actors: readonly Partial<ActorPlan>[]): RunPlan {
  return {
    format: 1,
    name: 'test',
    seed: 1,
    variant,
    pace: 1,
    durationNs: null,
    profile: DEFAULT_PROFILE,
    faults: {},
    deferred: { batch: 100, flushMs: 1 },
    host: { count: 1, cpus: 2 },
    expect: [],
    thresholds: [],
    hash: '0123456789abcdef0123',
    guests: [
      {
        index: 0,
        class: 'test',
        seed: 17,
        startNs: 0,
        durationNs: null,
        memory: { bytes: 2 ** 20, backing: 'anon4k', contiguityPages: 1, populated: true },
        memlockBytes: null,
        capIpcLock: false,
        iommu: 'type1v2',
        containers: 1,
        actors: actors.map((actor, i) => ({
          name: `actor-${i}`,
          task: i === 0 ? 'main' : 'thread',
          workload: 'null',
          arrival: { kind: 'closed', options: {} },
          startNs: 0,
          iterations: 40,
          ...actor,
          options: validOptions(actor),
        })),
        ...guest,
      },
    ],
  };
}

export function simulate(plan: RunPlan): {
  result: HostResult;
  snapshot: Snapshot;
  ok: (op: keyof typeof Op) => number;
} {
  const result = simulateHost({ plan, guests: guestsOfHost(plan, 0), stepByStep: false });
  const snapshot = decodeSnapshot(statsLayout(plan), result.snapshot);
  return { result, snapshot, ok: (op) => snapshot.count(actualSeries(Op[op], Outcome.ok)) };
}
