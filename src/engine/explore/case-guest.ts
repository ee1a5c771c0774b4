/** The guest that the actors of a case run in, and how much room it needs in the arena. */
import type { Capacity } from '../../model/arena.ts';
import type { GuestPlan } from '../plan.ts';
import type { ExploreCase } from './case.ts';

/** Most actors an execution may have, work items included. */
const ACTORS_MAX = 400;

export function capacityOf(plan: ExploreCase): Capacity {
  const ops = plan.setup.length + plan.actors.reduce((n, a) => n + a.ops.length, 0);
  const tasks = plan.actors.length + 2;
  const processes = tasks + ops;
  return {
    mm: processes,
    task: tasks,
    process: tasks,
    files: tasks,
    user: 1,
    container: plan.containers,
    group: 2 * plan.containers + plan.actors.length,
    dma: ops + 1,
    chunk: (ops + 1) * Math.min(plan.memoryPages + 1, 64),
    vpfn: 64,
    seg: 16 + processes * Math.min(2 * plan.memoryPages + 8, 256),
    pages: ops + 4,
    vwork: 1,
    actor: ACTORS_MAX,
  };
}

export function guestPlanOf(plan: ExploreCase): GuestPlan {
  return {
    index: 0,
    class: plan.name,
    seed: 0,
    startNs: 0,
    durationNs: null,
    memory: {
      bytes: plan.memoryPages * 4096,
      backing: 'anon4k',
      contiguityPages: plan.contiguityPages,
      populated: plan.populated,
    },
    memlockBytes: plan.memlockPages === null ? null : plan.memlockPages * 4096,
    capIpcLock: plan.capIpcLock,
    iommu: plan.iommu,
    containers: plan.containers,
    ...(plan.mdev === 'none' ? {} : { mdev: plan.mdev }),
    actors: plan.actors.map(({ name, task }) => ({
      name,
      task,
      workload: 'null',
      options: {},
      arrival: { kind: 'closed', options: {} },
      startNs: 0,
      iterations: 1,
    })),
  };
}
