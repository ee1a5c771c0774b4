/**
 * iopt_pages: pinning for iommufd, and its one accounting action per mapped area.
 * Source: drivers/iommu/iommufd/pages.c in 6.4 and 7.1 (pfn_reader, iopt_area_fill_domain, do_update_pinned).
 *
 * Pages are got in batches of up to 8192 (a page of pointers would hold 512; iommufd takes 64 KiB): in the caller's own address
 * space by the fast path without mmap_sem, in another one under the lock for read, which is kept over all batches. What an
 * object has pinned is counted once, however many areas show it, and charged only when all of it is pinned and mapped.
 *
 * differs: the fast path takes a stretch of memory that is all there or all missing at a time, so a batch ends where it
 * changes; the kernel starts over without the lock for each batch.
 */
import { EFAULT, EINVAL, ENOMEM } from '../../base/errno.ts';
import { FaultCost, type BatchRun, type PageRun } from '../gup-runs.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { CHUNK, CONTAINER, DMA, MM, PAGES, TASK, USER } from '../layout.ts';
import {
  getTask,
  hasCapIpcLock,
  memlockChanges,
  memlockPages,
  mmdrop,
  mmgetNotZero,
  mmgrab,
  mmput,
  putTask,
  putUser,
  taskMm,
} from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { orders } from '../orders.ts';
import { linkHolder, PAGES_HOLDER, unlinkHolder } from '../pins.ts';
import { downRead, downWrite, upRead, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { accountLockedVm } from '../kernels/account.ts';
import { entries, iommuMap } from './map.ts';
import { chargeBatch, chargeFaults } from './pin.ts';

/** Who pays for pinned pages: iopt_pages.account_mode. */
export const AccountMode = { User: 0, Mm: 1, None: 2 } as const;
export type AccountMode = (typeof AccountMode)[keyof typeof AccountMode];

/** Pages one GUP call is asked for at most. */
export const BATCH_PAGES = 8192;

const mmOf = (a: Arena, object: Ref): Ref => a.i32[object + PAGES.sourceMm] as number;
const modeOf = (a: Arena, object: Ref): AccountMode => a.i32[object + PAGES.mode] as AccountMode;
const npinned = (a: Arena, object: Ref): number => a.f64[(object + PAGES.npinned) >> 1] as number;
const startOf = (a: Arena, area: Ref): number => a.f64[(area + DMA.pagesStart) >> 1] as number;
const endOf = (a: Arena, area: Ref): number => startOf(a, area) + (a.f64[(area + DMA.sizePages) >> 1] as number);

/** The user of an address space. One that was built without gets one here. */
function userOf(a: Arena, mm: Ref): Ref {
  let user = a.i32[mm + MM.user] as number;
  if (user === 0) {
    user = a.alloc('user');
    a.i32[user + USER.refs] = 1;
    a.i32[user + USER.guests] = 1;
    a.i32[mm + MM.user] = user;
  }
  return user;
}

/** Takes the identity of `current` into an object, with references. */
function recordOwner(k: Ctx, object: Ref): void {
  const a = k.arena;
  const mm = taskMm(a, k.current);
  const leader = a.i32[k.current + TASK.groupLeader] as number;
  const user = userOf(a, mm);
  mmgrab(a, mm);
  getTask(a, leader);
  Atomics.add(a.i32, user + USER.refs, 1);
  a.i32[object + PAGES.sourceMm] = mm;
  a.i32[object + PAGES.sourceTask] = leader;
  a.i32[object + PAGES.sourceUser] = user;
}

function dropOwner(a: Arena, mm: Ref, task: Ref, user: Ref): void {
  mmdrop(a, mm);
  putTask(a, task);
  putUser(a, user);
}

/** iopt_alloc_pages, with one reference. A creator with CAP_IPC_LOCK pays nothing, nor does anybody else for it. */
export function pagesNew(
  k: Ctx,
  startPage: number,
  pages: number,
  o: { readonly writable: boolean; readonly file: boolean; readonly mode: AccountMode },
): Ref {
  const a = k.arena;
  const rules = k.variant.iommufd;
  const object = a.alloc('pages');
  a.f64[(object + PAGES.startPage) >> 1] = startPage;
  a.f64[(object + PAGES.sizePages) >> 1] = pages;
  a.i32[object + PAGES.writable] = o.writable ? 1 : 0;
  a.i32[object + PAGES.file] = o.file ? 1 : 0;
  a.i32[object + PAGES.refs] = 1;
  const free = hasCapIpcLock(a, k.current) || rules?.account === 'none';
  a.i32[object + PAGES.mode] = free ? AccountMode.None : rules?.account === 'mm' ? AccountMode.Mm : o.mode;
  recordOwner(k, object);
  if (!o.file) linkHolder(a, PAGES_HOLDER, mmOf(a, object), object);
  return object;
}

export function pagesPut(k: Ctx, object: Ref): void {
  const a = k.arena;
  if (Atomics.sub(a.i32, object + PAGES.refs, 1) !== 1) return;
  if (a.i32[object + PAGES.file] === 0) unlinkHolder(a, PAGES_HOLDER, mmOf(a, object), object);
  dropOwner(a, mmOf(a, object), a.i32[object + PAGES.sourceTask] as number, a.i32[object + PAGES.sourceUser] as number);
  a.free('pages', object);
}

/** A fill in progress: whether mmap_sem of a foreign source is held, and its mm reference. */
interface Reader {
  readonly mm: Ref;
  readonly remote: boolean;
  entered: boolean;
  locked: boolean;
}

/**
 * iopt_area_fill_domain: every page the area shows is pinned unless another area has it already, and mapped; then what was
 * pinned is charged. 0 or a negative errno, with nothing changed.
 */
export function* fillArea(k: Ctx, container: Ref, area: Ref): Path<number> {
  const a = k.arena;
  const object = a.i32[area + DMA.pages] as number;
  yield* mutexLock(k, object, PAGES);
  const mm = mmOf(a, object);
  const reader: Reader = { mm, remote: mm !== taskMm(a, k.current), entered: false, locked: false };
  const first = startOf(a, area);
  const asked = endOf(a, area) - first;
  const before = npinned(a, object);
  const inLockedVm = modeOf(a, object) === AccountMode.Mm;
  const source = a.i32[object + PAGES.sourceTask] as number;
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
    a.i32[area + DMA.iommuMapped] = 1;
    a.i32[area + DMA.nextArea] = a.i32[object + PAGES.areas] as number;
    a.i32[object + PAGES.areas] = area;
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
  const iovaPage = a.f64[(area + DMA.iovaPage) >> 1] as number;
  for (let at = first; at < end;) {
    const have = runAt(a, object, at);
    let to = have;
    if (have === at) {
      const next = index.atOrAfter(root, at);
      const holeEnd = next === 0 ? end : Math.min(end, a.f64[(next + CHUNK.startPage) >> 1] as number);
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
  return Math.max(at, (a.f64[(run + CHUNK.startPage) >> 1] as number) + (a.f64[(run + CHUNK.pages) >> 1] as number));
}

/** One GUP call for up to `max` pages from page `at` of the object. Pages pinned, or -EFAULT. */
function* pinBatch(k: Ctx, object: Ref, at: number, max: number, reader: Reader): Path<number> {
  const a = k.arena;
  const { mm } = reader;
  const as = k.addressSpace;
  const page = (a.f64[(object + PAGES.startPage) >> 1] as number) + at;
  const write = a.i32[object + PAGES.writable] === 1;
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
  a.f64[(object + PAGES.npinned) >> 1] = npinned(a, object) + taken;
  k.count(C.pages_pinned, taken);
  k.oracle.iommufdPinned(mm, ...expense(a, object), taken);
  return taken;
}

/** Whose expense an object's pages are: the user to charge, and whether they belong in locked_vm. */
function expense(a: Arena, object: Ref): [user: Ref, inLockedVm: boolean] {
  const mode = modeOf(a, object);
  return [mode === AccountMode.User ? (a.i32[object + PAGES.sourceUser] as number) : 0, mode === AccountMode.Mm];
}

/** Notes physically contiguous runs as pinned; runs of equal length are one record. */
function recordRuns(a: Arena, object: Ref, start: number, pages: number, times: number): void {
  const index = orders(a).chunk;
  const root = object + PAGES.runs;
  const last = index.atOrBefore(root, start);
  if (last !== 0) {
    const at = (last + CHUNK.pages) >> 1;
    const have = a.f64[at] as number;
    const end = (a.f64[(last + CHUNK.startPage) >> 1] as number) + have;
    if (end === start && a.i32[last + CHUNK.runPages] === pages && have % pages === 0) {
      a.f64[at] = have + pages * times;
      return;
    }
  }
  addRun(a, object, start, pages * times, pages);
}

function addRun(a: Arena, object: Ref, start: number, pages: number, runPages: number): void {
  const run = a.alloc('chunk');
  a.f64[(run + CHUNK.startPage) >> 1] = start;
  a.f64[(run + CHUNK.pages) >> 1] = pages;
  a.i32[run + CHUNK.runPages] = runPages;
  a.i32[run + CHUNK.counted] = 1;
  orders(a).chunk.insert(object + PAGES.runs, run);
}

/** Maps pinned pages [from, to) of the object. 0 or a negative errno. */
function* mapRuns(k: Ctx, container: Ref, object: Ref, from: number, to: number, iovaPage: number): Path<number> {
  const a = k.arena;
  const small = k.variant.iommufd?.compat === true && a.i32[container + CONTAINER.v2] === 0;
  const domains = a.i32[container + CONTAINER.domains] as number;
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
    const start = a.f64[(run + CHUNK.startPage) >> 1] as number;
    if (start >= to) break;
    const end = start + (a.f64[(run + CHUNK.pages) >> 1] as number);
    if (end <= from) continue;
    out.push({ from: Math.max(from, start), to: Math.min(to, end), runPages: a.i32[run + CHUNK.runPages] as number });
  }
  return out;
}

/** The parts of an area that no other area of the object has mapped. */
function uncovered(a: Arena, object: Ref, area: Ref): [from: number, to: number][] {
  const others: [number, number][] = [];
  for (let o = a.i32[object + PAGES.areas] as number; o !== 0; o = a.i32[o + DMA.nextArea] as number) {
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
      const start = a.f64[(run + CHUNK.startPage) >> 1] as number;
      const end = start + (a.f64[(run + CHUNK.pages) >> 1] as number);
      index.remove(object + PAGES.runs, run);
      a.free('chunk', run);
      if (start < span.from) addRun(a, object, start, span.from - start, span.runPages);
      if (end > span.to) addRun(a, object, span.to, end - span.to, span.runPages);
      put += pages;
      a.f64[(object + PAGES.npinned) >> 1] = npinned(a, object) - pages;
      k.count(C.pages_unpinned, pages);
      k.oracle.iommufdPinned(mmOf(a, object), ...expense(a, object), -pages);
    }
  }
  return put;
}

/** iopt_area_unfill_domain: out of the domain, unpinned unless another area needs the pages, and uncharged. */
export function* unfillArea(k: Ctx, area: Ref): Path<void> {
  const a = k.arena;
  if (a.i32[area + DMA.iommuMapped] === 0) return;
  const object = a.i32[area + DMA.pages] as number;
  yield* mutexLock(k, object, PAGES);
  for (let at = object + PAGES.areas; a.i32[at] !== 0; at = (a.i32[at] as number) + DMA.nextArea) {
    if (a.i32[at] !== area) continue;
    a.i32[at] = a.i32[area + DMA.nextArea] as number;
    break;
  }
  a.i32[area + DMA.iommuMapped] = 0;
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

/** pfn_reader_user_update_pinned and update_unpinned: the difference since the last time, in one action. */
function* updatePinned(k: Ctx, object: Ref, reader: Reader | null): Path<number> {
  const a = k.arena;
  const last = (object + PAGES.lastNpinned) >> 1;
  const npage = npinned(a, object) - (a.f64[last] as number);
  if (npage === 0) return 0;
  const mm = mmOf(a, object);
  const ret = yield* charge(k, object, npage, reader);
  if (ret !== 0) return ret;
  a.f64[last] = npinned(a, object);
  yield* addPinnedVm(k, mm, npage);
  return 0;
}

function* addPinnedVm(k: Ctx, mm: Ref, npage: number): Path<void> {
  if (k.at(S.PinnedVmAtomic, mm)) yield;
  Atomics.add(k.arena.u64, (mm + MM.pinnedVm) >> 1, BigInt.asUintN(64, BigInt(npage)));
}

/** do_update_pinned without pinned_vm, for the object's owner. 0, -ENOMEM over the limit, -EINVAL where the mm is gone. */
function* charge(k: Ctx, object: Ref, npage: number, reader: Reader | null): Path<number> {
  const a = k.arena;
  const mode = modeOf(a, object);
  if (mode === AccountMode.None) return 0;
  const task = a.i32[object + PAGES.sourceTask] as number;
  if (mode === AccountMode.User) {
    return yield* chargeUser(k, a.i32[object + PAGES.sourceUser] as number, mmOf(a, object), task, npage);
  }
  return yield* chargeMm(k, mmOf(a, object), task, npage, reader);
}

/** incr_user_locked_vm and decr_user_locked_vm: a compare-and-exchange loop against the limit of the source task. */
function* chargeUser(k: Ctx, user: Ref, mm: Ref, task: Ref, npage: number): Path<number> {
  const a = k.arena;
  const word = (user + USER.lockedVm) >> 1;
  if (npage < 0) {
    if (k.at(S.LockedVmAtomic, user)) yield;
    // The kernel warns and leaves the count alone when it would go below zero.
    if (Atomics.load(a.u64, word) < BigInt(-npage)) return 0;
    Atomics.sub(a.u64, word, BigInt(-npage));
    k.oracle.userCharged(user, mm, npage, 0n);
    return 0;
  }
  const limit = memlockPages(a, task);
  for (;;) {
    if (k.at(S.LockedVmRead, user)) yield;
    const seen = Atomics.load(a.u64, word);
    if (seen + BigInt(npage) > limit) {
      k.count(C.limit_refusals, 1);
      k.oracle.userRefused(user, mm, npage, limit);
      return -ENOMEM;
    }
    if (k.at(S.LockedVmCmpxchg, user)) yield;
    if (Atomics.compareExchange(a.u64, word, seen, seen + BigInt(npage)) !== seen) continue;
    k.oracle.userCharged(user, mm, npage, limit);
    return 0;
  }
}

/** update_mm_locked_vm: mmap_sem for write, not killable; a read lock the reader holds is given up first. */
function* chargeMm(k: Ctx, mm: Ref, task: Ref, npage: number, reader: Reader | null): Path<number> {
  const a = k.arena;
  let put = false;
  if (reader?.locked === true) {
    yield* upRead(k, mm);
    reader.locked = false;
  } else if (reader?.entered !== true && mm !== taskMm(a, k.current)) {
    if (!(yield* mmgetNotZero(k, mm))) return -EINVAL;
    put = true;
  }
  yield* downWrite(k, mm);
  const ret = yield* accountLockedVm(k, mm, npage, task, false);
  yield* upWrite(k, mm);
  if (put) {
    yield* mmput(k, mm);
  }
  return ret;
}

/** IOMMU_IOAS_CHANGE_PROCESS: all objects charged to `current`, then taken from their owners. 0 or -ENOMEM, undone. */
export function* changeOwners(k: Ctx, objects: readonly Ref[]): Path<number> {
  const a = k.arena;
  const mm = taskMm(a, k.current);
  const task = a.i32[k.current + TASK.groupLeader] as number;
  const user = userOf(a, mm);
  const moving = objects.filter((o) => modeOf(a, o) !== AccountMode.None && mmOf(a, o) !== mm);
  const chargeCurrent = (o: Ref, npage: number): Path<number> =>
    modeOf(a, o) === AccountMode.User ? chargeUser(k, user, mm, task, npage) : chargeMm(k, mm, task, npage, null);
  const charged: Ref[] = [];
  for (const o of moving) {
    const ret = yield* chargeCurrent(o, npinned(a, o));
    if (ret !== 0) {
      for (const c of charged) yield* chargeCurrent(c, -npinned(a, c));
      return ret;
    }
    charged.push(o);
  }
  for (const o of moving) {
    const n = npinned(a, o);
    const [from, fromTask, fromUser] = [
      mmOf(a, o),
      a.i32[o + PAGES.sourceTask] as number,
      a.i32[o + PAGES.sourceUser] as number,
    ];
    yield* charge(k, o, -n, null);
    yield* addPinnedVm(k, from, -n);
    k.oracle.iommufdPinned(from, ...expense(a, o), -n);
    recordOwner(k, o);
    yield* addPinnedVm(k, mm, n);
    k.oracle.iommufdPinned(mm, ...expense(a, o), n);
    if (modeOf(a, o) === AccountMode.Mm) k.oracle.move(from, mm, n);
    dropOwner(a, from, fromTask, fromUser);
  }
  return 0;
}
