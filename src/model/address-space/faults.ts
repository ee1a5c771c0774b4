/** Faults: what handle_mm_fault and populate make of pages that are not there, or not as they must be. */
import { EFAULT, EINVAL, ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { GupRules } from '../gup-rules.ts';
import { SEG } from '../layout.ts';
import type { FaultCost } from './gup-runs.ts';
import {
  Backing,
  BASE,
  GRANULE,
  hugetlbPages,
  isHugetlb,
  isPrivate,
  Locked,
  mayHuge,
  PROT_NONE,
  PROT_WRITE,
  Residency,
  roundDown,
  roundUp,
} from './memory.ts';
import type { Segments } from './segments.ts';

/** Access wanted from a page. */
export const READ = 0;
export const WRITE = 1;

/** A long-term pin for reading. */
export const PIN_READ = 2;
export type Access = typeof READ | typeof WRITE | typeof PIN_READ;

export class Faults {
  readonly arena: Arena;
  readonly rules: GupRules;
  readonly #segments: Segments;

  constructor(segments: Segments, rules: GupRules) {
    this.arena = segments.arena;
    this.rules = rules;
    this.#segments = segments;
  }

  /**
   * Populates as mlock does: private writable memory by writing, everything else by reading; holes and device memory
   * are passed over. 0, or -ENOMEM at the first inaccessible VMA, where it stops.
   */
  populateLocked(mm: Ref, page: number, pages: number, out: FaultCost): number {
    out.reset();
    const end = page + pages;
    this.#segments.lock(mm);
    try {
      for (let at = page; at < end;) {
        const seg = this.#segments.findFrom(mm, at);
        if (seg === 0 || this.#segments.start(seg) >= end) break;
        at = Math.max(at, this.#segments.start(seg));
        const to = Math.min(end, this.#segments.end(seg));
        const backing = this.arena.get(seg, SEG.backing);
        const prot = this.arena.get(seg, SEG.prot);
        if (backing !== Backing.Bar && this.arena.get(seg, SEG.locked) !== Locked.OnFault) {
          if (prot === PROT_NONE || this.arena.get(seg, SEG.beyond) !== 0) return -ENOMEM;
          const write = isPrivate(backing) && (prot & PROT_WRITE) !== 0;
          this.faultRange(mm, at, to, write ? WRITE : READ, out);
        }
        at = to;
      }
      return 0;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** MADV_POPULATE_READ and _WRITE: -ENOMEM at a hole, -EINVAL where access is not allowed; stops there. */
  populate(mm: Ref, page: number, pages: number, write: boolean, out: FaultCost): number {
    out.reset();
    const end = page + pages;
    this.#segments.lock(mm);
    try {
      let error = 0;
      for (let at = page; at < end;) {
        let seg = this.#segments.find(mm, at);
        if (seg === 0) {
          if (!this.rules.populateSkipsHoles) return -ENOMEM;
          error = -ENOMEM;
          seg = this.#segments.findFrom(mm, at);
          if (seg === 0 || this.#segments.start(seg) >= end) break;
          at = this.#segments.start(seg);
        }
        if (this.arena.get(seg, SEG.backing) === Backing.Bar || !this.#segments.permits(seg, write)) return -EINVAL;
        if (this.arena.get(seg, SEG.beyond) !== 0) return -EFAULT;
        const to = Math.min(end, this.#segments.end(seg));
        this.faultRange(mm, at, to, write ? WRITE : READ, out);
        at = to;
      }
      return error;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** Pages from `page` on, at most `maxPages`, that user space can use without a fault. */
  usable(mm: Ref, page: number, maxPages: number, write: boolean): number {
    this.#segments.lock(mm);
    let at = page;
    while (at < page + maxPages) {
      const seg = this.#segments.find(mm, at);
      if (seg === 0 || !this.#segments.reaches(seg, write) || this.needs(seg, write ? WRITE : READ)) break;
      at = this.#segments.end(seg);
    }
    this.#segments.unlock(mm);
    return Math.min(at - page, maxPages);
  }

  /** Whether the page has to be faulted in, or copied, for this access. */
  needs(seg: Ref, access: Access): boolean {
    const base = this.arena.get(seg, SEG.residency) & BASE;
    if (base === Residency.Present) return false;
    if (base === Residency.None || access === WRITE) return true;
    if (access === READ) return false;
    return this.rules.unshare === 'any' || (this.rules.unshare === 'anon' && base === Residency.Cow);
  }

  /** One page of memory that need not be mapped. 0 or -EFAULT. */
  faultPage(mm: Ref, page: number, access: Access, out: FaultCost): number {
    out.reset();
    this.#segments.lock(mm);
    try {
      const seg = this.#segments.find(mm, page);
      if (seg === 0 || !this.#segments.reaches(seg, access === WRITE)) return -EFAULT;
      if (this.arena.get(seg, SEG.backing) !== Backing.Bar) this.faultRange(mm, page, page + 1, access, out);
      return 0;
    } finally {
      this.#segments.unlock(mm);
    }
  }

  /** Faults in all of [from, to), which lies in one VMA that permits the access. */
  faultRange(mm: Ref, from: number, to: number, access: Access, out: FaultCost): void {
    for (let at = from; at < to;) {
      const seg = this.#segments.find(mm, at);
      const end = Math.min(to, this.#segments.end(seg));
      if (this.needs(seg, access)) this.faultSome(mm, seg, at, end, access, out);
      else at = end;
    }
  }

  /** One kind of fault on the first pages of [at, to), which lies in `seg`; the caller looks again. */
  faultSome(mm: Ref, seg: Ref, at: number, to: number, access: Access, out: FaultCost): void {
    const backing = this.arena.get(seg, SEG.backing);
    const residency = this.arena.get(seg, SEG.residency);
    const base = residency & BASE;
    const runPages = this.#segments.runPages(seg);
    if (isHugetlb(backing)) {
      const size = hugetlbPages(backing);
      const from = roundDown(at, size);
      const end = roundUp(to, size);
      this.#segments.setRange(mm, from, end, Residency.Present, runPages);
      out.faults += (end - from) / size;
      if (size === GRANULE) out.zeroed2m += (end - from) / size;
      else out.zeroed1g += (end - from) / size;
      return;
    }
    if (!isPrivate(backing)) {
      this.#segments.setRange(mm, at, to, Residency.Present, runPages);
      out.faults += to - at;
      out.zeroed4k += to - at;
      return;
    }
    let end = to;
    if ((residency & Residency.PMD) !== 0) {
      const granule = roundDown(at, GRANULE);
      if (base !== Residency.None) {
        // Writing to the huge zero page or a shared huge page: split, then page by page.
        this.#segments.setRange(mm, granule, roundUp(to, GRANULE), base, runPages);
        return;
      }
      if (granule >= this.#segments.start(seg) && granule + GRANULE <= this.#segments.end(seg)) {
        const last = Math.min(roundUp(to, GRANULE), roundDown(this.#segments.end(seg), GRANULE));
        const granules = (last - granule) / GRANULE;
        // The huge zero page takes an anon_vma too; the zero page does not.
        this.#segments.prepareAnonVma(mm, seg);
        const kind = access === WRITE ? Residency.Present : Residency.Zero;
        this.#segments.setRange(mm, granule, last, kind | Residency.PMD, runPages);
        out.faults += granules;
        if (access === WRITE) out.zeroed2m += granules;
        return;
      }
      end = Math.min(to, granule + GRANULE);
      this.#segments.markTable(mm, granule);
    }
    const pages = end - at;
    out.faults += pages;
    if (base === Residency.None && access !== WRITE) {
      this.#segments.setRange(mm, at, end, Residency.Zero, runPages);
      return;
    }
    out.zeroed4k += pages;
    this.#segments.prepareAnonVma(mm, this.#segments.find(mm, at));
    this.#segments.setRange(mm, at, end, Residency.Present, mayHuge(backing) ? 1 : runPages);
  }
}
