/**
 * The frozen description of one synthetic VM: everything a driver needs to build it in an arena and run it. Made by
 * the scenario planner, carried to workers as JSON, the same for all three drivers.
 */

/** JSON data: options of a workload as the scenario gives them, already validated against the workload's schema. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export const BACKINGS = ['anon4k', 'thp', 'hugetlb2m', 'hugetlb1g', 'memfd'] as const;
export type BackingName = (typeof BACKINGS)[number];

export interface MemoryPlan {
  /** Size of the buffer that backs the guest's memory, in bytes; a multiple of 4096. */
  readonly bytes: number;
  readonly backing: BackingName;
  /** Physically contiguous pages at a time, a power of two. anon4k: 1 = scattered. thp and hugetlb2m: at least 512. */
  readonly contiguityPages: number;
  /** Whether the memory is populated before the actors start. */
  readonly populated: boolean;
}

export interface ArrivalPlan {
  /**
   * With the options of each kind: closed: the next operation starts `thinkNs` after the last ended. constant, poisson:
   * `perSecond`, whatever happens. ramp: linear from `fromPerSecond` to `toPerSecond` over `overNs`, then steady.
   * burst: `operations` at once, every `everyNs`.
   */
  readonly kind: 'closed' | 'constant' | 'poisson' | 'ramp' | 'burst';
  readonly options: { readonly [key: string]: number };
}

export interface ActorPlan {
  /** Unique within the guest, for example `mapper` or `vcpu-3`. */
  readonly name: string;
  /**
   * What the actor is: `main` the process's first thread, `thread` another thread of it, `vm_child` a CLONE_VM child
   * (another process in the same address space), `child` a forked child with its own address space, `kthread` a kernel
   * thread.
   */
  readonly task: 'main' | 'thread' | 'vm_child' | 'child' | 'kthread';
  readonly workload: string;
  readonly options: { readonly [key: string]: Json };
  readonly arrival: ArrivalPlan;
  /** When the actor starts, ns after the guest's start. */
  readonly startNs: number;
  /** Iterations at most; null = until the workload ends by itself or the guest's duration is over. */
  readonly iterations: number | null;
}

export interface GuestPlan {
  /** Dense index in the run, 0-based: the same on any number of workers. */
  readonly index: number;
  /** Name of the guest class in the scenario. */
  readonly class: string;
  /** Seed of this guest, unsigned 32 bit, a hash of (run seed, index): substreams are hash(seed, purpose). */
  readonly seed: number;
  /** When the guest starts, ns after the run's start. */
  readonly startNs: number;
  /** The guest is stopped this long after its start; null = when its actors end. */
  readonly durationNs: number | null;
  readonly memory: MemoryPlan;
  /** RLIMIT_MEMLOCK (soft) in bytes, or null for unlimited. */
  readonly memlockBytes: number | null;
  readonly capIpcLock: boolean;
  /** Guests with the same uid share iommufd's quota of locked memory; undefined = a user of its own. */
  readonly uid?: number;
  readonly iommu: 'type1' | 'type1v2';
  /** Containers of the guest, each with one group. */
  readonly containers: number;
  /** An mdev group in each container: the only group, or beside the one behind an IOMMU. Left out: none. */
  readonly mdev?: 'only' | 'beside';
  readonly actors: readonly ActorPlan[];
}

export interface ThresholdPlan {
  /** With its tag filter, as written: `op_duration{op:map}`. */
  readonly metric: string;
  readonly expression: string;
  /** Stop the run when it is crossed, but not before `delayAbortEvalNs` of it have passed. */
  readonly abortOnFail: boolean;
  readonly delayAbortEvalNs: number;
}

/** A part of the run that thresholds can name. Stages follow each other without a gap. */
export interface StagePlan {
  readonly name: string;
  /** ns after the run's start. */
  readonly startNs: number;
  /** Null: until the run ends. */
  readonly endNs: number | null;
}

/** The frozen plan of a run. */
export interface RunPlan {
  readonly format: 1;
  readonly name: string;
  readonly seed: number;
  /** Canonical variant id, for example `E`. */
  readonly variant: string;
  /** Model nanoseconds per real nanosecond: 1 real time, 2 twice as fast, 0 as fast as it goes. */
  readonly pace: number;
  readonly durationNs: number | null;
  /** Cost profile: nanoseconds per primitive, resolved. */
  readonly profile: {
    readonly name: string;
    readonly calibrated: boolean;
    readonly costNs: { readonly [primitive: string]: number };
  };
  /** Probability per fault site, drawn from the guest's own substream. */
  readonly faults: { readonly [site: string]: number };
  readonly deferred: { readonly batch: number; readonly flushMs: number };
  /**
   * Emulated hosts of the virtual driver; guest i sits on host i modulo `count`. `cpus`: null = one for every thread.
   */
  readonly host: { readonly count: number; readonly cpus: number | null };
  /** Invariants the scenario expects to be violated (they do not cause exit 112). */
  readonly expect: readonly string[];
  readonly thresholds: readonly ThresholdPlan[];
  /** Left out: none. */
  readonly stages?: readonly StagePlan[];
  /** What users should know about the run before it starts. Left out: nothing. */
  readonly notes?: readonly string[];
  readonly guests: readonly GuestPlan[];
  /** SHA-256 of the canonical JSON of everything above, hex. */
  readonly hash: string;
}

/** Whether a guest is due only after the run's duration: it ends without having done anything. */
export const neverBegins = ({ startNs }: GuestPlan, { durationNs }: Pick<RunPlan, 'durationNs'>): boolean =>
  durationNs !== null && startNs >= durationNs;

/** A line for those, where there are any. */
export function neverBegunNote(plan: Pick<RunPlan, 'guests' | 'durationNs'>): string[] {
  const n = plan.guests.filter((guest) => neverBegins(guest, plan)).length;
  return n === 0 ? [] : [`${n} of ${plan.guests.length} guests were due after the run's duration and never began`];
}
