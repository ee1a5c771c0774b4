/**
 * What each step reads and writes, for partial-order reduction: two steps of different actors commute unless they touch
 * the same thing and one of them writes. A step is everything from its announcement to the next one, so a row covers
 * the code behind the announced effect too. Unsure means write. test/engine/explore/independence.test.ts holds the
 * table against the model: steps it calls independent are run in both orders.
 *
 * Address spaces, the oracle's ledger and injected faults are not in the table: the explore driver watches them at
 * work.
 */
import { STEP_NAMES, type StepName } from './steps.ts';

/** r: reads it, w: writes it. */
type Mode = 'r' | 'w';

export interface AccessRow {
  /** What the announced object is. */
  readonly of: 'none' | 'mm' | 'container' | 'dma' | 'task';
  /** mmap_sem of the mm: the word and its queue. */
  readonly lock?: Mode;
  /** locked_vm and pinned_vm of the mm. */
  readonly count?: Mode;
  /** mm_users of the mm (of the task's mm where the object is a task). */
  readonly users?: Mode;
  /** The container: its mutex and everything under it. */
  readonly container?: Mode;
  /** Tasks, processes, descriptors: limits, capabilities, task->mm, signals. */
  readonly tasks?: Mode;
  /** Commutes with nothing. */
  readonly all?: true;
}

/** Nothing, up to and with the code that leads to the next step. */
const LOCAL: AccessRow = { of: 'none' };
const ALL: AccessRow = { of: 'none', all: true };
const LOCK: AccessRow = { of: 'mm', lock: 'w', tasks: 'r' };
/** The test against the limit follows the lock without a step of its own. */
const WRITE_LOCK: AccessRow = { of: 'mm', lock: 'w', count: 'r', tasks: 'r' };
/** What runs up to the next step looks at task->mm, a limit or a capability. */
const TASKS: AccessRow = { of: 'none', tasks: 'r' };
const COUNTER: AccessRow = { of: 'mm', count: 'w', tasks: 'r' };
const TREE: AccessRow = { of: 'container', container: 'w', tasks: 'r' };
const PAGES: AccessRow = { of: 'dma', container: 'w', tasks: 'r' };

const ROWS: Partial<Record<StepName, AccessRow>> = {
  Syscall: TASKS,
  CopyFromUser: LOCAL,
  MutexLock: TREE,
  MutexUnlock: TREE,
  DownWrite: WRITE_LOCK,
  DownWriteKillable: WRITE_LOCK,
  DownWriteTrylock: WRITE_LOCK,
  UpWrite: LOCK,
  DowngradeWrite: LOCK,
  DownRead: LOCK,
  DownReadTrylock: LOCK,
  UpRead: LOCK,
  LockedVmRead: { of: 'mm', count: 'r', tasks: 'r' },
  LockedVmWrite: COUNTER,
  LockedVmAtomic: COUNTER,
  LockedVmCmpxchg: COUNTER,
  PinnedVmAtomic: COUNTER,
  GetTaskMm: { of: 'task', users: 'w', tasks: 'r' },
  MmgetNotZero: { of: 'mm', users: 'w' },
  Mmput: { of: 'mm', users: 'w', tasks: 'r' },
  Capable: TASKS,
  NsCapable: TASKS,
  HasCapability: TASKS,
  Rlimit: TASKS,
  FindDma: TREE,
  LinkDma: TREE,
  UnlinkDma: TREE,
  FindVpfn: PAGES,
  LinkVpfn: PAGES,
  UnlinkVpfn: PAGES,
  // recordIdentity takes a task reference; it is read only where a task ends, which commutes with nothing.
  Kmalloc: TASKS,
  Kfree: TASKS,
  QueueWork: LOCAL,
  WorkStart: LOCAL,
  GupFast: TASKS,
  GupLockedPage: TASKS,
  GupBatch: TASKS,
  GupBatchPage: LOCAL,
  GupBatchPageThp: LOCAL,
  GupBatchPage1G: LOCAL,
  IommufdPage: LOCAL,
  FollowPfn: TASKS,
  PutPage: TASKS,
  BatchAlloc: TASKS,
  ZeroPage4K: LOCAL,
  ZeroPage2M: LOCAL,
  ZeroPage1G: LOCAL,
  Fault: LOCAL,
  IommuMap4K: TASKS,
  IommuMap2M: TASKS,
  IommuMap1G: TASKS,
  IommuUnmap4K: LOCAL,
  IommuUnmap2M: LOCAL,
  IommuUnmap1G: LOCAL,
  IotlbSync: LOCAL,
  VmaOp: TASKS,
  MlockPages: TASKS,
  UserWork: TASKS,
};

/** By step id. A step without a row commutes with nothing: exec, exit, release, attach, notification, and new ones. */
export const STEP_ACCESS: readonly AccessRow[] = STEP_NAMES.map((name) => ROWS[name] ?? ALL);
