/**
 * The steps of the model. A step is what another CPU could observe between two others: a lock operation, a read or
 * write of a shared counter, a reference taken or dropped, a work item queued; or plain work that takes time.
 * Each row names the kernel function that does it, for traces, and the primitive of the cost profile it costs.
 */
export interface StepRow {
  /** Kernel function shown in traces. */
  readonly fn: string;
  /** What it does, in a few words. */
  readonly what: string;
  /** Cost primitive of the profile. */
  readonly cost: CostPrimitive;
}

/** The primitives a cost profile gives nanoseconds for. */
export const COST_PRIMITIVES = [
  'none',
  'syscall',
  'user_copy',
  'mutex_lock',
  'mutex_unlock',
  'rwsem_trylock',
  'rwsem_lock',
  'rwsem_unlock',
  'counter_rw',
  'task_lock',
  'get_task_mm',
  'mmput',
  'capable',
  'ns_capable',
  'rlimit',
  'rb_lookup',
  'vpfn_lookup',
  'rb_insert',
  'rb_erase',
  'kmalloc',
  'kfree',
  'queue_work',
  'work_start',
  'gup_fast_page',
  'gup_locked_page',
  'gup_batch',
  'gup_batch_page',
  'gup_batch_page_thp',
  'gup_batch_page_1g',
  'iommufd_page',
  'put_page',
  'put_page_bulk',
  'batch_alloc',
  'zero_4k',
  'zero_2m',
  'zero_1g',
  'fault',
  'iommu_map_4k',
  'iommu_map_2m',
  'iommu_map_1g',
  'iommu_unmap_4k',
  'iommu_unmap_2m',
  'iommu_unmap_1g',
  'iotlb_sync',
  'vma_op',
  'mlock_page',
  'fork_page',
  'copy_4k',
  'pte_walk',
  'collapse_2m',
  'exec',
  'exit',
  'notify',
  'domain_alloc',
] as const;
export type CostPrimitive = (typeof COST_PRIMITIVES)[number];

const ROWS = {
  Syscall: { fn: 'ioctl', what: 'enter the kernel', cost: 'syscall' },
  CopyFromUser: { fn: 'copy_from_user', what: 'copy the argument', cost: 'user_copy' },
  MutexLock: { fn: 'mutex_lock', what: 'lock the container', cost: 'mutex_lock' },
  MutexUnlock: { fn: 'mutex_unlock', what: 'unlock the container', cost: 'mutex_unlock' },
  DownWrite: { fn: 'down_write', what: 'mmap_sem for write', cost: 'rwsem_lock' },
  DownWriteKillable: { fn: 'down_write_killable', what: 'mmap_sem for write', cost: 'rwsem_lock' },
  DownWriteTrylock: { fn: 'down_write_trylock', what: 'mmap_sem for write, without waiting', cost: 'rwsem_trylock' },
  UpWrite: { fn: 'up_write', what: 'release mmap_sem', cost: 'rwsem_unlock' },
  DowngradeWrite: { fn: 'downgrade_write', what: 'mmap_sem from write to read', cost: 'rwsem_unlock' },
  DownRead: { fn: 'down_read', what: 'mmap_sem for read', cost: 'rwsem_lock' },
  DownReadTrylock: { fn: 'down_read_trylock', what: 'mmap_sem for read, without waiting', cost: 'rwsem_trylock' },
  UpRead: { fn: 'up_read', what: 'release mmap_sem', cost: 'rwsem_unlock' },
  LockedVmRead: { fn: 'mm->locked_vm', what: 'read locked_vm without the lock', cost: 'counter_rw' },
  LockedVmWrite: { fn: 'mm->locked_vm', what: 'update locked_vm', cost: 'counter_rw' },
  LockedVmAtomic: { fn: 'atomic64_add_return', what: 'locked_vm, atomically', cost: 'counter_rw' },
  LockedVmCmpxchg: { fn: 'atomic64_cmpxchg', what: 'locked_vm, compare and exchange', cost: 'counter_rw' },
  PinnedVmAtomic: { fn: 'atomic64_add', what: 'pinned_vm', cost: 'counter_rw' },
  GetTaskMm: { fn: 'get_task_mm', what: 'take an mm reference through the task', cost: 'get_task_mm' },
  MmgetNotZero: { fn: 'mmget_not_zero', what: 'take an mm reference if it still has users', cost: 'get_task_mm' },
  Mmput: { fn: 'mmput', what: 'drop an mm reference', cost: 'mmput' },
  Capable: { fn: 'capable', what: 'CAP_IPC_LOCK of current', cost: 'capable' },
  NsCapable: { fn: 'ns_capable', what: "CAP_IPC_LOCK of current in the task's namespace", cost: 'ns_capable' },
  HasCapability: { fn: 'has_capability', what: 'CAP_IPC_LOCK of the task', cost: 'capable' },
  Rlimit: { fn: 'rlimit', what: 'RLIMIT_MEMLOCK', cost: 'rlimit' },
  FindDma: { fn: 'vfio_find_dma', what: 'look the mapping up', cost: 'rb_lookup' },
  FindVpfn: { fn: 'vfio_find_vpfn', what: 'look an externally pinned page up', cost: 'vpfn_lookup' },
  LinkDma: { fn: 'vfio_link_dma', what: 'insert the mapping', cost: 'rb_insert' },
  UnlinkDma: { fn: 'vfio_unlink_dma', what: 'remove the mapping', cost: 'rb_erase' },
  LinkVpfn: { fn: 'vfio_link_pfn', what: 'insert an externally pinned page', cost: 'rb_insert' },
  UnlinkVpfn: { fn: 'vfio_unlink_pfn', what: 'remove an externally pinned page', cost: 'rb_erase' },
  Kmalloc: { fn: 'kmalloc', what: 'allocate', cost: 'kmalloc' },
  Kfree: { fn: 'kfree', what: 'free', cost: 'kfree' },
  QueueWork: { fn: 'schedule_work', what: 'queue the deferred update', cost: 'queue_work' },
  WorkStart: { fn: 'vfio_lock_acct_bg', what: 'the work item runs', cost: 'work_start' },
  GupFast: { fn: 'get_user_pages_fast', what: 'pin pages without the lock', cost: 'gup_fast_page' },
  GupLockedPage: { fn: 'get_user_pages_remote', what: 'pin a page under mmap_sem', cost: 'gup_locked_page' },
  GupBatch: { fn: 'pin_user_pages_remote', what: 'pin a batch: entry', cost: 'gup_batch' },
  GupBatchPage: { fn: 'pin_user_pages_remote', what: 'pin a page of the batch', cost: 'gup_batch_page' },
  FollowPfn: { fn: 'follow_pfn', what: 'look for a pfnmap', cost: 'gup_locked_page' },
  PutPage: { fn: 'put_pfn', what: 'unpin pages', cost: 'put_page' },
  BatchAlloc: { fn: 'vfio_batch_init', what: 'allocate the page array', cost: 'batch_alloc' },
  ZeroPage4K: { fn: 'clear_page', what: 'clear a 4 KiB page', cost: 'zero_4k' },
  ZeroPage2M: { fn: 'clear_huge_page', what: 'clear a 2 MiB page', cost: 'zero_2m' },
  ZeroPage1G: { fn: 'clear_huge_page', what: 'clear a 1 GiB page', cost: 'zero_1g' },
  Fault: { fn: 'handle_mm_fault', what: 'fault a page in', cost: 'fault' },
  IommuMap4K: { fn: 'vfio_iommu_map', what: 'map 4 KiB entries', cost: 'iommu_map_4k' },
  IommuMap2M: { fn: 'vfio_iommu_map', what: 'map 2 MiB entries', cost: 'iommu_map_2m' },
  IommuMap1G: { fn: 'vfio_iommu_map', what: 'map 1 GiB entries', cost: 'iommu_map_1g' },
  IommuUnmap4K: { fn: 'iommu_unmap', what: 'unmap 4 KiB entries', cost: 'iommu_unmap_4k' },
  IommuUnmap2M: { fn: 'iommu_unmap', what: 'unmap 2 MiB entries', cost: 'iommu_unmap_2m' },
  IommuUnmap1G: { fn: 'iommu_unmap', what: 'unmap 1 GiB entries', cost: 'iommu_unmap_1g' },
  IotlbSync: { fn: 'iommu_tlb_sync', what: 'flush the IOTLB', cost: 'iotlb_sync' },
  VmaOp: { fn: 'mmap_region', what: 'change the address space', cost: 'vma_op' },
  MlockPages: { fn: 'mlock_fixup', what: 'lock a range', cost: 'mlock_page' },
  ForkCopy: { fn: 'dup_mmap', what: 'copy the page tables', cost: 'fork_page' },
  Exec: { fn: 'exec_mmap', what: 'replace the address space', cost: 'exec' },
  ExitMm: { fn: 'exit_mm', what: 'drop the address space', cost: 'exit' },
  ExitFiles: { fn: 'exit_files', what: 'close the descriptors', cost: 'exit' },
  Release: { fn: 'vfio_iommu_type1_release', what: 'last close of the container', cost: 'kfree' },
  Notify: { fn: 'blocking_notifier_call_chain', what: 'ask mdev drivers to unpin', cost: 'notify' },
  AttachGroup: { fn: 'vfio_iommu_type1_attach_group', what: 'attach a group', cost: 'domain_alloc' },
  DetachGroup: { fn: 'vfio_iommu_type1_detach_group', what: 'detach a group', cost: 'domain_alloc' },
  Signal: { fn: 'complete_signal', what: 'a fatal signal', cost: 'none' },
  SetRlimit: { fn: 'do_prlimit', what: 'set RLIMIT_MEMLOCK', cost: 'rlimit' },
  UserWork: { fn: 'user space', what: 'run outside the kernel', cost: 'none' },
  PutPagesBulk: { fn: 'unpin_user_page_range_dirty_lock', what: 'unpin the rest of a run', cost: 'put_page_bulk' },
  GupBatchPageThp: { fn: 'pin_user_pages_remote', what: 'pin a page of a huge page', cost: 'gup_batch_page_thp' },
  GupBatchPage1G: { fn: 'pin_user_pages_remote', what: 'pin a page of a 1 GiB page', cost: 'gup_batch_page_1g' },
  IommufdPage: { fn: 'batch_from_pages', what: 'gather pinned pages into runs', cost: 'iommufd_page' },
  WalkPte: { fn: 'walk_page_range', what: 'look at page table entries', cost: 'pte_walk' },
  CopyPresentPage: { fn: 'copy_present_page', what: 'copy a page that may be pinned', cost: 'copy_4k' },
  Collapse: { fn: 'collapse_huge_page', what: 'copy 512 pages into a huge one', cost: 'collapse_2m' },
} as const satisfies Record<string, StepRow>;

/** What iommufd calls where type1 calls something else. */
const IOMMUFD_FN: Partial<Record<keyof typeof ROWS, string>> = {
  LockedVmRead: 'user->locked_vm',
  LockedVmAtomic: 'atomic_long_sub_return',
  LockedVmCmpxchg: 'atomic_long_cmpxchg',
  FindDma: 'iopt_area_iter_first',
  LinkDma: 'interval_tree_insert',
  UnlinkDma: 'interval_tree_remove',
  GupFast: 'pin_user_pages_fast',
  PutPage: 'unpin_user_page_range_dirty_lock',
  IommuMap4K: 'iommu_map',
  IommuMap2M: 'iommu_map',
  IommuMap1G: 'iommu_map',
  Release: 'iommufd_fops_release',
  AttachGroup: 'iopt_table_add_domain',
  DetachGroup: 'iopt_table_remove_domain',
};

export type StepName = keyof typeof ROWS;
export const STEP_NAMES = Object.keys(ROWS) as StepName[];
export const STEP_ROWS: readonly StepRow[] = STEP_NAMES.map((n) => ROWS[n]);

/** Step ids: dense integers, so that a driver can index its cost table with them. */
export type StepId = number;
export const S = Object.freeze(Object.fromEntries(STEP_NAMES.map((name, id) => [name, id]))) as Readonly<
  Record<StepName, StepId>
>;

/** A 1 for each of `steps`, by step id. */
export function stepSet(steps: readonly StepId[]): Uint8Array {
  const set = new Uint8Array(STEP_NAMES.length);
  for (const step of steps) set[step] = 1;
  return set;
}

/** What is done with mmap_sem. */
export const RWSEM_STEPS: readonly StepId[] = [
  S.DownRead,
  S.DownReadTrylock,
  S.UpRead,
  S.DownWrite,
  S.DownWriteKillable,
  S.DownWriteTrylock,
  S.UpWrite,
  S.DowngradeWrite,
];

/** The kernel function of a step on `object`, for traces. */
export function functionOf(step: StepId, object: number, iommufd: boolean): string | undefined {
  const name = STEP_NAMES[step];
  if (name === undefined) return undefined;
  // Without mmap_sem there is no object: the pages are the caller's own.
  if (iommufd && name.startsWith('GupBatch') && object === 0) return 'pin_user_pages_fast';
  return (iommufd ? IOMMUFD_FN[name] : undefined) ?? ROWS[name].fn;
}
