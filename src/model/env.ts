/**
 * What a driver gives the model. The model knows no clock, no randomness, no promise and no thread: a kernel path is a
 * synchronous generator, and everything else arrives through the context of the actor that runs it.
 *
 * A path announces each step before its effect: `if (k.at(S.UpWrite, mm)) yield;`. The driver charges the step's cost
 * and answers whether another CPU must be allowed to run first. So the same text runs at full speed on the wall clock
 * and in virtual time (where an actor runs ahead while nobody else is due) and gives explore a choice at every step.
 */
import type { AddressSpace } from './address-space/address-space.ts';
import type { Arena, Ref } from './arena.ts';
import type { ChunkLoop, ChunkTimes } from './chunk-loop.ts';
import type { ExternalRules } from './external-rules.ts';
import type { GupRules } from './gup-rules.ts';
import type { MapArgs, UnmapArgs } from './ioctl-args.ts';
import type { Oracle } from './oracle.ts';
import type { PinCall } from './pin-call.ts';
import type { RwsemRules } from './rwsem-rules.ts';
import type { StepId } from './steps.ts';

/** A kernel path. It yields where another CPU may run, or where the actor must wait; the result is its return value. */
export type Path<T> = Generator<void, T, void>;

/** Which kind of lock a wait was for, for the lock-wait figures. */
export const LockKind = { MmapRead: 0, MmapWrite: 1, Container: 2, KWorker: 3 } as const;
export type LockKind = (typeof LockKind)[keyof typeof LockKind];

/** Places where a fault can be injected. */
export const FAULT_SITES = [
  'work_item',
  'dma_node',
  'group_node',
  'vpfn_node',
  'batch_array',
  'iommu_map',
  'domain',
  'dirty_bitmap',
] as const;
export type FaultSite = (typeof FAULT_SITES)[number];

/** Counters the model keeps through its driver. */
export const MODEL_COUNTERS = [
  'trylock_attempts',
  'trylock_failures',
  'mmap_write_acquisitions',
  'mmap_read_acquisitions',
  'lock_waits',
  'deferred_queued',
  'deferred_applied',
  'deferred_lost',
  'limit_refusals',
  'entry_limit_refusals',
  'ring_full_waits',
  'chunks',
  'pages_pinned',
  'pages_unpinned',
] as const;
export type ModelCounter = (typeof MODEL_COUNTERS)[number];
export const C = Object.freeze(Object.fromEntries(MODEL_COUNTERS.map((n, i) => [n, i]))) as Readonly<
  Record<ModelCounter, number>
>;

/** iommufd instead of type1. */
export interface IommufdRules {
  /**
   * Who pays: `creator` nobody if the creator has CAP_IPC_LOCK, else its user; `mm` likewise, but its mm; `none`
   * nobody.
   */
  readonly account: 'creator' | 'mm' | 'none';
  /** The system calls of type1, as /dev/vfio/vfio offers them. */
  readonly compat: boolean;
}

/** A variant: one accounting policy as a kernel era had it. Data plus the few functions that differ. */
export interface Variant {
  /** Short id, for example `D`. */
  readonly id: string;
  /** Kernel versions that had it, for people. */
  readonly kernels: string;
  /** Versions `linux-X.Y` that resolve to it: first and last, inclusive; null = open. */
  readonly versions: readonly (readonly [first: string, last: string | null])[];
  /** One line: what makes it itself. */
  readonly identity: string;
  readonly rwsem: RwsemRules;
  /** What GUP does to memory in that era. */
  readonly gup: GupRules;

  /** Pages are pinned in batches of up to 512 (5.12). */
  readonly batched: boolean;
  /** An unmap unpins each contiguous run with one call (6.18). */
  readonly bulkUnpin: boolean;
  /** Where pages are not batched: each is got under mmap_sem for read (4.16) instead of without the lock. */
  readonly lockedGup: boolean;
  /** Each chunk is pinned under an mm reference of its own (B). */
  readonly chunkReference: boolean;
  /** A failed trylock defers the update (A-D). */
  readonly deferring: boolean;
  /** locked_vm is an atomic counter, changed without mmap_sem (J). */
  readonly lockFree: boolean;
  /** A pin loop charges blocks of so many pages ahead (J-cache); 0 none. */
  readonly reservePages: number;
  /** What MAP_DMA records of its caller in the mapping. */
  readonly recordsTask: 'none' | 'thread' | 'leader';
  readonly recordsCap: boolean;
  readonly recordsMm: boolean;
  /** What UNMAP_DMA does with a mapping made in another address space. */
  readonly foreignUnmap: 'allowed' | 'stops';
  /** dma_entry_limit exists (5.1-rc4, 4.14.115, 4.19.38, 5.0.11). */
  readonly entryLimit: boolean;
  /** MAP_DMA tests the aperture and reserved windows (5.4). */
  readonly aperture: boolean;
  /** UNMAP_ALL and vaddr update exist (5.12). */
  readonly vaddrUpdate: boolean;
  /** A pin or attach that finds a mapping without a valid vaddr waits for one (5.12) or is refused (6.3). */
  readonly invalidVaddr: 'waits' | 'busy';
  /** How mdev drivers pin pages; null before 4.10, which has no mdev. */
  readonly external: ExternalRules | null;
  /** A failing replay at the attach of a group takes back what it has done (5.9). */
  readonly replayUnwinds: boolean;
  /** Wraps and truncations give EOVERFLOW instead of EINVAL (6.19). */
  readonly overflowErrors: boolean;

  readonly iommufd: IommufdRules | null;
  /** What takes the place of the type1 paths, if anything does. 0 or a negative errno. */
  mapDma?(k: Ctx, container: Ref, args: MapArgs): Path<number>;
  unmapDma?(k: Ctx, container: Ref, args: UnmapArgs): Path<number>;
  addDomain?(k: Ctx, container: Ref): Path<number>;
  removeDomain?(k: Ctx, container: Ref): Path<void>;
  release?(k: Ctx, container: Ref): Path<void>;

  /** vfio_pin_pages_remote: pins and accounts one chunk. Pages pinned, or a negative errno. */
  pinPages(k: Ctx, call: PinCall): Path<number>;
  /** Charges `npage` pages of a pinned chunk. 0 or a negative errno. */
  acctPin(k: Ctx, call: PinCall, npage: number): Path<number>;
  /** After a pin loop, whether it went well or not, still under the container's lock. */
  endPin?(k: Ctx, call: PinCall): Path<void>;
  /** Accounting outside the pin loop (unmap, release, unwinding, mdev): charges the task that the mapping names. */
  acctDma(k: Ctx, dma: Ref, npage: number): Path<number>;
}

/** The context of one actor: its identity and its driver. */
export interface Ctx {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  /** ACTOR ref: what the locks queue. */
  readonly actor: Ref;
  /** TASK ref: the kernel's `current`. Changes only for a kthread that adopts a task. */
  current: Ref;
  /**
   * Announces a step on an object (the ref or word the step touches, 0 for none). True: yield before its effect.
   */
  at(step: StepId, object: Ref): boolean;
  /** Announces `count` identical steps whose effects nobody can observe apart. */
  atMany(step: StepId, object: Ref, count: number): boolean;
  /** How much modelled time is left before the actor must yield, ns; 0 where every step counts. */
  aheadNs(): number;
  /** Whether nobody but this actor can touch the arena within `aheadNs()`, not even in parallel. */
  readonly exclusive: boolean;
  /** Modelled time used so far, ns. */
  usedNs(): number;
  /** Uses time for steps that are not announced one by one. */
  spend(ns: number): void;
  /**
   * Hands a run of alike chunks over to a driver that can repeat them although others come between. True: the path
   * yields, and finds in `loop` how far it came. False, or no such method: it goes on itself.
   */
  startChunks?(loop: ChunkLoop): boolean;
  /**
   * When the actor last did the steps that matter in a chunk, on the clock of `usedNs`; of drivers with `startChunks`.
   */
  chunkTimes?(): ChunkTimes;
  /** How long the last hold of a lock of this kind was, modelled ns. */
  lastHoldNs(kind: LockKind): number;
  /** `times` further holds of a lock, of `ns` each. */
  heldAgain(kind: LockKind, times: number, ns: number): void;
  /** Incremented each time the actor waits for a lock or a CPU, or fails a trylock. */
  readonly disturbances: number;
  /** The most pages one step may cover: 1 where every page is to be its own step (explore), otherwise large. */
  readonly pagesPerStep: number;
  /**
   * mmap_sem of `mm` was not free for this writer. True: it spins; the path yields and tries again when it is resumed.
   * False: it must queue.
   */
  spin(mm: Ref, kind: LockKind): boolean;
  /** The actor queued itself on a lock: the driver must not resume it before `wake`. The path yields right after. */
  block(kind: LockKind): void;
  /** The wait is over (called by the actor itself when it holds the lock or gives up). */
  unblock(kind: LockKind): void;
  /** Makes another actor runnable. May be called from any thread of the wall driver. */
  wake(actor: Ref): void;
  /** The actor holds the lock now, and is about to release it: the ends of the hold time. */
  acquired(kind: LockKind): void;
  releasing(kind: LockKind): void;
  /** Whether the wait of `actor` has lasted longer than the rwsem's hand-off time (4 ms since 5.2). */
  handoffDue(actor: Ref): boolean;
  /**
   * Hands an update of `npage` (signed) to the host's workqueue, with the caller's mm_users reference. False: no room
   * now; the driver resumes the actor when there may be, and the caller asks again.
   */
  defer(mm: Ref, npage: number): boolean;
  /** The IOVA space of this host's IOMMU. */
  readonly aperture: Aperture;
  /** Whether the fault at this site happens now. */
  inject(site: FaultSite): boolean;
  count(counter: number, by: number): void;
}

/** The IOVA space a container may use: inclusive byte ranges. */
export interface Aperture {
  readonly ranges: readonly (readonly [first: bigint, last: bigint])[];
}
