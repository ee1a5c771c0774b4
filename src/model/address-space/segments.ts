/**
 * The segments of an address space, in order: the largest runs of pages that agree in everything this model knows about
 * a page. They are cut where one page changes and joined where two neighbours have become alike.
 *
 * Apart from `lock` and `takeDropped`, everything here runs under the latch of the address space, which the caller
 * holds.
 */
import { ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import { GROUP, MM, SEG } from '../layout.ts';
import type { Ordered } from '../ordered.ts';
import { orders } from '../orders.ts';
import {
  BASE,
  GRANULE,
  hugetlbPages,
  isPrivate,
  PROT_READ,
  PROT_WRITE,
  Residency,
  roundDown,
  type Segment,
} from './memory.ts';

export class Segments {
  readonly #index: Ordered;
  /**
   * By address space, groups whose last reference was a mapping that has gone; the path that unmapped closes them
   * (paths/files.ts).
   */
  readonly #dropped = new Map<Ref, Ref[]>();

  constructor(readonly arena: Arena) {
    this.#index = orders(arena).seg;
  }

  /** The segments in order. */
  list(mm: Ref): Segment[] {
    const out: Segment[] = [];
    for (let seg = this.first(mm); seg !== 0; seg = this.next(mm, seg)) {
      out.push({
        startPage: this.start(seg),
        endPage: this.end(seg),
        backing: this.arena.get(seg, SEG.backing),
        prot: this.arena.get(seg, SEG.prot),
        residency: this.arena.get(seg, SEG.residency),
        locked: this.arena.get(seg, SEG.locked),
        runPages: this.runPages(seg),
        file: this.arena.get(seg, SEG.file),
      });
    }
    return out;
  }

  /** Groups to close since the last call: no descriptor and no mapping refers to them any more. */
  takeDropped(mm: Ref): readonly Ref[] {
    const dropped = this.#dropped.get(mm) ?? [];
    this.#dropped.delete(mm);
    return dropped;
  }

  first(mm: Ref): Ref {
    return this.#index.first(mm + MM.segRoot);
  }

  /** `seg`, whose first page and file are set. */
  insert(mm: Ref, seg: Ref): void {
    this.#index.insert(mm + MM.segRoot, seg);
  }

  /** Takes `seg` out and frees it. */
  remove(mm: Ref, seg: Ref): void {
    this.#index.remove(mm + MM.segRoot, seg);
    this.#free(mm, seg);
  }

  /** `seg` is new and shows a file: it holds a reference. */
  hold(seg: Ref): void {
    const file = this.arena.get(seg, SEG.file);
    if (file !== 0) Atomics.add(this.arena.i32, file + GROUP.fileRefs, 1);
  }

  #free(mm: Ref, seg: Ref): void {
    const file = this.arena.get(seg, SEG.file);
    this.arena.free('seg', seg);
    if (file === 0 || Atomics.sub(this.arena.i32, file + GROUP.fileRefs, 1) > 1) return;
    this.#dropped.set(mm, [...(this.#dropped.get(mm) ?? []), file]);
  }

  lock(mm: Ref): void {
    this.arena.lock(mm + MM.ptLatch);
  }
  unlock(mm: Ref): void {
    this.arena.unlock(mm + MM.ptLatch);
  }
  start(seg: Ref): number {
    return this.arena.get(seg, SEG.startPage);
  }
  end(seg: Ref): number {
    return this.arena.get(seg, SEG.endPage);
  }
  runPages(seg: Ref): number {
    return this.arena.get(seg, SEG.runPages);
  }
  next(mm: Ref, seg: Ref): Ref {
    return this.#index.next(mm + MM.segRoot, seg);
  }

  /** The segment that holds `page`, or 0. */
  find(mm: Ref, page: number): Ref {
    const seg = this.#index.atOrBefore(mm + MM.segRoot, page);
    return seg !== 0 && this.end(seg) > page ? seg : 0;
  }

  /** The first segment that ends after `page` (find_vma), or 0. */
  findFrom(mm: Ref, page: number): Ref {
    const seg = this.find(mm, page);
    return seg !== 0 ? seg : this.#index.atOrAfter(mm + MM.segRoot, page);
  }

  permits(seg: Ref, write: boolean): boolean {
    return (this.arena.get(seg, SEG.prot) & (write ? PROT_WRITE : PROT_READ)) !== 0;
  }

  /** Whether a fault there can succeed: it is permitted, and not behind the end of the file. */
  reaches(seg: Ref, write: boolean): boolean {
    return this.permits(seg, write) && this.arena.get(seg, SEG.beyond) === 0;
  }

  /** Page number that decides the physical block: virtual for private memory, of the file for shared memory. */
  key(seg: Ref, page: number): number {
    if (isPrivate(this.arena.get(seg, SEG.backing))) return page;
    return this.arena.get(seg, SEG.source) + (page - this.start(seg));
  }

  #sameVma(a: Ref, b: Ref): boolean {
    return (
      this.end(a) === this.start(b) &&
      this.arena.get(a, SEG.backing) === this.arena.get(b, SEG.backing) &&
      this.arena.get(a, SEG.prot) === this.arena.get(b, SEG.prot) &&
      this.arena.get(a, SEG.locked) === this.arena.get(b, SEG.locked) &&
      this.arena.get(a, SEG.file) === this.arena.get(b, SEG.file) &&
      this.key(a, this.end(a)) === this.key(b, this.start(b))
    );
  }

  /** Where the VMA that `seg` belongs to ends. */
  vmaEnd(mm: Ref, seg: Ref): number {
    let last = seg;
    for (let next = this.next(mm, last); next !== 0 && this.#sameVma(last, next); next = this.next(mm, last)) {
      last = next;
    }
    return this.end(last);
  }

  hasAnonVma(mm: Ref, from: number, to: number): boolean {
    for (let seg = this.find(mm, from); seg !== 0 && this.start(seg) < to; seg = this.next(mm, seg)) {
      if (this.arena.get(seg, SEG.anonVma) !== 0) return true;
    }
    return false;
  }

  /** anon_vma_prepare: on the whole VMA, so that it stays with both halves when it is split. */
  prepareAnonVma(mm: Ref, seg: Ref): void {
    if (this.arena.get(seg, SEG.anonVma) !== 0) return;
    let first = seg;
    for (let before = seg; before !== 0 && (before === first || this.#sameVma(before, first));) {
      first = before;
      before = this.start(first) > 0 ? this.find(mm, this.start(first) - 1) : 0;
    }
    const end = this.vmaEnd(mm, first);
    for (let at = first; at !== 0 && this.start(at) < end; at = this.next(mm, at)) this.arena.set(at, SEG.anonVma, 1);
  }

  /** Visits [from, to) piece by piece; -ENOMEM at the first hole, or the visitor's error. */
  eachVma(mm: Ref, from: number, to: number, visit: (seg: Ref, from: number, to: number) => number): number {
    for (let at = from; at < to;) {
      const seg = this.find(mm, at);
      if (seg === 0) return -ENOMEM;
      const end = Math.min(to, this.end(seg));
      const error = visit(seg, at, end);
      if (error !== 0) return error;
      at = end;
    }
    return 0;
  }

  cutsHugetlb(seg: Ref, from: number, to: number): boolean {
    const size = hugetlbPages(this.arena.get(seg, SEG.backing));
    return size > 1 && (from % size !== 0 || to % size !== 0);
  }

  #split(mm: Ref, seg: Ref, at: number): Ref {
    const right = this.arena.alloc('seg');
    this.arena.i32.copyWithin(right, seg, seg + SEG.WORDS);
    this.hold(right);
    if (!isPrivate(this.arena.get(seg, SEG.backing))) this.arena.set(right, SEG.source, this.key(seg, at));
    this.arena.set(right, SEG.startPage, at);
    this.arena.set(seg, SEG.endPage, at);
    this.insert(mm, right);
    return right;
  }

  /** Makes [from, to), which lies in one segment, a segment of its own. */
  isolate(mm: Ref, from: number, to: number): Ref {
    let seg = this.find(mm, from);
    if (this.start(seg) < from) seg = this.#split(mm, seg, from);
    if (this.end(seg) > to) this.#split(mm, seg, to);
    return seg;
  }

  /** Joins a segment with like neighbours. */
  merge(mm: Ref, seg: Ref): void {
    let at = seg;
    const before = this.start(at) > 0 ? this.find(mm, this.start(at) - 1) : 0;
    if (before !== 0 && this.#alike(before, at)) {
      this.arena.set(before, SEG.endPage, this.end(at));
      this.remove(mm, at);
      at = before;
    }
    const after = this.find(mm, this.end(at));
    if (after !== 0 && this.#alike(at, after)) {
      this.arena.set(at, SEG.endPage, this.end(after));
      this.remove(mm, after);
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
  setRange(mm: Ref, from: number, to: number, residency: number, runPages: number): void {
    const seg = this.isolate(mm, from, to);
    this.arena.set(seg, SEG.residency, residency);
    this.arena.set(seg, SEG.runPages, runPages);
    this.merge(mm, seg);
  }

  /** Changes a VMA attribute of [from, to), which lies in one segment; splits huge entries that straddle the ends. */
  setVma(mm: Ref, from: number, to: number, field: number, value: number): void {
    this.splitPmd(mm, from);
    this.splitPmd(mm, to);
    for (let at = from; at < to;) {
      const end = Math.min(to, this.end(this.find(mm, at)));
      const seg = this.isolate(mm, at, end);
      this.arena.set(seg, field, value);
      this.merge(mm, seg);
      at = end;
    }
  }

  /** A boundary inside a granule that a huge entry maps: the entry is replaced by a page table. */
  splitPmd(mm: Ref, at: number): void {
    if (at % GRANULE === 0) return;
    const seg = this.find(mm, at);
    if (seg === 0) return;
    const residency = this.arena.get(seg, SEG.residency);
    if ((residency & Residency.PMD) === 0 || (residency & BASE) === Residency.None) return;
    const granule = roundDown(at, GRANULE);
    this.setRange(mm, granule, granule + GRANULE, residency & BASE, this.runPages(seg));
  }

  /** The granule has a page table now: nothing in it can be mapped huge before all of it has gone. */
  markTable(mm: Ref, granule: number): void {
    const end = granule + GRANULE;
    for (let at = granule; at < end;) {
      const seg = this.findFrom(mm, at);
      if (seg === 0 || this.start(seg) >= end) break;
      const from = Math.max(at, this.start(seg));
      at = Math.min(end, this.end(seg));
      const residency = this.arena.get(seg, SEG.residency);
      if ((residency & Residency.PMD) !== 0) this.setRange(mm, from, at, residency & BASE, this.runPages(seg));
    }
  }

  /** Whether something in the granule of `at` outside [from, to) shows that it has a page table. */
  hasTable(mm: Ref, at: number, from: number, to: number): boolean {
    const granule = roundDown(at, GRANULE);
    for (
      let seg = this.findFrom(mm, granule);
      seg !== 0 && this.start(seg) < granule + GRANULE;
      seg = this.next(mm, seg)
    ) {
      const outside = this.start(seg) < from || this.end(seg) > to;
      if (outside && (this.arena.get(seg, SEG.residency) & Residency.PMD) === 0) return true;
    }
    return false;
  }

  /** The granule of `at` keeps the page table that something in it outside [from, to) shows it to have. */
  inheritTable(mm: Ref, at: number, from: number, to: number): void {
    if (at % GRANULE !== 0 && this.hasTable(mm, at, from, to)) this.markTable(mm, roundDown(at, GRANULE));
  }
}
