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
import { EINVAL, ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { GupRules } from '../gup-rules.ts';
import { MM, SEG } from '../layout.ts';
import { type ForkCost, NOTHING_PINNED } from '../pins.ts';
import { Faults, PIN_READ, READ, WRITE } from './faults.ts';
import { type BatchRun, FaultCost, type PageRun } from './gup-runs.ts';
import { Gup, type Lookup } from './gup.ts';
import {
  Backing,
  BAR_RUN_PAGES,
  BASE,
  GRANULE,
  hugetlbPages,
  isHugetlb,
  isPrivate,
  Locked,
  mayHuge,
  type MmapArgs,
  PROT_WRITE,
  Residency,
  roundDown,
  roundUp,
  type Segment,
} from './memory.ts';
import { Segments } from './segments.ts';

export { type Lookup, LOOKUP_EFAULT, LOOKUP_FAULT, LOOKUP_OK, LOOKUP_PFNMAP } from './gup.ts';

export class AddressSpace {
  readonly #segments: Segments;
  readonly #faults: Faults;
  readonly #gup: Gup;
  readonly #ignored = new FaultCost();

  constructor(
    readonly arena: Arena,
    readonly rules: GupRules,
  ) {
    this.#segments = new Segments(arena);
    this.#faults = new Faults(this.#segments, rules);
    this.#gup = new Gup(this.#segments, this.#faults);
  }

  /**
   * mmap(MAP_FIXED): replaces what is there; hugetlb sizes are rounded up. The pages that lose VM_LOCKED; -EINVAL for
   * hugetlb at an unaligned address; -ENOMEM (-EINVAL from 6.12 on) when a huge page would be cut.
   */
  mmap(mm: Ref, page: number, pages: number, args: MmapArgs, out: FaultCost = this.#ignored): number {
    out.reset();
    this.#segments.lock(mm);
    try {
      const { backing } = args;
      const size = hugetlbPages(backing);
      if (page % size !== 0) return -EINVAL;
      const end = page + roundUp(pages, size);
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
      this.#segments.hold(seg);
      this.arena.set(
        seg,
        SEG.runPages,
        backing === Backing.Bar ? BAR_RUN_PAGES : Math.max(args.runPages ?? 1, huge ? GRANULE : size),
      );
      this.arena.set(seg, SEG.residency, backing === Backing.Bar ? Residency.Present : huge ? Residency.PMD : 0);
      this.#segments.insert(mm, seg);
      if (backing === Backing.Memfd && args.filePages !== undefined) {
        const eof = Math.max(page, page + args.filePages - (args.sourcePage ?? 0));
        if (eof < end) this.arena.set(this.#segments.isolate(mm, eof, end), SEG.beyond, 1);
      }
      if (huge) {
        // A granule that is only partly new may already have its page table.
        this.#segments.inheritTable(mm, page, page, end);
        this.#segments.inheritTable(mm, end, page, end);
      }
      this.#segments.merge(mm, this.#segments.find(mm, page));
      this.#segments.merge(mm, this.#segments.find(mm, end - 1));
      return unlocked;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** munmap. The pages that lose VM_LOCKED, or -EINVAL when a huge page would be cut. */
  munmap(mm: Ref, page: number, pages: number, out: FaultCost = this.#ignored): number {
    out.reset();
    this.#segments.lock(mm);
    try {
      return this.#unmap(mm, page, page + pages, out);
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** mprotect. What lies before a hole is changed even when the result is -ENOMEM. */
  mprotect(mm: Ref, page: number, pages: number, prot: number, out: FaultCost): number {
    out.reset();
    this.#segments.lock(mm);
    try {
      return this.#segments.eachVma(mm, page, page + pages, (seg, from, to) => {
        const backing = this.arena.get(seg, SEG.backing);
        // mprotect_fixup returns before it splits anything when the flags stay as they are.
        if (this.arena.get(seg, SEG.prot) === prot) return 0;
        if (this.#segments.cutsHugetlb(seg, from, to)) return -EINVAL;
        const wasWritable = (this.arena.get(seg, SEG.prot) & PROT_WRITE) !== 0;
        // populate_vma_page_range has no work to do for VM_LOCKONFAULT.
        const locked = this.arena.get(seg, SEG.locked) === Locked.Yes;
        this.#segments.setVma(mm, from, to, SEG.prot, prot);
        // A locked private mapping that becomes writable is populated, to break copy-on-write now.
        if (locked && isPrivate(backing) && !wasWritable && (prot & PROT_WRITE) !== 0)
          this.#faults.faultRange(mm, from, to, WRITE, out);
        return 0;
      });
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /**
   * The part of mlock and munlock under mmap_sem: sets VM_LOCKED up to the first hole. hugetlb and device memory are
   * passed over. `lockedDeltaPages` is what locked_vm changes by, whatever the error.
   */
  setLocked(mm: Ref, page: number, pages: number, locked: Locked): { error: number; lockedDeltaPages: number } {
    let delta = 0;
    if (pages === 0) return { error: 0, lockedDeltaPages: 0 };
    this.#segments.lock(mm);
    try {
      const error = this.#segments.eachVma(mm, page, page + pages, (seg, from, to) => {
        const backing = this.arena.get(seg, SEG.backing);
        const old = this.arena.get(seg, SEG.locked);
        if (old === locked || isHugetlb(backing) || backing === Backing.Bar) return 0;
        if (locked === Locked.No) delta -= to - from;
        else if (old === Locked.No) delta += to - from;
        this.#segments.setVma(mm, from, to, SEG.locked, locked);
        return 0;
      });
      return { error, lockedDeltaPages: delta };
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** Pages of a range that mlock has already counted. */
  lockedPages(mm: Ref, page: number, pages: number): number {
    this.#segments.lock(mm);
    try {
      let sum = 0;
      const end = page + pages;
      for (
        let seg = this.#segments.findFrom(mm, page);
        seg !== 0 && this.#segments.start(seg) < end;
        seg = this.#segments.next(mm, seg)
      ) {
        if (this.arena.get(seg, SEG.locked) !== Locked.No)
          sum += Math.min(end, this.#segments.end(seg)) - Math.max(page, this.#segments.start(seg));
      }
      return sum;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /**
   * Populates as mlock does: private writable memory by writing, everything else by reading; holes and device memory
   * are passed over. 0, or -ENOMEM at the first inaccessible VMA, where it stops.
   */
  populateLocked(mm: Ref, page: number, pages: number, out: FaultCost): number {
    return this.#faults.populateLocked(mm, page, pages, out);
  }

  /** MADV_POPULATE_READ and _WRITE: -ENOMEM at a hole, -EINVAL where access is not allowed; stops there. */
  populate(mm: Ref, page: number, pages: number, write: boolean, out: FaultCost): number {
    return this.#faults.populate(mm, page, pages, write, out);
  }

  /**
   * MADV_DONTNEED. -EINVAL at locked memory, device memory and a huge page that would be cut at its start, where it
   * stops; -ENOMEM after doing all the rest when there are holes.
   */
  dontneed(mm: Ref, page: number, pages: number, out: FaultCost = this.#ignored): number {
    out.reset();
    const end = page + pages;
    let error = 0;
    this.#segments.lock(mm);
    try {
      for (let at = page; at < end;) {
        const vma = this.#segments.findFrom(mm, at);
        if (vma === 0) return -ENOMEM;
        if (this.#segments.start(vma) > at) {
          error = -ENOMEM;
          at = this.#segments.start(vma);
          if (at >= end) break;
        }
        const backing = this.arena.get(vma, SEG.backing);
        const to = Math.min(end, this.#segments.vmaEnd(mm, vma));
        if (backing === Backing.Bar || this.arena.get(vma, SEG.locked) !== Locked.No) return -EINVAL;
        const size = hugetlbPages(backing);
        if (at % size !== 0) return -EINVAL;
        this.#zap(mm, at, roundDown(to, size), out);
        at = to;
      }
      return error;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /**
   * dup_mmap: fills the empty address space `child`; pages that are `pinned` are copied, the rest is shared until a
   * write.
   */
  fork(parent: Ref, child: Ref, pinned = NOTHING_PINNED): ForkCost {
    const cost = { tablePages: 0, copiedPages: 0 };
    // Two address spaces, but nobody else knows the child yet.
    this.#segments.lock(parent);
    try {
      for (let first = this.#segments.first(parent); first !== 0;) {
        // One VMA at a time: its page tables are copied only if it has pages of its own.
        const [start, vmaEnd] = [this.#segments.start(first), this.#segments.vmaEnd(parent, first)];
        const backing = this.arena.get(first, SEG.backing);
        const copies =
          backing === Backing.Bar || (isPrivate(backing) && this.#segments.hasAnonVma(parent, start, vmaEnd));
        for (let at = start; at < vmaEnd && copies && isPrivate(backing);) {
          const seg = this.#segments.find(parent, at);
          const residency = this.arena.get(seg, SEG.residency);
          const piece = pinned.at(at, (residency & Residency.PMD) === 0 ? 1 : GRANULE);
          const to = Math.min(this.#segments.end(seg), piece.end);
          // A huge page that is pinned gets a page table first (d042035eaf5f), and stays the parent's own, page by
          // page.
          const after = piece.pinned ? Residency.Present : (residency & Residency.PMD) | Residency.Cow;
          if ((residency & BASE) === Residency.Present)
            this.#segments.setRange(parent, at, to, after, this.#segments.runPages(seg));
          at = to;
        }
        for (let at = start; at < vmaEnd;) {
          const seg = this.#segments.find(parent, at);
          const copy = this.arena.alloc('seg');
          this.arena.i32.copyWithin(copy, seg, seg + SEG.WORDS);
          this.arena.set(copy, SEG.locked, Locked.No);
          this.#segments.hold(copy);
          const pages = this.#segments.end(seg) - this.#segments.start(seg);
          if (copies) cost.tablePages += pages;
          else this.arena.set(copy, SEG.residency, mayHuge(backing) ? Residency.PMD : Residency.None);
          // What is still the parent's own has been copied, page by page.
          const copied = copies && isPrivate(backing) && this.arena.get(seg, SEG.residency) === Residency.Present;
          if (copied) this.arena.set(copy, SEG.runPages, 1);
          cost.copiedPages += copied ? pages : 0;
          this.#segments.insert(child, copy);
          at = this.#segments.end(seg);
          this.#segments.merge(child, copy);
        }
        first = this.#segments.findFrom(parent, vmaEnd);
      }
      return cost;
    } finally {
      this.#segments.unlock(parent);
    }
  }

  /** exit_mmap: frees everything. Segments freed. */
  destroy(mm: Ref): number {
    let freed = 0;
    this.#segments.lock(mm);
    for (let seg = this.arena.get(mm, MM.segRoot); seg !== 0; seg = this.arena.get(mm, MM.segRoot)) {
      this.#segments.remove(mm, seg);
      freed += 1;
    }
    this.#segments.unlock(mm);
    return freed;
  }

  /**
   * Walks the page table for a pin without faulting: at most `maxPages` pages that are there, allowed, physically
   * contiguous and alike. `run` is valid for LOOKUP_OK and LOOKUP_PFNMAP.
   */
  lookup(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): Lookup {
    return this.#gup.lookup(mm, page, maxPages, write, run);
  }

  /**
   * How many pages from `page`, at most `maxPages`, are there, allowed and alike; 0 if the first is not. `run`
   * describes the first physically contiguous piece of them.
   */
  resident(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): number {
    return this.#gup.resident(mm, page, maxPages, write, run);
  }

  /** handle_mm_fault as GUP calls it on one page, until the page can be pinned. 0 or -EFAULT. */
  gupFault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    return this.#faults.faultPage(mm, page, write ? WRITE : PIN_READ, out);
  }

  /** Pages from `page` on, at most `maxPages`, that user space can use without a fault. */
  usable(mm: Ref, page: number, maxPages: number, write: boolean): number {
    return this.#faults.usable(mm, page, maxPages, write);
  }

  /** A page fault of user space. 0 or -EFAULT (SIGSEGV). Device memory is always there. */
  fault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    return this.#faults.faultPage(mm, page, write ? WRITE : READ, out);
  }

  /**
   * One call for a batch of up to `maxPages` pages: faults in what is missing, stops at the first page that cannot be
   * had. Fills `runs` and returns the pages got, or -EFAULT when it cannot have even the first. Device memory is found
   * only at the first page (vaddr_get_pfns looks for it when GUP fails).
   */
  gupBatch(mm: Ref, page: number, maxPages: number, write: boolean, runs: BatchRun[], out: FaultCost): number {
    return this.#gup.gupBatch(mm, page, maxPages, write, runs, out);
  }

  /** The segments in order. */
  segments(mm: Ref): Segment[] {
    this.#segments.lock(mm);
    const list = this.#segments.list(mm);
    this.#segments.unlock(mm);
    return list;
  }

  /** Groups to close since the last call: no descriptor and no mapping refers to them any more. */
  takeDropped(mm: Ref): readonly Ref[] {
    return this.#segments.takeDropped(mm);
  }

  // What follows runs under the latch.

  #unmap(mm: Ref, from: number, to: number, out: FaultCost): number {
    let unlocked = 0;
    for (const at of [from, to]) {
      const seg = this.#segments.find(mm, at);
      if (seg !== 0 && this.#segments.start(seg) < at && at % hugetlbPages(this.arena.get(seg, SEG.backing)) !== 0)
        return -EINVAL;
    }
    for (const at of [from, to]) {
      this.#segments.splitPmd(mm, at);
      // The page table of a granule that goes only in part stays.
      if (at % GRANULE !== 0 && this.#segments.hasTable(mm, at, 0, 0))
        this.#segments.markTable(mm, roundDown(at, GRANULE));
    }
    for (let seg = this.#segments.findFrom(mm, from); seg !== 0 && this.#segments.start(seg) < to;) {
      const start = Math.max(from, this.#segments.start(seg));
      const end = Math.min(to, this.#segments.end(seg));
      const part = this.#segments.isolate(mm, start, end);
      if (this.arena.get(part, SEG.locked) !== Locked.No) unlocked += end - start;
      if ((this.arena.get(part, SEG.residency) & BASE) !== Residency.None) out.zappedPages += end - start;
      this.#segments.remove(mm, part);
      seg = this.#segments.findFrom(mm, end);
    }
    return unlocked;
  }

  /** zap_page_range within one VMA. */
  #zap(mm: Ref, from: number, to: number, out: FaultCost): void {
    this.#segments.splitPmd(mm, from);
    this.#segments.splitPmd(mm, to);
    for (let at = from; at < to;) {
      const seg = this.#segments.find(mm, at);
      const end = Math.min(to, this.#segments.end(seg));
      const residency = this.arena.get(seg, SEG.residency);
      if ((residency & BASE) !== Residency.None) out.zappedPages += end - at;
      this.#segments.setRange(mm, at, end, residency & Residency.PMD, this.#segments.runPages(seg));
      at = end;
    }
  }
}
