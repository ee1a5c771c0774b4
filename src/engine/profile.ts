/**
 * Cost profiles: nanoseconds per primitive. The built-in one is uncalibrated: round figures of a 2016 two-socket
 * server, taken from the orders of magnitude of the kernel literature, so that shapes are right and absolute times are
 * not promised. Reports say so.
 */
import { COST_PRIMITIVES, STEP_ROWS, type CostPrimitive } from '../model/steps.ts';

/** Costs of the machine rather than of a step of the model; only the virtual driver has them. */
export const MACHINE_PRIMITIVES = {
  /** From being woken to running again: scheduler, inter-processor interrupt, idle exit. */
  wake_up: 5_000,
  /** From the release of mmap_sem until a spinning waiter on another CPU has seen it. */
  spin_handover: 100,
  /** How long a thread keeps a CPU that others want. */
  time_slice: 3_000_000,
  /** The cache line of mmap_sem comes from another CPU that used it last; one transfer of it at a time. */
  line_transfer: 0,
  /** Memory of all CPUs together: time of 4 KiB being cleared during which no other CPU's clearing gets on. */
  memory_4k: 0,
} as const;
export type MachinePrimitive = keyof typeof MACHINE_PRIMITIVES;

export interface CostProfile {
  readonly name: string;
  readonly calibrated: boolean;
  /** Nanoseconds per primitive. */
  readonly costNs: Readonly<Record<CostPrimitive | MachinePrimitive, number>>;
}

export const DEFAULT_PROFILE: CostProfile = {
  name: 'default',
  calibrated: false,
  costNs: {
    ...MACHINE_PRIMITIVES,
    none: 0,
    syscall: 200,
    user_copy: 30,
    mutex_lock: 20,
    mutex_unlock: 15,
    rwsem_trylock: 15,
    rwsem_lock: 20,
    rwsem_unlock: 15,
    counter_rw: 2,
    task_lock: 15,
    get_task_mm: 35,
    mmput: 20,
    capable: 10,
    ns_capable: 30,
    rlimit: 2,
    rb_lookup: 10,
    vpfn_lookup: 5,
    rb_insert: 60,
    rb_erase: 60,
    kmalloc: 80,
    kfree: 60,
    queue_work: 150,
    work_start: 2000,
    gup_fast_page: 40,
    gup_locked_page: 60,
    gup_batch: 60,
    gup_batch_page: 10,
    gup_batch_page_thp: 10,
    gup_batch_page_1g: 10,
    iommufd_page: 1,
    put_page: 15,
    put_page_bulk: 4,
    batch_alloc: 300,
    zero_4k: 250,
    zero_2m: 80_000,
    zero_1g: 40_000_000,
    fault: 700,
    iommu_map_4k: 150,
    iommu_map_2m: 120,
    iommu_map_1g: 120,
    iommu_unmap_4k: 100,
    iommu_unmap_2m: 80,
    iommu_unmap_1g: 80,
    iotlb_sync: 1000,
    vma_op: 2000,
    mlock_page: 1_000,
    fork_page: 30,
    // As in collapse_2m, which copies 512 pages.
    copy_4k: 390,
    pte_walk: 5,
    collapse_2m: 200_000,
    exec: 100_000,
    exit: 10_000,
    notify: 1000,
    domain_alloc: 20_000,
  },
};

/** Cost per step id, from cost per primitive. @throws RangeError for a primitive that is missing or negative. */
export function stepCosts(costNs: { readonly [primitive: string]: number }): Float64Array {
  for (const name of COST_PRIMITIVES) {
    const ns = costNs[name];
    if (ns === undefined || !(ns >= 0))
      throw new RangeError(`cost profile: '${name}' needs a number of nanoseconds >= 0`);
  }
  return Float64Array.from(STEP_ROWS, (row) => costNs[row.cost] as number);
}

/** A cost of the machine, ns. @throws RangeError for one that is missing or negative. */
export function machineCost(costNs: { readonly [primitive: string]: number }, name: MachinePrimitive): number {
  const ns = costNs[name];
  if (ns === undefined || !(ns >= 0))
    throw new RangeError(`cost profile: '${name}' needs a number of nanoseconds >= 0`);
  return ns;
}
