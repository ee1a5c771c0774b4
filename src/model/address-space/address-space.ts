/**
 * Address spaces: VMAs and page tables in one ordered index of segments per mm. A segment is the largest run of pages
 * that agree in everything this model knows about a page, so a populated 1 TiB buffer is one segment.
 *
 * Physical addresses are not modelled, only where they are contiguous: pages come in blocks of `runPages`, aligned by
 * virtual page number for private memory and by file page number for shared memory. Two neighbouring pages are
 * contiguous when they lie in the same block.
 *
 * All methods are atomic: they take the mm's ptLatch and contain no step. The caller holds mmap_sem as the kernel
 * would. Errors are negated errnos. Rules follow mm/gup.c, mm/mlock.c, mm/madvise.c, mm/huge_memory.c and mm/mmap.c of
 * 6.1 and 6.12, as far as a page's residency shows in locked_vm.
 *
 * differs: a page that became shared by fork is always copied by the next writer, also when the other side has gone; a
 * fork merges VMAs that differed in VM_LOCKED alone; anonymous hugetlb mappings side by side are one VMA; device memory
 * cannot be read where its VMA does not permit it, though it has been faulted in.
 */
import { EFAULT, EINVAL, ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { GupRules } from '../gup-rules.ts';
import { GROUP, MM, SEG } from '../layout.ts';
import type { Ordered } from '../ordered.ts';
import { orders } from '../orders.ts';
import { type ForkCost, NOTHING_PINNED } from '../pins.ts';
import { type BatchRun, FaultCost, GupEntry, type PageRun } from './gup-runs.ts';
import {
  Backing,
  BAR_RUN_PAGES,
  GRANULE,
  hugetlbPages,
  isHugetlb,
  isPrivate,
  Locked,
  mayHuge,
  type MmapArgs,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  Residency,
  type Segment,
} from './memory.ts';

/** What `lookup` found. */
export const LOOKUP_OK = 0;

/** Not there, or not as it must be: handle_mm_fault has to be called. */
export const LOOKUP_FAULT = 1;

/** No memory there, or access is not allowed. */
export const LOOKUP_EFAULT = 2;

/** Device memory: GUP itself fails, the caller looks for the page frame. */
export const LOOKUP_PFNMAP = 3;
export type Lookup = typeof LOOKUP_OK | typeof LOOKUP_FAULT | typeof LOOKUP_EFAULT | typeof LOOKUP_PFNMAP;

const BASE = 3;

/** Access wanted from a page. */
const READ = 0;
const WRITE = 1;

/** A long-term pin for reading. */
const PIN_READ = 2;
type Access = typeof READ | typeof WRITE | typeof PIN_READ;

const down = (page: number, to: number) => Math.floor(page / to) * to;
const up = (page: number, to: number) => Math.ceil(page / to) * to;

export class AddressSpace {
  readonly #index: Ordered;
  readonly #ignored = new FaultCost();
  /**
   * By address space, groups whose last reference was a mapping that has gone; whoever unmapped closes them
   * (paths/files.ts).
   */
  readonly #dropped = new Map<Ref, Ref[]>();

  constructor(
    readonly arena: Arena,
    readonly rules: GupRules,
  ) {
    this.#index = orders(arena).seg;
  }

  /**
   * mmap(MAP_FIXED): replaces what is there; hugetlb sizes are rounded up. The pages that lose VM_LOCKED; -EINVAL for
   * hugetlb at an unaligned address; -ENOMEM (-EINVAL from 6.12 on) when a huge page would be cut.
   */
  mmap(mm: Ref, page: number, pages: number, args: MmapArgs, out: FaultCost = this.#ignored): number {
    out.reset();
    this.#lock(mm);
    try {
      const { backing } = args;
      const size = hugetlbPages(backing);
      if (page % size !== 0) return -EINVAL;
      const end = page + up(pages, size);
      const unlocked = this.#unmap(mm, page, end, out);
      if (unlocked < 0) return this.rules.mmapKeepsError ? unlocked : -ENOMEM;
      const seg = this.arena.alloc('seg');
      const huge = mayHuge(backing);
      this.arena.set(seg, SEG.startPage, page);
      this.arena.set(seg, SEG.endPage, end);
      this.arena.set(seg, SEG.source, isPrivate(backing) ? 0 : (args.sourcePage ?? 0));
      this.arena.set(seg, SEG.backing, backing);
      this.arena.set(seg, SEG.prot, args.prot);
      this.arena.set(seg, SEG.file, args.file ?? 0);
      this.#hold(seg);
      this.arena.set(
        seg,
        SEG.runPages,
        backing === Backing.Bar ? BAR_RUN_PAGES : Math.max(args.runPages ?? 1, huge ? GRANULE : size),
      );
      this.arena.set(seg, SEG.residency, backing === Backing.Bar ? Residency.Present : huge ? Residency.PMD : 0);
      this.#index.insert(mm + MM.segRoot, seg);
      if (backing === Backing.Memfd && args.filePages !== undefined) {
        const eof = Math.max(page, page + args.filePages - (args.sourcePage ?? 0));
        if (eof < end) this.arena.set(this.#isolate(mm, eof, end), SEG.beyond, 1);
      }
      if (huge) {
        // A granule that is only partly new may already have its page table.
        this.#inheritTable(mm, page, page, end);
        this.#inheritTable(mm, end, page, end);
      }
      this.#merge(mm, this.#find(mm, page));
      this.#merge(mm, this.#find(mm, end - 1));
      return unlocked;
    } finally {
      this.#unlock(mm);
    }
  }

  /** munmap. The pages that lose VM_LOCKED, or -EINVAL when a huge page would be cut. */
  munmap(mm: Ref, page: number, pages: number, out: FaultCost = this.#ignored): number {
    out.reset();
    this.#lock(mm);
    try {
      return this.#unmap(mm, page, page + pages, out);
    } finally {
      this.#unlock(mm);
    }
  }

  /** mprotect. What lies before a hole is changed even when the result is -ENOMEM. */
  mprotect(mm: Ref, page: number, pages: number, prot: number, out: FaultCost): number {
    out.reset();
    this.#lock(mm);
    try {
      return this.#eachVma(mm, page, page + pages, (seg, from, to) => {
        const backing = this.arena.get(seg, SEG.backing);
        // mprotect_fixup returns before it splits anything when the flags stay as they are.
        if (this.arena.get(seg, SEG.prot) === prot) return 0;
        if (this.#cutsHugetlb(seg, from, to)) return -EINVAL;
        const wasWritable = (this.arena.get(seg, SEG.prot) & PROT_WRITE) !== 0;
        // populate_vma_page_range has no work to do for VM_LOCKONFAULT.
        const locked = this.arena.get(seg, SEG.locked) === Locked.Yes;
        this.#setVma(mm, from, to, SEG.prot, prot);
        // A locked private mapping that becomes writable is populated, to break copy-on-write now.
        if (locked && isPrivate(backing) && !wasWritable && (prot & PROT_WRITE) !== 0)
          this.#faultRange(mm, from, to, WRITE, out);
        return 0;
      });
    } finally {
      this.#unlock(mm);
    }
  }

  /**
   * The part of mlock and munlock under mmap_sem: sets VM_LOCKED up to the first hole. hugetlb and device memory are
   * passed over. `lockedDeltaPages` is what locked_vm changes by, whatever the error.
   */
  setLocked(mm: Ref, page: number, pages: number, locked: Locked): { error: number; lockedDeltaPages: number } {
    let delta = 0;
    if (pages === 0) return { error: 0, lockedDeltaPages: 0 };
    this.#lock(mm);
    try {
      const error = this.#eachVma(mm, page, page + pages, (seg, from, to) => {
        const backing = this.arena.get(seg, SEG.backing);
        const old = this.arena.get(seg, SEG.locked);
        if (old === locked || isHugetlb(backing) || backing === Backing.Bar) return 0;
        if (locked === Locked.No) delta -= to - from;
        else if (old === Locked.No) delta += to - from;
        this.#setVma(mm, from, to, SEG.locked, locked);
        return 0;
      });
      return { error, lockedDeltaPages: delta };
    } finally {
      this.#unlock(mm);
    }
  }

  /** Pages of a range that mlock has already counted. */
  lockedPages(mm: Ref, page: number, pages: number): number {
    this.#lock(mm);
    try {
      let sum = 0;
      const end = page + pages;
      for (let seg = this.#findFrom(mm, page); seg !== 0 && this.#start(seg) < end; seg = this.#next(mm, seg)) {
        if (this.arena.get(seg, SEG.locked) !== Locked.No)
          sum += Math.min(end, this.#end(seg)) - Math.max(page, this.#start(seg));
      }
      return sum;
    } finally {
      this.#unlock(mm);
    }
  }

  /**
   * Populates as mlock does: private writable memory by writing, everything else by reading; holes and device memory
   * are passed over. 0, or -ENOMEM at the first inaccessible VMA, where it stops.
   */
  populateLocked(mm: Ref, page: number, pages: number, out: FaultCost): number {
    out.reset();
    const end = page + pages;
    this.#lock(mm);
    try {
      for (let at = page; at < end;) {
        const seg = this.#findFrom(mm, at);
        if (seg === 0 || this.#start(seg) >= end) break;
        at = Math.max(at, this.#start(seg));
        const to = Math.min(end, this.#end(seg));
        const backing = this.arena.get(seg, SEG.backing);
        const prot = this.arena.get(seg, SEG.prot);
        if (backing !== Backing.Bar && this.arena.get(seg, SEG.locked) !== Locked.OnFault) {
          if (prot === PROT_NONE || this.arena.get(seg, SEG.beyond) !== 0) return -ENOMEM;
          const write = isPrivate(backing) && (prot & PROT_WRITE) !== 0;
          this.#faultRange(mm, at, to, write ? WRITE : READ, out);
        }
        at = to;
      }
      return 0;
    } finally {
      this.#unlock(mm);
    }
  }

  /** MADV_POPULATE_READ and _WRITE: -ENOMEM at a hole, -EINVAL where access is not allowed; stops there. */
  populate(mm: Ref, page: number, pages: number, write: boolean, out: FaultCost): number {
    out.reset();
    const end = page + pages;
    this.#lock(mm);
    try {
      let error = 0;
      for (let at = page; at < end;) {
        let seg = this.#find(mm, at);
        if (seg === 0) {
          if (!this.rules.populateSkipsHoles) return -ENOMEM;
          error = -ENOMEM;
          seg = this.#findFrom(mm, at);
          if (seg === 0 || this.#start(seg) >= end) break;
          at = this.#start(seg);
        }
        if (this.arena.get(seg, SEG.backing) === Backing.Bar || !this.#permits(seg, write)) return -EINVAL;
        if (this.arena.get(seg, SEG.beyond) !== 0) return -EFAULT;
        const to = Math.min(end, this.#end(seg));
        this.#faultRange(mm, at, to, write ? WRITE : READ, out);
        at = to;
      }
      return error;
    } finally {
      this.#unlock(mm);
    }
  }

  /**
   * MADV_DONTNEED. -EINVAL at locked memory, device memory and a huge page that would be cut at its start, where it
   * stops; -ENOMEM after doing all the rest when there are holes.
   */
  dontneed(mm: Ref, page: number, pages: number, out: FaultCost = this.#ignored): number {
    out.reset();
    const end = page + pages;
    let error = 0;
    this.#lock(mm);
    try {
      for (let at = page; at < end;) {
        const vma = this.#findFrom(mm, at);
        if (vma === 0) return -ENOMEM;
        if (this.#start(vma) > at) {
          error = -ENOMEM;
          at = this.#start(vma);
          if (at >= end) break;
        }
        const backing = this.arena.get(vma, SEG.backing);
        const to = Math.min(end, this.#vmaEnd(mm, vma));
        if (backing === Backing.Bar || this.arena.get(vma, SEG.locked) !== Locked.No) return -EINVAL;
        const size = hugetlbPages(backing);
        if (at % size !== 0) return -EINVAL;
        this.#zap(mm, at, down(to, size), out);
        at = to;
      }
      return error;
    } finally {
      this.#unlock(mm);
    }
  }

  /**
   * dup_mmap: fills the empty address space `child`; pages that are `pinned` are copied, the rest is shared until a
   * write.
   */
  fork(parent: Ref, child: Ref, pinned = NOTHING_PINNED): ForkCost {
    const cost = { tablePages: 0, copiedPages: 0 };
    // Two address spaces, but nobody else knows the child yet.
    this.#lock(parent);
    try {
      for (let first = this.#index.first(parent + MM.segRoot); first !== 0;) {
        // One VMA at a time: its page tables are copied only if it has pages of its own.
        const [start, vmaEnd] = [this.#start(first), this.#vmaEnd(parent, first)];
        const backing = this.arena.get(first, SEG.backing);
        const copies = backing === Backing.Bar || (isPrivate(backing) && this.#hasAnonVma(parent, start, vmaEnd));
        for (let at = start; at < vmaEnd && copies && isPrivate(backing);) {
          const seg = this.#find(parent, at);
          const residency = this.arena.get(seg, SEG.residency);
          const piece = pinned.at(at, (residency & Residency.PMD) === 0 ? 1 : GRANULE);
          const to = Math.min(this.#end(seg), piece.end);
          // A huge page that is pinned gets a page table first (d042035eaf5f), and stays the parent's own, page by
          // page.
          const after = piece.pinned ? Residency.Present : (residency & Residency.PMD) | Residency.Cow;
          if ((residency & BASE) === Residency.Present) this.#setRange(parent, at, to, after, this.#runPages(seg));
          at = to;
        }
        for (let at = start; at < vmaEnd;) {
          const seg = this.#find(parent, at);
          const copy = this.arena.alloc('seg');
          this.arena.i32.copyWithin(copy, seg, seg + SEG.WORDS);
          this.arena.set(copy, SEG.locked, Locked.No);
          this.#hold(copy);
          const pages = this.#end(seg) - this.#start(seg);
          if (copies) cost.tablePages += pages;
          else this.arena.set(copy, SEG.residency, mayHuge(backing) ? Residency.PMD : Residency.None);
          // What is still the parent's own has been copied, page by page.
          const copied = copies && isPrivate(backing) && this.arena.get(seg, SEG.residency) === Residency.Present;
          if (copied) this.arena.set(copy, SEG.runPages, 1);
          cost.copiedPages += copied ? pages : 0;
          this.#index.insert(child + MM.segRoot, copy);
          at = this.#end(seg);
          this.#merge(child, copy);
        }
        first = this.#findFrom(parent, vmaEnd);
      }
      return cost;
    } finally {
      this.#unlock(parent);
    }
  }

  /** exit_mmap: frees everything. Segments freed. */
  destroy(mm: Ref): number {
    let freed = 0;
    this.#lock(mm);
    for (let seg = this.arena.get(mm, MM.segRoot); seg !== 0; seg = this.arena.get(mm, MM.segRoot)) {
      this.#index.remove(mm + MM.segRoot, seg);
      this.#free(mm, seg);
      freed++;
    }
    this.#unlock(mm);
    return freed;
  }

  /**
   * Walks the page table for a pin without faulting: at most `maxPages` pages that are there, allowed, physically
   * contiguous and alike. `run` is valid for LOOKUP_OK and LOOKUP_PFNMAP.
   */
  lookup(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): Lookup {
    this.#lock(mm);
    const seg = this.#find(mm, page);
    let found: Lookup = LOOKUP_OK;
    if (seg === 0 || !this.#reaches(seg, write)) found = LOOKUP_EFAULT;
    else if (this.arena.get(seg, SEG.backing) === Backing.Bar) found = LOOKUP_PFNMAP;
    else if (this.#needs(seg, write ? WRITE : PIN_READ)) found = LOOKUP_FAULT;
    if (found === LOOKUP_OK || found === LOOKUP_PFNMAP) {
      run.blockEnd = Math.min(this.#blockEnd(seg, page), this.#end(seg));
      run.pages = Math.min(maxPages, run.blockEnd - page);
      run.reserved = this.#reserved(seg);
    }
    this.#unlock(mm);
    return found;
  }

  /**
   * How many pages from `page`, at most `maxPages`, are there, allowed and alike; 0 if the first is not. `run`
   * describes the first physically contiguous piece of them.
   */
  resident(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): number {
    if (this.lookup(mm, page, maxPages, write, run) !== LOOKUP_OK) return 0;
    this.#lock(mm);
    const pages = Math.min(maxPages, this.#end(this.#find(mm, page)) - page);
    this.#unlock(mm);
    return pages;
  }

  /** handle_mm_fault as GUP calls it on one page, until the page can be pinned. 0 or -EFAULT. */
  gupFault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    return this.#faultPage(mm, page, write ? WRITE : PIN_READ, out);
  }

  /** Pages from `page` on, at most `maxPages`, that user space can use without a fault. */
  usable(mm: Ref, page: number, maxPages: number, write: boolean): number {
    this.#lock(mm);
    let at = page;
    while (at < page + maxPages) {
      const seg = this.#find(mm, at);
      if (seg === 0 || !this.#reaches(seg, write) || this.#needs(seg, write ? WRITE : READ)) break;
      at = this.#end(seg);
    }
    this.#unlock(mm);
    return Math.min(at - page, maxPages);
  }

  /** A page fault of user space. 0 or -EFAULT (SIGSEGV). Device memory is always there. */
  fault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    return this.#faultPage(mm, page, write ? WRITE : READ, out);
  }

  /**
   * One call for a batch of up to `maxPages` pages: faults in what is missing, stops at the first page that cannot be
   * had. Fills `runs` and returns the pages got, or -EFAULT when it cannot have even the first. Device memory is found
   * only at the first page (vaddr_get_pfns looks for it when GUP fails).
   */
  gupBatch(mm: Ref, page: number, maxPages: number, write: boolean, runs: BatchRun[], out: FaultCost): number {
    const access = write ? WRITE : PIN_READ;
    const end = page + maxPages;
    let got = 0;
    runs.length = 0;
    out.reset();
    this.#lock(mm);
    for (let at = page; at < end;) {
      const seg = this.#find(mm, at);
      if (seg === 0 || !this.#reaches(seg, write)) break;
      let to = Math.min(end, this.#end(seg));
      if (this.arena.get(seg, SEG.backing) === Backing.Bar) {
        if (at !== page) break;
        if (!this.rules.pfnmapBulk) to = at + 1;
        this.#addRuns(mm, seg, at, to, runs);
        got = to - at;
        break;
      }
      if (this.#needs(seg, access)) {
        this.#faultSome(mm, seg, at, to, access, out);
        continue;
      }
      this.#addRuns(mm, seg, at, to, runs);
      got += to - at;
      at = to;
    }
    this.#unlock(mm);
    return got === 0 ? -EFAULT : got;
  }

  /** The segments in order. */
  segments(mm: Ref): Segment[] {
    const out: Segment[] = [];
    this.#lock(mm);
    for (let seg = this.#index.first(mm + MM.segRoot); seg !== 0; seg = this.#next(mm, seg)) {
      out.push({
        startPage: this.#start(seg),
        endPage: this.#end(seg),
        backing: this.arena.get(seg, SEG.backing),
        prot: this.arena.get(seg, SEG.prot),
        residency: this.arena.get(seg, SEG.residency),
        locked: this.arena.get(seg, SEG.locked),
        runPages: this.#runPages(seg),
        file: this.arena.get(seg, SEG.file),
      });
    }
    this.#unlock(mm);
    return out;
  }

  /** Groups to close since the last call: no descriptor and no mapping refers to them any more. */
  takeDropped(mm: Ref): readonly Ref[] {
    const dropped = this.#dropped.get(mm) ?? [];
    this.#dropped.delete(mm);
    return dropped;
  }

  // What follows runs under the latch.

  #hold(seg: Ref): void {
    const file = this.arena.get(seg, SEG.file);
    if (file !== 0) Atomics.add(this.arena.i32, file + GROUP.fileRefs, 1);
  }

  #free(mm: Ref, seg: Ref): void {
    const file = this.arena.get(seg, SEG.file);
    this.arena.free('seg', seg);
    if (file === 0 || Atomics.sub(this.arena.i32, file + GROUP.fileRefs, 1) > 1) return;
    this.#dropped.set(mm, [...(this.#dropped.get(mm) ?? []), file]);
  }

  #lock(mm: Ref): void {
    this.arena.lock(mm + MM.ptLatch);
  }
  #unlock(mm: Ref): void {
    this.arena.unlock(mm + MM.ptLatch);
  }
  #start(seg: Ref): number {
    return this.arena.get(seg, SEG.startPage);
  }
  #end(seg: Ref): number {
    return this.arena.get(seg, SEG.endPage);
  }
  #runPages(seg: Ref): number {
    return this.arena.get(seg, SEG.runPages);
  }
  #next(mm: Ref, seg: Ref): Ref {
    return this.#index.next(mm + MM.segRoot, seg);
  }

  /** The segment that holds `page`, or 0. */
  #find(mm: Ref, page: number): Ref {
    const seg = this.#index.atOrBefore(mm + MM.segRoot, page);
    return seg !== 0 && this.#end(seg) > page ? seg : 0;
  }

  /** The first segment that ends after `page` (find_vma), or 0. */
  #findFrom(mm: Ref, page: number): Ref {
    const seg = this.#find(mm, page);
    return seg !== 0 ? seg : this.#index.atOrAfter(mm + MM.segRoot, page);
  }

  #permits(seg: Ref, write: boolean): boolean {
    return (this.arena.get(seg, SEG.prot) & (write ? PROT_WRITE : PROT_READ)) !== 0;
  }

  /** Whether a fault there can succeed: it is permitted, and not behind the end of the file. */
  #reaches(seg: Ref, write: boolean): boolean {
    return this.#permits(seg, write) && this.arena.get(seg, SEG.beyond) === 0;
  }

  /** Page number that decides the physical block: virtual for private memory, of the file for shared memory. */
  #key(seg: Ref, page: number): number {
    if (isPrivate(this.arena.get(seg, SEG.backing))) return page;
    return this.arena.get(seg, SEG.source) + (page - this.#start(seg));
  }

  #sameVma(a: Ref, b: Ref): boolean {
    return (
      this.#end(a) === this.#start(b) &&
      this.arena.get(a, SEG.backing) === this.arena.get(b, SEG.backing) &&
      this.arena.get(a, SEG.prot) === this.arena.get(b, SEG.prot) &&
      this.arena.get(a, SEG.locked) === this.arena.get(b, SEG.locked) &&
      this.arena.get(a, SEG.file) === this.arena.get(b, SEG.file) &&
      this.#key(a, this.#end(a)) === this.#key(b, this.#start(b))
    );
  }

  /** Where the VMA that `seg` belongs to ends. */
  #vmaEnd(mm: Ref, seg: Ref): number {
    let last = seg;
    for (let next = this.#next(mm, last); next !== 0 && this.#sameVma(last, next); next = this.#next(mm, last)) {
      last = next;
    }
    return this.#end(last);
  }

  #hasAnonVma(mm: Ref, from: number, to: number): boolean {
    for (let seg = this.#find(mm, from); seg !== 0 && this.#start(seg) < to; seg = this.#next(mm, seg)) {
      if (this.arena.get(seg, SEG.anonVma) !== 0) return true;
    }
    return false;
  }

  /** anon_vma_prepare: on the whole VMA, so that it stays with both halves when it is split. */
  #prepareAnonVma(mm: Ref, seg: Ref): void {
    if (this.arena.get(seg, SEG.anonVma) !== 0) return;
    let first = seg;
    for (let before = seg; before !== 0 && (before === first || this.#sameVma(before, first));) {
      first = before;
      before = this.#start(first) > 0 ? this.#find(mm, this.#start(first) - 1) : 0;
    }
    const end = this.#vmaEnd(mm, first);
    for (let at = first; at !== 0 && this.#start(at) < end; at = this.#next(mm, at)) this.arena.set(at, SEG.anonVma, 1);
  }

  /** Visits [from, to) piece by piece; -ENOMEM at the first hole, or the visitor's error. */
  #eachVma(mm: Ref, from: number, to: number, visit: (seg: Ref, from: number, to: number) => number): number {
    for (let at = from; at < to;) {
      const seg = this.#find(mm, at);
      if (seg === 0) return -ENOMEM;
      const end = Math.min(to, this.#end(seg));
      const error = visit(seg, at, end);
      if (error !== 0) return error;
      at = end;
    }
    return 0;
  }

  #cutsHugetlb(seg: Ref, from: number, to: number): boolean {
    const size = hugetlbPages(this.arena.get(seg, SEG.backing));
    return size > 1 && (from % size !== 0 || to % size !== 0);
  }

  #split(mm: Ref, seg: Ref, at: number): Ref {
    const right = this.arena.alloc('seg');
    this.arena.i32.copyWithin(right, seg, seg + SEG.WORDS);
    this.#hold(right);
    if (!isPrivate(this.arena.get(seg, SEG.backing))) this.arena.set(right, SEG.source, this.#key(seg, at));
    this.arena.set(right, SEG.startPage, at);
    this.arena.set(seg, SEG.endPage, at);
    this.#index.insert(mm + MM.segRoot, right);
    return right;
  }

  /** Makes [from, to), which lies in one segment, a segment of its own. */
  #isolate(mm: Ref, from: number, to: number): Ref {
    let seg = this.#find(mm, from);
    if (this.#start(seg) < from) seg = this.#split(mm, seg, from);
    if (this.#end(seg) > to) this.#split(mm, seg, to);
    return seg;
  }

  /** Joins a segment with like neighbours. */
  #merge(mm: Ref, seg: Ref): void {
    const root = mm + MM.segRoot;
    let at = seg;
    const before = this.#start(at) > 0 ? this.#find(mm, this.#start(at) - 1) : 0;
    if (before !== 0 && this.#alike(before, at)) {
      this.arena.set(before, SEG.endPage, this.#end(at));
      this.#index.remove(root, at);
      this.#free(mm, at);
      at = before;
    }
    const after = this.#find(mm, this.#end(at));
    if (after !== 0 && this.#alike(at, after)) {
      this.arena.set(at, SEG.endPage, this.#end(after));
      this.#index.remove(root, after);
      this.#free(mm, after);
    }
  }

  #alike(a: Ref, b: Ref): boolean {
    return (
      this.arena.get(a, SEG.residency) === this.arena.get(b, SEG.residency) &&
      this.arena.get(a, SEG.runPages) === this.arena.get(b, SEG.runPages) &&
      this.arena.get(a, SEG.anonVma) === this.arena.get(b, SEG.anonVma) &&
      this.arena.get(a, SEG.beyond) === this.arena.get(b, SEG.beyond) &&
      this.#sameVma(a, b)
    );
  }

  /** Sets the residency of [from, to), which lies in one segment. */
  #setRange(mm: Ref, from: number, to: number, residency: number, runPages: number): void {
    const seg = this.#isolate(mm, from, to);
    this.arena.set(seg, SEG.residency, residency);
    this.arena.set(seg, SEG.runPages, runPages);
    this.#merge(mm, seg);
  }

  /** Changes a VMA attribute of [from, to), which lies in one segment; splits huge entries that straddle the ends. */
  #setVma(mm: Ref, from: number, to: number, field: number, value: number): void {
    this.#splitPmd(mm, from);
    this.#splitPmd(mm, to);
    for (let at = from; at < to;) {
      const end = Math.min(to, this.#end(this.#find(mm, at)));
      const seg = this.#isolate(mm, at, end);
      this.arena.set(seg, field, value);
      this.#merge(mm, seg);
      at = end;
    }
  }

  /** A boundary inside a granule that a huge entry maps: the entry is replaced by a page table. */
  #splitPmd(mm: Ref, at: number): void {
    if (at % GRANULE === 0) return;
    const seg = this.#find(mm, at);
    if (seg === 0) return;
    const residency = this.arena.get(seg, SEG.residency);
    if ((residency & Residency.PMD) === 0 || (residency & BASE) === Residency.None) return;
    const granule = down(at, GRANULE);
    this.#setRange(mm, granule, granule + GRANULE, residency & BASE, this.#runPages(seg));
  }

  /** The granule has a page table now: nothing in it can be mapped huge before all of it has gone. */
  #markTable(mm: Ref, granule: number): void {
    const end = granule + GRANULE;
    for (let at = granule; at < end;) {
      const seg = this.#findFrom(mm, at);
      if (seg === 0 || this.#start(seg) >= end) break;
      const from = Math.max(at, this.#start(seg));
      at = Math.min(end, this.#end(seg));
      const residency = this.arena.get(seg, SEG.residency);
      if ((residency & Residency.PMD) !== 0) this.#setRange(mm, from, at, residency & BASE, this.#runPages(seg));
    }
  }

  /** Whether something in the granule of `at` outside [from, to) shows that it has a page table. */
  #hasTable(mm: Ref, at: number, from: number, to: number): boolean {
    const granule = down(at, GRANULE);
    for (
      let seg = this.#findFrom(mm, granule);
      seg !== 0 && this.#start(seg) < granule + GRANULE;
      seg = this.#next(mm, seg)
    ) {
      const outside = this.#start(seg) < from || this.#end(seg) > to;
      if (outside && (this.arena.get(seg, SEG.residency) & Residency.PMD) === 0) return true;
    }
    return false;
  }

  #inheritTable(mm: Ref, at: number, from: number, to: number): void {
    if (at % GRANULE !== 0 && this.#hasTable(mm, at, from, to)) this.#markTable(mm, down(at, GRANULE));
  }

  #unmap(mm: Ref, from: number, to: number, out: FaultCost): number {
    let unlocked = 0;
    for (const at of [from, to]) {
      const seg = this.#find(mm, at);
      if (seg !== 0 && this.#start(seg) < at && at % hugetlbPages(this.arena.get(seg, SEG.backing)) !== 0)
        return -EINVAL;
    }
    for (const at of [from, to]) {
      this.#splitPmd(mm, at);
      // The page table of a granule that goes only in part stays.
      if (at % GRANULE !== 0 && this.#hasTable(mm, at, 0, 0)) this.#markTable(mm, down(at, GRANULE));
    }
    for (let seg = this.#findFrom(mm, from); seg !== 0 && this.#start(seg) < to;) {
      const start = Math.max(from, this.#start(seg));
      const end = Math.min(to, this.#end(seg));
      const part = this.#isolate(mm, start, end);
      if (this.arena.get(part, SEG.locked) !== Locked.No) unlocked += end - start;
      if ((this.arena.get(part, SEG.residency) & BASE) !== Residency.None) out.zappedPages += end - start;
      this.#index.remove(mm + MM.segRoot, part);
      this.#free(mm, part);
      seg = this.#findFrom(mm, end);
    }
    return unlocked;
  }

  /** zap_page_range within one VMA. */
  #zap(mm: Ref, from: number, to: number, out: FaultCost): void {
    this.#splitPmd(mm, from);
    this.#splitPmd(mm, to);
    for (let at = from; at < to;) {
      const seg = this.#find(mm, at);
      const end = Math.min(to, this.#end(seg));
      const residency = this.arena.get(seg, SEG.residency);
      if ((residency & BASE) !== Residency.None) out.zappedPages += end - at;
      this.#setRange(mm, at, end, residency & Residency.PMD, this.#runPages(seg));
      at = end;
    }
  }

  #needs(seg: Ref, access: Access): boolean {
    const base = this.arena.get(seg, SEG.residency) & BASE;
    if (base === Residency.Present) return false;
    if (base === Residency.None || access === WRITE) return true;
    if (access === READ) return false;
    return this.rules.unshare === 'any' || (this.rules.unshare === 'anon' && base === Residency.Cow);
  }

  #faultPage(mm: Ref, page: number, access: Access, out: FaultCost): number {
    out.reset();
    this.#lock(mm);
    try {
      const seg = this.#find(mm, page);
      if (seg === 0 || !this.#reaches(seg, access === WRITE)) return -EFAULT;
      if (this.arena.get(seg, SEG.backing) !== Backing.Bar) this.#faultRange(mm, page, page + 1, access, out);
      return 0;
    } finally {
      this.#unlock(mm);
    }
  }

  /** Faults in all of [from, to), which lies in one VMA that permits the access. */
  #faultRange(mm: Ref, from: number, to: number, access: Access, out: FaultCost): void {
    for (let at = from; at < to;) {
      const seg = this.#find(mm, at);
      const end = Math.min(to, this.#end(seg));
      if (this.#needs(seg, access)) this.#faultSome(mm, seg, at, end, access, out);
      else at = end;
    }
  }

  /** One kind of fault on the first pages of [at, to), which lies in `seg`; the caller looks again. */
  #faultSome(mm: Ref, seg: Ref, at: number, to: number, access: Access, out: FaultCost): void {
    const backing = this.arena.get(seg, SEG.backing);
    const residency = this.arena.get(seg, SEG.residency);
    const base = residency & BASE;
    const runPages = this.#runPages(seg);
    if (isHugetlb(backing)) {
      const size = hugetlbPages(backing);
      const from = down(at, size);
      const end = up(to, size);
      this.#setRange(mm, from, end, Residency.Present, runPages);
      out.faults += (end - from) / size;
      if (size === GRANULE) out.zeroed2m += (end - from) / size;
      else out.zeroed1g += (end - from) / size;
      return;
    }
    if (!isPrivate(backing)) {
      this.#setRange(mm, at, to, Residency.Present, runPages);
      out.faults += to - at;
      out.zeroed4k += to - at;
      return;
    }
    let end = to;
    if ((residency & Residency.PMD) !== 0) {
      const granule = down(at, GRANULE);
      if (base !== Residency.None) {
        // Writing to the huge zero page or a shared huge page: split, then page by page.
        this.#setRange(mm, granule, up(to, GRANULE), base, runPages);
        return;
      }
      if (granule >= this.#start(seg) && granule + GRANULE <= this.#end(seg)) {
        const last = Math.min(up(to, GRANULE), down(this.#end(seg), GRANULE));
        const granules = (last - granule) / GRANULE;
        // The huge zero page takes an anon_vma too; the zero page does not.
        this.#prepareAnonVma(mm, seg);
        const kind = access === WRITE ? Residency.Present : Residency.Zero;
        this.#setRange(mm, granule, last, kind | Residency.PMD, runPages);
        out.faults += granules;
        if (access === WRITE) out.zeroed2m += granules;
        return;
      }
      end = Math.min(to, granule + GRANULE);
      this.#markTable(mm, granule);
    }
    const pages = end - at;
    out.faults += pages;
    if (base === Residency.None && access !== WRITE) {
      this.#setRange(mm, at, end, Residency.Zero, runPages);
      return;
    }
    out.zeroed4k += pages;
    this.#prepareAnonVma(mm, this.#find(mm, at));
    this.#setRange(mm, at, end, Residency.Present, mayHuge(backing) ? 1 : runPages);
  }

  #block(seg: Ref): number {
    // The huge zero page is one 2 MiB page shown again and again; the zero page one of 4 KiB.
    const residency = this.arena.get(seg, SEG.residency);
    if ((residency & BASE) !== Residency.Zero) return this.#runPages(seg);
    return (residency & Residency.PMD) !== 0 ? GRANULE : 1;
  }

  #reserved(seg: Ref): boolean {
    return this.arena.get(seg, SEG.backing) === Backing.Bar || this.arena.get(seg, SEG.residency) === Residency.Zero;
  }

  /** Virtual page number at which the physical block of `page` ends. */
  #blockEnd(seg: Ref, page: number): number {
    const block = this.#block(seg);
    return page + block - (this.#key(seg, page) % block);
  }

  #addRuns(mm: Ref, seg: Ref, from: number, to: number, runs: BatchRun[]): void {
    const reserved = this.#reserved(seg);
    let contiguous = this.#joins(mm, seg, from);
    const entry = this.#entry(seg);
    const block = this.#block(seg);
    for (let at = from; at < to;) {
      const pages = Math.min(to, this.#blockEnd(seg, at)) - at;
      const times = pages < block ? 1 : Math.floor((to - at) / block);
      if (contiguous && times > 1) runs.push({ pages, times: 1, entry, reserved, contiguous });
      else runs.push({ pages, times, entry, reserved, contiguous });
      at += contiguous ? pages : pages * times;
      contiguous = false;
    }
  }

  #entry(seg: Ref): GupEntry {
    const backing = this.arena.get(seg, SEG.backing);
    if (backing === Backing.Hugetlb1g) return GupEntry.Giga;
    const huge = (this.arena.get(seg, SEG.residency) & Residency.PMD) !== 0;
    return backing === Backing.Thp && huge ? GupEntry.Thp : GupEntry.Page;
  }

  /** Whether `page` physically follows page - 1. */
  #joins(mm: Ref, seg: Ref, page: number): boolean {
    const block = this.#block(seg);
    const key = this.#key(seg, page);
    if (key % block === 0) return false;
    if (page > this.#start(seg)) return true;
    const before = this.#find(mm, page - 1);
    return (
      before !== 0 &&
      (this.arena.get(before, SEG.residency) & BASE) !== Residency.None &&
      this.arena.get(before, SEG.backing) === this.arena.get(seg, SEG.backing) &&
      this.#reserved(before) === this.#reserved(seg) &&
      this.#block(before) === block &&
      this.#key(before, page) === key
    );
  }
}
