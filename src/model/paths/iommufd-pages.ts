/**
 * iopt_pages: pinning for iommufd, and its one accounting action per mapped area.
 * Source: drivers/iommu/iommufd/pages.c in 6.4 and 7.1 (pfn_reader, iopt_area_fill_domain, do_update_pinned).
 *
 * Pages are got in batches of up to 8192 (a page of pointers would hold 512; iommufd takes 64 KiB): in the caller's own
 * address space by the fast path without mmap_sem, in another one under the lock for read, which is kept over all
 * batches. What an object has pinned is counted once, however many areas show it, and charged only when all of it is
 * pinned and mapped.
 *
 * differs: the fast path takes a stretch of memory that is all there or all missing at a time, so a batch ends where it
 * changes; the kernel starts over without the lock for each batch.
 */
import { EFAULT, ENOMEM } from '../../base/errno.ts';
import { type BatchRun, FaultCost, type PageRun } from '../address-space/gup-runs.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { CHUNK, CONTAINER, DMA, PAGES } from '../layout.ts';
import { memlockChanges, memlockPages, mmgetNotZero, mmput, taskMm } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { orders } from '../orders.ts';
import { downRead, upRead } from '../rwsem.ts';
import { S } from '../steps.ts';
import { entries, iommuMap } from './dma.ts';
import { updatePinned } from './iommufd-account.ts';
import { AccountMode, endOf, expense, mmOf, modeOf, npinned, type Reader, startOf } from './iommufd-object.ts';
import { chargeBatch, chargeFaults } from './pin.ts';

/** Pages one GUP call is asked for at most. */
export const BATCH_PAGES = 8192;

/**
 * iopt_area_fill_domain: every page the area shows is pinned unless another area has it already, and mapped; then what
 * was pinned is charged. 0 or a negative errno, with nothing changed.
 */
export function* fillArea(k: Ctx, container: Ref, area: Ref): Path<number> {
  const a = k.arena;
  const object = a.get(area, DMA.pages);
  yield* mutexLock(k, object, PAGES);
  const mm = mmOf(a, object);
  const reader: Reader = { mm, remote: mm !== taskMm(a, k.current), entered: false, locked: false };
  const first = startOf(a, area);
  const asked = endOf(a, area) - first;
  const before = npinned(a, object);
  const inLockedVm = modeOf(a, object) === AccountMode.Mm;
  const source = a.get(object, PAGES.sourceTask);
  const limit = memlockPages(a, source);
  const changes = memlockChanges(a, source);
  const began = inLockedVm ? k.oracle.begin(mm, asked, limit) : 0;
  let ret = yield* fillPages(k, container, object, area, reader);
  if (ret === 0) ret = yield* updatePinned(k, object, reader);
  if (reader.locked) {
    yield* upRead(k, mm);
  }
  if (reader.entered) {
    yield* mmput(k, mm);
  }
  if (ret === 0) {
    a.set(area, DMA.iommuMapped, 1);
    a.set(area, DMA.nextArea, a.get(object, PAGES.areas));
    a.set(object, PAGES.areas, area);
  } else {
    yield* unpin(k, object, uncovered(a, object, area), true);
  }
  if (inLockedVm)
    k.oracle.end(mm, asked, npinned(a, object) - before, limit, memlockChanges(a, source) !== changes, began);
  yield* mutexUnlock(k, object, PAGES);
  return ret;
}

function* fillPages(k: Ctx, container: Ref, object: Ref, area: Ref, reader: Reader): Path<number> {
  const a = k.arena;
  const index = orders(a).chunk;
  const root = object + PAGES.runs;
  const first = startOf(a, area);
  const end = endOf(a, area);
  const iovaPage = a.get(area, DMA.iovaPage);
  for (let at = first; at < end;) {
    const have = runAt(a, object, at);
    let to = have;
    if (have === at) {
      const next = index.atOrAfter(root, at);
      const holeEnd = next === 0 ? end : Math.min(end, a.get(next, CHUNK.startPage));
      const got = yield* pinBatch(k, object, at, Math.min(holeEnd - at, BATCH_PAGES), reader);
      if (got < 0) return got;
      to = at + got;
    }
    to = Math.min(to, end);
    const err = yield* mapRuns(k, container, object, at, to, iovaPage + at - first);
    if (err !== 0) return err;
    at = to;
  }
  return 0;
}

/** Where the pinned run that holds page `at` of the object ends; `at` if it is not pinned. */
function runAt(a: Arena, object: Ref, at: number): number {
  const run = orders(a).chunk.atOrBefore(object + PAGES.runs, at);
  if (run === 0) return at;
  return Math.max(at, a.get(run, CHUNK.startPage) + a.get(run, CHUNK.pages));
}

/** One GUP call for up to `max` pages from page `at` of the object. Pages pinned, or -EFAULT. */
function* pinBatch(k: Ctx, object: Ref, at: number, max: number, reader: Reader): Path<number> {
  const a = k.arena;
  const { mm } = reader;
  const as = k.addressSpace;
  const page = a.get(object, PAGES.startPage) + at;
  const write = a.get(object, PAGES.writable) === 1;
  const runs: BatchRun[] = [];
  const cost = new FaultCost();
  let got: number;
  if (reader.remote) {
    if (!reader.entered) {
      if (!(yield* mmgetNotZero(k, mm))) return -EFAULT;
      reader.entered = true;
    }
    if (!reader.locked) {
      yield* downRead(k, mm);
      reader.locked = true;
    }
    if (k.at(S.GupBatch, mm)) yield;
    got = as.gupBatch(mm, page, max, write, runs, cost);
    if (cost.faults > 0) yield* chargeFaults(k, mm, cost);
    yield* chargeBatch(k, mm, runs, S.GupBatchPage);
  } else {
    if (k.at(S.GupBatch, 0)) yield;
    const run: PageRun = { pages: 0, reserved: false, blockEnd: 0 };
    const there = as.resident(mm, page, max, write, run);
    if (there > 0) {
      got = as.gupBatch(mm, page, there, write, runs, cost);
      yield* chargeBatch(k, mm, runs, S.GupFast);
    } else {
      // The slow half of the fast path: what is missing is faulted in under the lock.
      yield* downRead(k, mm);
      got = as.gupBatch(mm, page, max, write, runs, cost);
      if (cost.faults > 0) yield* chargeFaults(k, mm, cost);
      yield* chargeBatch(k, mm, runs, S.GupBatchPage);
      yield* upRead(k, mm);
    }
  }
  if (got < 0) return got;
  if (k.atMany(S.IommufdPage, 0, got)) yield;
  let taken = 0;
  for (const { pages, times, reserved } of runs) {
    // Device memory cannot be pinned this way.
    if (reserved) break;
    recordRuns(a, object, at + taken, pages, times);
    taken += pages * times;
  }
  if (taken === 0) return -EFAULT;
  a.set(object, PAGES.npinned, npinned(a, object) + taken);
  k.count(C.pages_pinned, taken);
  k.oracle.iommufdPinned(mm, ...expense(a, object), taken);
  return taken;
}

/** Notes physically contiguous runs as pinned; runs of equal length are one record. */
function recordRuns(a: Arena, object: Ref, start: number, pages: number, times: number): void {
  const index = orders(a).chunk;
  const root = object + PAGES.runs;
  const last = index.atOrBefore(root, start);
  if (last !== 0) {
    const have = a.get(last, CHUNK.pages);
    const end = a.get(last, CHUNK.startPage) + have;
    if (end === start && a.get(last, CHUNK.runPages) === pages && have % pages === 0) {
      a.set(last, CHUNK.pages, have + pages * times);
      return;
    }
  }
  addRun(a, object, start, pages * times, pages);
}

function addRun(a: Arena, object: Ref, start: number, pages: number, runPages: number): void {
  const run = a.alloc('chunk');
  a.set(run, CHUNK.startPage, start);
  a.set(run, CHUNK.pages, pages);
  a.set(run, CHUNK.runPages, runPages);
  a.set(run, CHUNK.counted, 1);
  orders(a).chunk.insert(object + PAGES.runs, run);
}

/** Maps pinned pages [from, to) of the object. 0 or a negative errno. */
function* mapRuns(k: Ctx, container: Ref, object: Ref, from: number, to: number, iovaPage: number): Path<number> {
  const a = k.arena;
  const small = k.variant.iommufd?.compat === true && a.get(container, CONTAINER.v2) === 0;
  const domains = a.get(container, CONTAINER.domains);
  for (const span of spans(a, object, from, to)) {
    if (!small && span.runPages % 512 === 0) {
      const err = yield* iommuMap(k, domains, iovaPage + span.from - from, span.to - span.from);
      if (err !== 0) return err;
    } else {
      if (k.inject('iommu_map')) return -ENOMEM;
      if (k.atMany(S.IommuMap4K, 0, span.to - span.from)) yield;
    }
  }
  return 0;
}

interface Span {
  readonly from: number;
  readonly to: number;
  readonly runPages: number;
}

/** The pinned records within [from, to). */
function spans(a: Arena, object: Ref, from: number, to: number): Span[] {
  const index = orders(a).chunk;
  const root = object + PAGES.runs;
  const out: Span[] = [];
  let run = index.atOrBefore(root, from);
  if (run === 0) run = index.atOrAfter(root, from);
  for (; run !== 0; run = index.next(root, run)) {
    const start = a.get(run, CHUNK.startPage);
    if (start >= to) break;
    const end = start + a.get(run, CHUNK.pages);
    if (end <= from) continue;
    out.push({ from: Math.max(from, start), to: Math.min(to, end), runPages: a.get(run, CHUNK.runPages) });
  }
  return out;
}

/** The parts of an area that no other area of the object has mapped. */
function uncovered(a: Arena, object: Ref, area: Ref): [from: number, to: number][] {
  const others: [number, number][] = [];
  for (let o = a.get(object, PAGES.areas); o !== 0; o = a.get(o, DMA.nextArea)) {
    if (o !== area) others.push([startOf(a, o), endOf(a, o)]);
  }
  others.sort(([x], [y]) => x - y);
  const out: [number, number][] = [];
  let at = startOf(a, area);
  const end = endOf(a, area);
  for (const [from, to] of others) {
    if (to <= at) continue;
    if (from >= end) break;
    if (from > at) out.push([at, from]);
    at = to;
  }
  if (at < end) out.push([at, end]);
  return out;
}

/** Unmaps and unpins what is pinned within `parts`. Pages put. */
function* unpin(
  k: Ctx,
  object: Ref,
  parts: readonly (readonly [from: number, to: number])[],
  unmap: boolean,
): Path<number> {
  const a = k.arena;
  const index = orders(a).chunk;
  let put = 0;
  for (const [from, to] of parts) {
    for (const span of spans(a, object, from, to)) {
      const pages = span.to - span.from;
      const e = span.runPages % 512 === 0 ? entries(span.from, pages) : { small: pages, large: 0 };
      if (unmap && e.large > 0 && k.atMany(S.IommuUnmap2M, 0, e.large)) yield;
      if (unmap && e.small > 0 && k.atMany(S.IommuUnmap4K, 0, e.small)) yield;
      if (unmap && k.at(S.IotlbSync, 0)) yield;
      if (k.atMany(S.PutPage, 0, pages)) yield;
      const run = index.atOrBefore(object + PAGES.runs, span.from);
      const start = a.get(run, CHUNK.startPage);
      const end = start + a.get(run, CHUNK.pages);
      index.remove(object + PAGES.runs, run);
      a.free('chunk', run);
      if (start < span.from) addRun(a, object, start, span.from - start, span.runPages);
      if (end > span.to) addRun(a, object, span.to, end - span.to, span.runPages);
      put += pages;
      a.set(object, PAGES.npinned, npinned(a, object) - pages);
      k.count(C.pages_unpinned, pages);
      k.oracle.iommufdPinned(mmOf(a, object), ...expense(a, object), -pages);
    }
  }
  return put;
}

/** iopt_area_unfill_domain: out of the domain, unpinned unless another area needs the pages, and uncharged. */
export function* unfillArea(k: Ctx, area: Ref): Path<void> {
  const a = k.arena;
  if (a.get(area, DMA.iommuMapped) === 0) return;
  const object = a.get(area, DMA.pages);
  yield* mutexLock(k, object, PAGES);
  for (let at = object + PAGES.areas; a.i32[at] !== 0; at = (a.i32[at] as number) + DMA.nextArea) {
    if (a.i32[at] !== area) continue;
    a.i32[at] = a.get(area, DMA.nextArea);
    break;
  }
  a.set(area, DMA.iommuMapped, 0);
  const mm = mmOf(a, object);
  const inLockedVm = modeOf(a, object) === AccountMode.Mm;
  const parts = uncovered(a, object, area);
  const pages = parts.reduce(
    (n, [from, to]) => n + spans(a, object, from, to).reduce((m, s) => m + s.to - s.from, 0),
    0,
  );
  if (inLockedVm) k.oracle.beginRelease(mm, pages);
  const put = yield* unpin(k, object, parts, true);
  const kept = endOf(a, area) - startOf(a, area) - put;
  if (kept > 0 && k.atMany(S.IommuUnmap4K, 0, kept)) yield;
  yield* updatePinned(k, object, null);
  if (inLockedVm) k.oracle.endRelease(mm, pages);
  yield* mutexUnlock(k, object, PAGES);
}
