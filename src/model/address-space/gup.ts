/** get_user_pages: pages that are there, allowed and alike, in physically contiguous runs. */
import { EFAULT } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { GupRules } from '../gup-rules.ts';
import { SEG } from '../layout.ts';
import { type Faults, PIN_READ, WRITE } from './faults.ts';
import { type BatchRun, type FaultCost, GupEntry, type PageRun } from './gup-runs.ts';
import { Backing, BASE, GRANULE, Residency } from './memory.ts';
import type { Segments } from './segments.ts';

/** What `lookup` found. */
export const LOOKUP_OK = 0;

/** Not there, or not as it must be: handle_mm_fault has to be called. */
export const LOOKUP_FAULT = 1;

/** No memory there, or access is not allowed. */
export const LOOKUP_EFAULT = 2;

/** Device memory: GUP itself fails, the caller looks for the page frame. */
export const LOOKUP_PFNMAP = 3;
export type Lookup = typeof LOOKUP_OK | typeof LOOKUP_FAULT | typeof LOOKUP_EFAULT | typeof LOOKUP_PFNMAP;

export class Gup {
  readonly arena: Arena;
  readonly rules: GupRules;
  readonly #segments: Segments;
  readonly #faults: Faults;

  constructor(segments: Segments, faults: Faults) {
    this.arena = segments.arena;
    this.rules = faults.rules;
    this.#segments = segments;
    this.#faults = faults;
  }

  /**
   * Walks the page table for a pin without faulting: at most `maxPages` pages that are there, allowed, physically
   * contiguous and alike. `run` is valid for LOOKUP_OK and LOOKUP_PFNMAP.
   */
  lookup(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): Lookup {
    this.#segments.lock(mm);
    const seg = this.#segments.find(mm, page);
    let found: Lookup = LOOKUP_OK;
    if (seg === 0 || !this.#segments.reaches(seg, write)) found = LOOKUP_EFAULT;
    else if (this.arena.get(seg, SEG.backing) === Backing.Bar) found = LOOKUP_PFNMAP;
    else if (this.#faults.needs(seg, write ? WRITE : PIN_READ)) found = LOOKUP_FAULT;
    if (found === LOOKUP_OK || found === LOOKUP_PFNMAP) {
      run.blockEnd = Math.min(this.#blockEnd(seg, page), this.#segments.end(seg));
      run.pages = Math.min(maxPages, run.blockEnd - page);
      run.reserved = this.#reserved(seg);
    }
    this.#segments.unlock(mm);
    return found;
  }

  /**
   * How many pages from `page`, at most `maxPages`, are there, allowed and alike; 0 if the first is not. `run`
   * describes the first physically contiguous piece of them.
   */
  resident(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): number {
    if (this.lookup(mm, page, maxPages, write, run) !== LOOKUP_OK) return 0;
    this.#segments.lock(mm);
    const pages = Math.min(maxPages, this.#segments.end(this.#segments.find(mm, page)) - page);
    this.#segments.unlock(mm);
    return pages;
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
    this.#segments.lock(mm);
    for (let at = page; at < end;) {
      const seg = this.#segments.find(mm, at);
      if (seg === 0 || !this.#segments.reaches(seg, write)) break;
      let to = Math.min(end, this.#segments.end(seg));
      if (this.arena.get(seg, SEG.backing) === Backing.Bar) {
        if (at !== page) break;
        if (!this.rules.pfnmapBulk) to = at + 1;
        this.#addRuns(mm, seg, at, to, runs);
        got = to - at;
        break;
      }
      if (this.#faults.needs(seg, access)) {
        this.#faults.faultSome(mm, seg, at, to, access, out);
        continue;
      }
      this.#addRuns(mm, seg, at, to, runs);
      got += to - at;
      at = to;
    }
    this.#segments.unlock(mm);
    return got === 0 ? -EFAULT : got;
  }

  #block(seg: Ref): number {
    // The huge zero page is one 2 MiB page shown again and again; the zero page one of 4 KiB.
    const residency = this.arena.get(seg, SEG.residency);
    if ((residency & BASE) !== Residency.Zero) return this.#segments.runPages(seg);
    return (residency & Residency.PMD) !== 0 ? GRANULE : 1;
  }

  #reserved(seg: Ref): boolean {
    return this.arena.get(seg, SEG.backing) === Backing.Bar || this.arena.get(seg, SEG.residency) === Residency.Zero;
  }

  /** Virtual page number at which the physical block of `page` ends. */
  #blockEnd(seg: Ref, page: number): number {
    const block = this.#block(seg);
    return page + block - (this.#segments.key(seg, page) % block);
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
    const key = this.#segments.key(seg, page);
    if (key % block === 0) return false;
    if (page > this.#segments.start(seg)) return true;
    const before = this.#segments.find(mm, page - 1);
    return (
      before !== 0 &&
      (this.arena.get(before, SEG.residency) & BASE) !== Residency.None &&
      this.arena.get(before, SEG.backing) === this.arena.get(seg, SEG.backing) &&
      this.#reserved(before) === this.#reserved(seg) &&
      this.#block(before) === block &&
      this.#segments.key(before, page) === key
    );
  }
}
