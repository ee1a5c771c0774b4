/**
 * The one layout table of the model's memory.
 *
 * All model state lies in one arena: an ArrayBuffer in the virtual and explore drivers, a SharedArrayBuffer on the
 * wall clock. A structure is a run of words in it; a *ref* is the index of its first 32-bit word, 0 being NULL.
 * Field kinds: `i32` one word; `f64` and `u64` two words, 8-byte aligned. `f64` holds page numbers and page counts
 * (exact up to 2^53, and 2^64 / 4096 = 2^52); `u64` holds what the kernel keeps in an unsigned long and lets wrap.
 *
 * Every row says who writes the word and under which rule, because that rule is what the model is about:
 *   atomic       any CPU, by Atomics
 *   sem:<field>  under the semaphore or mutex of that structure
 *   latch        under the structure's internal spinlock (never held across a step)
 *   owner        only the actor or task itself
 *   setup        written before the structure is published, then constant
 *   oracle       the exact ledger; written by the oracle, never read by a kernel path
 */
export type FieldKind = 'i32' | 'f64' | 'u64';
export type FieldRow = readonly [name: string, kind: FieldKind, unit: string, writer: string];

/**
 * A field, as the accessors of the arena take it: its word offset, and its kind in the bits above. That of an `i32`
 * field is 0, so `ref + FIELD` is the index of its word; for the others ask `word64`.
 */
export type Field = number;
/** A field of kind `u64`: read and written as a bigint. */
export type U64Field = { readonly u64: true };

/** Above every word offset. Read by the accessors of the arena. */
export const F64_FIELD = 1 << 12;
const U64_FIELD = 1 << 13;
const KIND = { i32: 0, f64: F64_FIELD, u64: U64_FIELD } as const;
const OFFSET_MASK = F64_FIELD - 1;

/** The index of an `f64` or `u64` field of a structure in its 64-bit view of the arena. */
export function word64(ref: number, field: Field | U64Field): number {
  return (ref + ((field as number) & OFFSET_MASK)) >> 1;
}

type Names<T extends readonly FieldRow[]> = {
  readonly [R in T[number] as R[0]]: R[1] extends 'u64' ? U64Field : Field;
};
export type Struct<T extends readonly FieldRow[]> = Names<T> & {
  /** Size of one structure in 32-bit words, a multiple of 2. */
  readonly WORDS: number;
};

const tables = new Map<string, { rows: readonly FieldRow[]; offsets: Record<string, number> }>();

function struct<const T extends readonly FieldRow[]>(name: string, rows: T): Struct<T> {
  const offsets: Record<string, number> = {};
  let at = 0;
  // 8-byte fields first, so that no padding is needed between them.
  for (const [field, kind] of rows) {
    if (kind === 'i32') continue;
    offsets[field] = at + KIND[kind];
    at += 2;
  }
  for (const [field, kind] of rows) {
    if (kind !== 'i32') continue;
    offsets[field] = at;
    at += 1;
  }
  if (Object.keys(offsets).length !== rows.length) throw new Error(`layout: duplicate field in ${name}`);
  offsets['WORDS'] = (at + 1) & ~1;
  tables.set(name, { rows, offsets });
  return Object.freeze(offsets) as unknown as Struct<T>;
}

/** mm_struct: an address space. mmap_sem, locked_vm and the user count belong to it. */
export const MM = struct('mm', [
  ['lockedVm', 'u64', 'pages', 'sem:mmap_sem write (A-H); atomic (J)'],
  ['pinnedVm', 'u64', 'pages', 'atomic (iommufd)'],
  ['mlockedPages', 'u64', 'pages', 'oracle: part of locked_vm that mlock charged'],
  ['semState', 'i32', 'rwsem word', 'atomic'],
  ['semLatch', 'i32', 'latch', 'atomic'],
  ['semHead', 'i32', 'actor ref', 'latch'],
  ['semTail', 'i32', 'actor ref', 'latch'],
  ['semOwner', 'i32', 'actor ref', 'write holder'],
  ['ptLatch', 'i32', 'latch of the page-table part', 'atomic'],
  ['segRoot', 'i32', 'seg ref (ordered index by page)', 'latch ptLatch'],
  ['mmUsers', 'i32', 'count', 'atomic'],
  ['mmCount', 'i32', 'count', 'atomic'],
  ['user', 'i32', 'user ref', 'setup'],
  ['guest', 'i32', 'guest index', 'setup'],
  ['ledgerCommitted', 'f64', 'pages of finished operations', 'oracle'],
  ['ledgerInFlight', 'f64', 'pages asked for by unfinished operations', 'oracle'],
  ['deferredQueued', 'f64', 'updates handed to work items', 'oracle'],
  ['deferredQueuedPages', 'f64', 'signed pages of them', 'oracle'],
  ['deferredApplied', 'f64', 'updates applied by work items', 'oracle'],
  ['deferredAppliedPages', 'f64', 'signed pages of them', 'oracle'],
  ['ledgerExempt', 'f64', 'pages ever asked for since limits are mixed', 'oracle'],
  ['ledgerLimit', 'u64', 'pages + 1: the limit of the last operation; 0 none yet', 'oracle'],
  ['ledgerMixed', 'i32', 'bool: operations came with different limits', 'oracle'],
  ['ledgerPinnedVm', 'f64', 'pages iommufd has pinned here and accounts for', 'oracle'],
  ['ledgerIommufd', 'f64', 'those of them that belong in locked_vm (MM mode)', 'oracle'],
  ['pinLatch', 'i32', 'latch of the lists of holders', 'atomic'],
  ['pinnedDmas', 'i32', 'dma ref: the first that holds pages', 'latch pinLatch'],
  ['pinnedVpfns', 'i32', 'vpfn ref', 'latch pinLatch'],
  ['pinnedObjects', 'i32', 'pages ref', 'latch pinLatch'],
  ['liveTasks', 'i32', 'tasks whose mm this is', 'oracle'],
  ['stop', 'i32', 'bool: the actors are asked to end', 'any CPU'],
  ['operationUsers', 'i32', 'of mm_users: those held by operations that run', 'oracle'],
  ['oracleLatch', 'i32', 'latch', 'atomic'],
]);

/** task_struct: one thread of execution. */
export const TASK = struct('task', [
  ['mm', 'i32', 'mm ref, 0 after exit_mm', 'owner'],
  ['usage', 'i32', 'count', 'atomic'],
  ['process', 'i32', 'process ref', 'setup'],
  ['groupLeader', 'i32', 'task ref', 'setup; exec'],
  ['capIpcLock', 'i32', 'bool', 'owner'],
  ['fatalSignal', 'i32', 'bool', 'any CPU'],
  ['exited', 'i32', 'bool', 'owner'],
  ['kthread', 'i32', 'bool: no mm of its own, all capabilities', 'setup'],
  ['actor', 'i32', 'actor ref', 'setup'],
  ['devices', 'i32', 'files ref: whose mdev devices a kernel thread serves', 'setup'],
]);

/** signal_struct plus files_struct of a process: what its threads share. */
export const PROCESS = struct('process', [
  ['memlockBytes', 'u64', 'bytes, soft RLIMIT_MEMLOCK', 'any thread of it'],
  ['leader', 'i32', 'task ref', 'setup; exec'],
  ['threads', 'i32', 'live tasks', 'atomic'],
  ['memlockChanges', 'i32', 'times the limit was set', 'oracle'],
  ['tasks', 'i32', 'task structures that refer to it', 'atomic'],
  ['files', 'i32', 'files ref', 'setup; exec'],
]);

/** files_struct, reduced to the descriptors that matter: containers and groups. */
export const FILES = struct('files', [
  ['users', 'i32', 'count', 'atomic'],
  ['container0', 'i32', 'container ref', 'owner process'],
  ['container1', 'i32', 'container ref', 'owner process'],
  ['container2', 'i32', 'container ref', 'owner process'],
  ['container3', 'i32', 'container ref', 'owner process'],
  ['container4', 'i32', 'container ref', 'owner process'],
  ['container5', 'i32', 'container ref', 'owner process'],
  ['container6', 'i32', 'container ref', 'owner process'],
  ['container7', 'i32', 'container ref', 'owner process'],
  ['container8', 'i32', 'container ref', 'owner process'],
  ['container9', 'i32', 'container ref', 'owner process'],
  ['container10', 'i32', 'container ref', 'owner process'],
  ['container11', 'i32', 'container ref', 'owner process'],
  ['container12', 'i32', 'container ref', 'owner process'],
  ['container13', 'i32', 'container ref', 'owner process'],
  ['container14', 'i32', 'container ref', 'owner process'],
  ['container15', 'i32', 'container ref', 'owner process'],
  ['group0', 'i32', 'group ref', 'owner process'],
  ['group1', 'i32', 'group ref', 'owner process'],
  ['group2', 'i32', 'group ref', 'owner process'],
  ['group3', 'i32', 'group ref', 'owner process'],
  ['group4', 'i32', 'group ref', 'owner process'],
  ['group5', 'i32', 'group ref', 'owner process'],
  ['group6', 'i32', 'group ref', 'owner process'],
  ['group7', 'i32', 'group ref', 'owner process'],
  ['group8', 'i32', 'group ref', 'owner process'],
  ['group9', 'i32', 'group ref', 'owner process'],
  ['group10', 'i32', 'group ref', 'owner process'],
  ['group11', 'i32', 'group ref', 'owner process'],
  ['group12', 'i32', 'group ref', 'owner process'],
  ['group13', 'i32', 'group ref', 'owner process'],
  ['group14', 'i32', 'group ref', 'owner process'],
  ['group15', 'i32', 'group ref', 'owner process'],
  ['group16', 'i32', 'group ref', 'owner process'],
  ['group17', 'i32', 'group ref', 'owner process'],
  ['group18', 'i32', 'group ref', 'owner process'],
  ['group19', 'i32', 'group ref', 'owner process'],
  ['group20', 'i32', 'group ref', 'owner process'],
  ['group21', 'i32', 'group ref', 'owner process'],
  ['group22', 'i32', 'group ref', 'owner process'],
  ['group23', 'i32', 'group ref', 'owner process'],
  ['group24', 'i32', 'group ref', 'owner process'],
  ['group25', 'i32', 'group ref', 'owner process'],
  ['group26', 'i32', 'group ref', 'owner process'],
  ['group27', 'i32', 'group ref', 'owner process'],
  ['group28', 'i32', 'group ref', 'owner process'],
  ['group29', 'i32', 'group ref', 'owner process'],
  ['group30', 'i32', 'group ref', 'owner process'],
  ['group31', 'i32', 'group ref', 'owner process'],
]);

/** user_struct: iommufd's per-user account. */
export const USER = struct('user', [
  ['lockedVm', 'u64', 'pages', 'atomic'],
  ['ledgerPinned', 'f64', 'pages pinned at its expense (USER mode)', 'oracle'],
  ['ledgerCharged', 'f64', 'pages whose charge was accepted and not taken back', 'oracle'],
  ['uid', 'i32', 'uid; -1 - guest index for a guest that has one of its own', 'setup'],
  ['guests', 'i32', 'guests that run as this user', 'atomic'],
  ['refs', 'i32', 'count', 'atomic'],
  ['oracleLatch', 'i32', 'latch', 'atomic'],
]);

/** vfio_iommu plus vfio_container: the container. */
export const CONTAINER = struct('container', [
  ['muState', 'i32', 'mutex word', 'atomic'],
  ['muLatch', 'i32', 'latch', 'atomic'],
  ['muHead', 'i32', 'actor ref', 'latch'],
  ['muTail', 'i32', 'actor ref', 'latch'],
  ['muOwner', 'i32', 'actor ref', 'holder'],
  ['fileRefs', 'i32', 'open descriptions', 'atomic'],
  ['groups', 'i32', 'attached groups, mdev ones included', 'atomic'],
  ['externalGroups', 'i32', 'attached mdev groups', 'sem:lock'],
  ['domains', 'i32', 'IOMMU domains', 'sem:lock'],
  ['domainGroups0', 'i32', 'groups in the domain of IOMMUs of kind 0', 'sem:lock'],
  ['domainGroups1', 'i32', 'groups in the domain of IOMMUs of kind 1', 'sem:lock'],
  ['v2', 'i32', 'bool: VFIO_TYPE1v2_IOMMU', 'setup'],
  ['dmaRoot', 'i32', 'dma ref (ordered index by iova page)', 'sem:lock'],
  ['dmaCount', 'i32', 'mappings', 'sem:lock'],
  ['dmaAvail', 'i32', 'free mapping slots', 'sem:lock'],
  ['vaddrInvalid', 'i32', 'mappings whose vaddr is invalid', 'sem:lock'],
  ['vaddrHead', 'i32', 'actor ref: waits for vaddr to be valid', 'latch muLatch'],
  ['vaddrTail', 'i32', 'actor ref', 'latch muLatch'],
  ['notifier', 'i32', 'MdevDriver: who is told of an unmap', 'sem:lock'],
  ['released', 'i32', 'bool', 'sem:lock'],
  ['accountMode', 'i32', 'AccountMode the creator of pages starts from (iommufd)', 'sem:lock'],
  ['index', 'i32', 'index within the guest', 'setup'],
  ['ledgerPins', 'f64', 'page references held for its mappings, countable pages', 'oracle'],
  ['ledgerMm', 'i32', 'mm whose pages were pinned last', 'oracle'],
  ['ledgerGuest', 'i32', 'guest index', 'oracle'],
]);

/** vfio_group, reduced to its descriptor count and its container. */
export const GROUP = struct('group', [
  ['container', 'i32', 'container ref, 0 while in none', 'sem:container lock'],
  ['fileRefs', 'i32', 'open descriptions', 'atomic'],
  ['driver', 'i32', 'MdevDriver, 0 for a group behind an IOMMU', 'setup'],
  ['iommuKind', 'i32', 'groups of one kind can share a domain: 0 or 1', 'setup'],
  ['unsafe', 'i32', 'bool: its IOMMU cannot remap interrupts', 'setup'],
]);

/** vfio_dma: one mapping. */
export const DMA = struct('dma', [
  ['iovaPage', 'f64', 'page number', 'setup'],
  ['sizePages', 'f64', 'pages mapped so far', 'sem:container lock'],
  ['vaddrPage', 'f64', 'page number', 'sem:container lock'],
  ['lockedVm', 'f64', 'pages charged (H)', 'sem:container lock'],
  ['ledgerPinned', 'f64', 'countable pages pinned through the IOMMU', 'oracle'],
  ['left', 'i32', 'dma ref', 'sem:container lock'],
  ['right', 'i32', 'dma ref', 'sem:container lock'],
  ['prio', 'i32', 'treap priority', 'setup'],
  ['prot', 'i32', 'bit 0 read, bit 1 write', 'setup'],
  ['task', 'i32', 'task ref (B-H)', 'setup; vaddr update'],
  ['mm', 'i32', 'mm ref (H)', 'setup; vaddr update'],
  ['lockCap', 'i32', 'bool: CAP_IPC_LOCK at map time (E2+)', 'setup; vaddr update'],
  ['iommuMapped', 'i32', 'bool', 'sem:container lock'],
  ['vaddrInvalid', 'i32', 'bool', 'sem:container lock'],
  ['vpfnRoot', 'i32', 'vpfn ref (ordered index by iova page)', 'sem:container lock'],
  ['vpfnCount', 'i32', 'nodes', 'sem:container lock'],
  ['chunks', 'i32', 'chunk ref (ordered index by vaddr page): what was pinned, as runs', 'sem:container lock'],
  ['ledgerMm', 'i32', 'mm whose pages are pinned through the IOMMU, structure held', 'oracle'],
  ['pinNext', 'i32', 'dma ref: the next that holds pages of the same mm', 'latch pinLatch'],
  ['pinPrev', 'i32', 'dma ref', 'latch pinLatch'],
  ['pinStale', 'i32', 'bool: its address shows other pages now', 'latch pinLatch'],
  ['pagesStart', 'f64', 'first page of `pages` shown (iommufd)', 'setup'],
  ['pages', 'i32', 'pages ref (iommufd)', 'setup'],
  ['nextArea', 'i32', 'dma ref: the next area of the same pages', 'pages mutex'],
  ['busy', 'i32', 'bool: being mapped or unmapped (iommufd)', 'sem:container lock'],
  ['container', 'i32', 'container ref', 'setup'],
]);

/**
 * A run of pages pinned through the IOMMU: what iommu_iova_to_phys would give back on unmap. Runs of one mapping are
 * merged where physically contiguous or alike, so a mapping of one kind of memory is one record.
 */
export const CHUNK = struct('chunk', [
  ['startPage', 'f64', 'page number (iova)', 'sem:container lock'],
  ['pages', 'f64', 'pages', 'sem:container lock'],
  ['runPages', 'i32', 'pages physically contiguous at a time (0: the whole record)', 'sem:container lock'],
  ['counted', 'i32', 'bool: not reserved', 'sem:container lock'],
  ['left', 'i32', 'chunk ref', 'sem:container lock'],
  ['right', 'i32', 'chunk ref', 'sem:container lock'],
  ['prio', 'i32', 'treap priority', 'setup'],
]);

/** iopt_pages (iommufd): memory that areas show, pinned and accounted once however many areas show it. */
export const PAGES = struct('pages', [
  ['startPage', 'f64', 'page number (vaddr)', 'setup; change of process'],
  ['sizePages', 'f64', 'pages', 'setup'],
  ['npinned', 'f64', 'pages pinned', 'mutex'],
  ['lastNpinned', 'f64', 'pages accounted', 'mutex'],
  ['muState', 'i32', 'mutex word', 'atomic'],
  ['muLatch', 'i32', 'latch', 'atomic'],
  ['muHead', 'i32', 'actor ref', 'latch'],
  ['muTail', 'i32', 'actor ref', 'latch'],
  ['muOwner', 'i32', 'actor ref', 'holder'],
  ['refs', 'i32', 'count', 'atomic'],
  ['areas', 'i32', 'dma ref: the first area', 'mutex'],
  ['runs', 'i32', 'chunk ref (ordered index by page of the object): what is pinned', 'mutex'],
  ['mode', 'i32', 'AccountMode', 'setup'],
  ['writable', 'i32', 'bool', 'setup'],
  ['file', 'i32', 'bool: of a file, not of an address space', 'setup'],
  ['sourceMm', 'i32', 'mm ref, its mm_count held', 'setup; change of process'],
  ['pinNext', 'i32', 'pages ref: the next object of the same mm', 'latch pinLatch'],
  ['pinPrev', 'i32', 'pages ref', 'latch pinLatch'],
  ['pinStale', 'i32', 'bool: its address shows other pages now', 'latch pinLatch'],
  ['sourceTask', 'i32', 'task ref of a group leader', 'setup; change of process'],
  ['sourceUser', 'i32', 'user ref', 'setup; change of process'],
]);

/** vfio_pfn: a page pinned by an mdev driver. */
export const VPFN = struct('vpfn', [
  ['iovaPage', 'f64', 'page number', 'setup'],
  ['refCount', 'i32', 'count', 'sem:container lock'],
  ['reserved', 'i32', 'bool', 'setup'],
  ['ledgerMm', 'i32', 'mm whose page it is, structure held', 'oracle'],
  ['vaddrPage', 'f64', 'page number', 'setup'],
  ['pinNext', 'i32', 'vpfn ref: the next page of the same mm', 'latch pinLatch'],
  ['pinPrev', 'i32', 'vpfn ref', 'latch pinLatch'],
  ['pinStale', 'i32', 'bool: its address shows other pages now', 'latch pinLatch'],
  ['left', 'i32', 'vpfn ref', 'sem:container lock'],
  ['right', 'i32', 'vpfn ref', 'sem:container lock'],
  ['prio', 'i32', 'treap priority', 'setup'],
]);

/**
 * A segment: the largest run of pages of an address space that share a VMA's attributes and a residency. VMAs and
 * page tables in one ordered index; split and merged as they change.
 */
export const SEG = struct('seg', [
  ['startPage', 'f64', 'page number', 'latch ptLatch'],
  ['endPage', 'f64', 'page number, exclusive', 'latch ptLatch'],
  ['source', 'f64', 'page number in the file or BAR that startPage shows', 'latch ptLatch'],
  ['backing', 'i32', 'Backing', 'latch ptLatch'],
  ['prot', 'i32', 'bit 0 read, bit 1 write', 'latch ptLatch'],
  ['residency', 'i32', 'Residency', 'latch ptLatch'],
  ['locked', 'i32', 'bool: VM_LOCKED', 'latch ptLatch'],
  ['runPages', 'i32', 'pages physically contiguous at a time, a power of two', 'latch ptLatch'],
  ['anonVma', 'i32', 'bool: the VMA has an anon_vma: fork copies its page table', 'latch ptLatch'],
  ['beyond', 'i32', 'bool: behind the end of the file, where a fault is SIGBUS', 'latch ptLatch'],
  ['file', 'i32', 'group ref: whose device it shows and keeps open; 0 for none', 'latch ptLatch'],
  ['left', 'i32', 'seg ref', 'latch ptLatch'],
  ['right', 'i32', 'seg ref', 'latch ptLatch'],
  ['prio', 'i32', 'treap priority', 'setup'],
]);

/** vwork: a deferred accounting update (A-D). */
export const VWORK = struct('vwork', [
  ['npage', 'f64', 'signed pages', 'setup'],
  ['opId', 'f64', 'operation id, unique in the run', 'setup'],
  ['mm', 'i32', 'mm ref, holding one of its mm_users', 'setup'],
  ['next', 'i32', 'vwork ref', 'latch'],
]);

/** An actor as the locks see it: one thread of execution of a guest, a kworker, or a kernel thread. */
export const ACTOR = struct('actor', [
  ['next', 'i32', 'actor ref behind this one in a wait queue', 'latch of the lock'],
  ['waitMode', 'i32', 'WaitMode', 'latch of the lock'],
  ['granted', 'i32', 'bool: the lock was handed over', 'atomic'],
  ['task', 'i32', 'task ref that runs', 'owner'],
  ['thread', 'i32', 'driver thread that runs it', 'setup'],
  ['slot', 'i32', 'index in the driver thread', 'setup'],
  ['wakeNext', 'i32', "actor ref behind this one in its thread's mailbox", 'atomic'],
  ['wakePending', 'i32', 'bool: in the mailbox', 'atomic'],
  ['waitSince', 'f64', 'ns, when the current wait began', 'driver of the actor'],
  ['wokenAt', 'f64', 'ns, when another thread last woke it', 'driver of the waker'],
]);

export const STRUCTS = {
  mm: MM,
  task: TASK,
  process: PROCESS,
  files: FILES,
  user: USER,
  container: CONTAINER,
  group: GROUP,
  dma: DMA,
  chunk: CHUNK,
  pages: PAGES,
  vpfn: VPFN,
  seg: SEG,
  vwork: VWORK,
  actor: ACTOR,
} as const;
export type StructName = keyof typeof STRUCTS;
export const STRUCT_NAMES = Object.keys(STRUCTS) as StructName[];

/** The table as text, for docs and debugging: structure, field, word offset, kind, unit, writer. */
export function layoutRows(): {
  struct: string;
  field: string;
  word: number;
  kind: FieldKind;
  unit: string;
  writer: string;
}[] {
  return [...tables].flatMap(([name, t]) =>
    t.rows.map(([field, kind, unit_, writer]) => ({
      struct: name,
      field,
      word: (t.offsets[field] ?? -1) & OFFSET_MASK,
      kind,
      unit: unit_,
      writer,
    })),
  );
}
