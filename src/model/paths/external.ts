/**
 * Pages pinned by mdev drivers: vfio_pin_pages and vfio_unpin_pages, from vfio.c down to vfio_pin_page_external.
 * Source: drivers/vfio/vfio.c and vfio_iommu_type1.c, 4.10-rc1 to 7.1.
 *
 * A page that is pinned already only gets another reference. A new one is charged only while the container has no IOMMU
 * domain, because otherwise its mapping has been charged whole; then each page costs a write acquisition of its own.
 */
import { E2BIG, EACCES, EBUSY, EINVAL, ENODEV, ENOMEM, ENOTTY, EOVERFLOW, EPERM } from '../../base/errno.ts';
import type { BatchRun } from '../address-space/gup-runs.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { CONTAINER, DMA, GROUP, VPFN } from '../layout.ts';
import { holdPages, putPages, setLedgerMm } from '../ledger.ts';
import { exceeds, lockedVm } from '../locked-vm.ts';
import { getTaskMm, hasCapIpcLock, memlockChanges, memlockPages, mmdrop, mmgetNotZero, mmgrab, mmput } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { NO_LIMIT } from '../oracle.ts';
import { orders } from '../orders.ts';
import { findNode, freeNode } from '../pfn-list.ts';
import { newPinCall } from '../pin-call.ts';
import { S } from '../steps.ts';
import { findDma } from './dma.ts';
import { isLocal, refill, vaddrGetPfn } from './pin.ts';
import { waitForVaddr } from './vaddr.ts';

/** VFIO_PIN_PAGES_MAX_ENTRIES. */
export const PIN_PAGES_MAX = 512;

/** What stands behind a group: an IOMMU, or an mdev driver and how it takes the news of an unmap. */
export const MdevDriver = {
  /** No mdev: a device behind an IOMMU. */
  None: 0,
  /** Unpins what it has pinned there, as it must. */
  Unpins: 1,
  /** Does nothing: the kernel gives up in the end. */
  Ignores: 2,
  /** Has not registered for the news at all. */
  Unregistered: 3,
} as const;
export type MdevDriver = (typeof MdevDriver)[keyof typeof MdevDriver];

/** What vfio.c tests for both calls: the group's container, or a negative errno. */
function containerOfGroup(k: Ctx, group: Ref, pages: number): Ref {
  if (pages === 0) return -EINVAL;
  if (pages > PIN_PAGES_MAX) return -E2BIG;
  if (group === 0) return -ENODEV;
  const container = k.arena.get(group, GROUP.container);
  if (container === 0) return -EINVAL;
  if (k.variant.external === null) return -ENOTTY;
  return k.arena.get(container, CONTAINER.v2) === 1 ? container : -EACCES;
}

/**
 * vfio_pin_pages: pins the pages at the given iova page numbers for the mdev driver of `group`, or none of them. `prot`
 * is what the device wants (bit 0 read, bit 1 write). The number of pages, or a negative errno.
 */
export function* vfioPinPages(k: Ctx, group: Ref, iovaPages: readonly number[], prot: number): Path<number> {
  const container = containerOfGroup(k, group, iovaPages.length);
  if (container < 0) return container;
  if (k.variant.overflowErrors && iovaPages.some((page) => page >= 2 ** 52 - 1)) return -EOVERFLOW;
  yield* mutexLock(k, container);
  const ret = yield* pinLocked(k, container, iovaPages, prot);
  yield* mutexUnlock(k, container);
  return ret;
}

function* pinLocked(k: Ctx, container: Ref, iovaPages: readonly number[], prot: number): Path<number> {
  const a = k.arena;
  const notifier = a.get(container, CONTAINER.notifier);
  if (a.get(container, CONTAINER.externalGroups) === 0) return -EINVAL;
  if (notifier !== MdevDriver.Unpins && notifier !== MdevDriver.Ignores) return -EINVAL;
  if (a.get(container, CONTAINER.vaddrInvalid) !== 0) {
    const err = k.variant.invalidVaddr === 'busy' ? -EBUSY : yield* waitForMappings(k, container, iovaPages);
    if (err < 0) return err;
  }
  const account = a.get(container, CONTAINER.domains) === 0;
  let err = 0;
  let done = 0;
  for (; done < iovaPages.length; done += 1) {
    const iovaPage = iovaPages[done] as number;
    if (k.at(S.FindDma, container)) yield;
    const dma = findForPin(k, container, iovaPage);
    if (dma === 0) err = -EINVAL;
    else if ((prot & ~a.get(dma, DMA.prot)) !== 0) err = -EPERM;
    else {
      if (k.at(S.FindVpfn, dma)) yield;
      const node = findNode(a, dma, iovaPage);
      if (node !== 0) a.add(node, VPFN.refCount, 1);
      else err = yield* pinPage(k, container, dma, iovaPage, account);
    }
    if (err < 0) break;
  }
  if (err === 0) return iovaPages.length;
  for (const iovaPage of iovaPages.slice(0, done)) {
    if (k.at(S.FindDma, container)) yield;
    const dma = findForPin(k, container, iovaPage);
    if (dma !== 0) yield* unpinPage(k, container, dma, iovaPage, account);
  }
  return err;
}

/** vfio_find_dma as the pin and unpin calls of the era use it. */
function findForPin(k: Ctx, container: Ref, iovaPage: number): Ref {
  const dma = findDma(k.arena, container, iovaPage, 1);
  if (dma === 0 || k.variant.external?.zeroSizeLookup !== true) return dma;
  return k.arena.get(dma, DMA.iovaPage) === iovaPage ? 0 : dma;
}

/** 5.12 to 6.2: every mapping that is asked for must have its vaddr before the first page is pinned. */
function* waitForMappings(k: Ctx, container: Ref, iovaPages: readonly number[]): Path<number> {
  const a = k.arena;
  for (let i = 0; i < iovaPages.length; i += 1) {
    const dma = findDma(a, container, iovaPages[i] as number, 1);
    if (dma === 0) return -EINVAL;
    if (a.get(dma, DMA.vaddrInvalid) === 0) continue;
    const err = yield* waitForVaddr(k, container);
    if (err < 0) return err;
    i = -1;
  }
  return 0;
}

/** One page that is not pinned yet: got, charged if need be, recorded. 0 or a negative errno. */
function* pinPage(k: Ctx, container: Ref, dma: Ref, iovaPage: number, account: boolean): Path<number> {
  const a = k.arena;
  const rules = k.variant.external as ExternalRules;
  const task = a.get(dma, DMA.task);
  let mm: Ref;
  if (k.variant.recordsMm) {
    mm = a.get(dma, DMA.mm);
    if (!(yield* mmgetNotZero(k, mm))) return -ENODEV;
  } else {
    mm = yield* getTaskMm(k, task);
    if (mm === 0) return -ENODEV;
  }
  // The ledger's own hold on the structure, until it has been told how this ended.
  mmgrab(a, mm);
  const asked = account ? 1 : 0;
  // The process that owns the memory decides, not the caller.
  const bypass = hasCapIpcLock(a, task) || a.get(dma, DMA.lockCap) === 1;
  const limit = memlockPages(a, task);
  const changes = memlockChanges(a, task);
  const began = k.oracle.begin(mm, asked, bypass ? NO_LIMIT : limit);

  let ret = yield* getPage(k, dma, mm, iovaPage, rules);
  const counted = ret === COUNTABLE ? 1 : 0;
  if (counted === 1) holdPages(a, container, mm, 1);
  if (counted === 1 && rules.limitTest !== 'accounting' && (yield* overLimit(k, task, mm, rules))) ret = -ENOMEM;
  if (counted === 1 && ret >= 0 && account) {
    const err = yield* k.variant.acctDma(k, dma, 1);
    if (err < 0) ret = err;
  }
  if (ret < 0 && counted === 1) {
    if (k.at(S.PutPage, mm)) yield;
    putPages(a, container, 1);
  }
  yield* mmput(k, mm);
  if (ret >= 0) k.count(C.pages_pinned, counted);
  if (ret >= 0) ret = yield* addToPfnList(k, container, dma, mm, { iovaPage, counted, account });

  const held = ret === 0 && account ? counted : 0;
  k.oracle.end(mm, asked, held, limit, bypass || memlockChanges(a, task) !== changes, began);
  mmdrop(a, mm);
  return ret;
}

const RESERVED = 0;
const COUNTABLE = 1;

/** vaddr_get_pfn of a single page, under the mapping's own protection. RESERVED, COUNTABLE or a negative errno. */
function* getPage(k: Ctx, dma: Ref, mm: Ref, iovaPage: number, rules: ExternalRules): Path<number> {
  const a = k.arena;
  const call = newPinCall(dma, a.get(dma, DMA.prot));
  call.mm = mm;
  call.local = rules.localGup && isLocal(k, mm);
  const page = a.get(dma, DMA.vaddrPage) + iovaPage - a.get(dma, DMA.iovaPage);
  let reserved: boolean;
  if (k.variant.batched) {
    const batch = { capacityPages: 1, runs: [] as BatchRun[], next: 0, used: 0 };
    const err = yield* refill(k, call, batch, page, 1);
    if (err < 0) return err;
    reserved = (batch.runs[0] as BatchRun).reserved;
  } else {
    const err = yield* vaddrGetPfn(k, call, page, 1, {
      lockedGup: k.variant.lockedGup,
      pfnmapInSection: rules.pfnmapInSection,
    });
    if (err < 0) return err;
    reserved = call.run.reserved;
  }
  if (reserved && rules.structPagesOnly) return -EINVAL;
  return reserved ? RESERVED : COUNTABLE;
}

/** The test of 4.10 and its stable line, which does not ask whether the page will be counted. */
function* overLimit(k: Ctx, task: Ref, mm: Ref, rules: ExternalRules): Path<boolean> {
  const a = k.arena;
  const asker = rules.limitTest === 'current' ? k.current : task;
  if (k.at(rules.limitTest === 'current' ? S.NsCapable : S.HasCapability, asker)) yield;
  const cap = hasCapIpcLock(a, asker);
  if (k.at(S.Rlimit, task)) yield;
  const limit = memlockPages(a, task);
  if (cap) return false;
  if (k.at(S.LockedVmRead, mm)) yield;
  if (!exceeds(lockedVm(a, mm), 1, limit)) return false;
  k.count(C.limit_refusals, 1);
  k.oracle.refused(mm, limit);
  return true;
}

/** vfio_add_to_pfn_list, and what follows when it fails. 0 or -ENOMEM. */
function* addToPfnList(
  k: Ctx,
  container: Ref,
  dma: Ref,
  mm: Ref,
  p: { readonly iovaPage: number; readonly counted: number; readonly account: boolean },
): Path<number> {
  const a = k.arena;
  if (k.at(S.Kmalloc, 0)) yield;
  if (k.inject('vpfn_node')) {
    if (k.variant.external?.nodeFailureLeaks === true) {
      // The unpin routine is called, but it finds pages by their node, and there is none.
      if (k.at(S.FindVpfn, dma)) yield;
      return -ENOMEM;
    }
    if (p.counted === 1) {
      if (k.at(S.PutPage, mm)) yield;
      putPages(a, container, 1);
      k.count(C.pages_unpinned, 1);
      if (p.account) yield* k.variant.acctDma(k, dma, -1);
    }
    return -ENOMEM;
  }
  if (k.at(S.LinkVpfn, dma)) yield;
  const node = a.alloc('vpfn');
  a.set(node, VPFN.iovaPage, p.iovaPage);
  a.set(node, VPFN.refCount, 1);
  a.set(node, VPFN.reserved, p.counted === 1 ? 0 : 1);
  a.set(node, VPFN.vaddrPage, a.get(dma, DMA.vaddrPage) + p.iovaPage - a.get(dma, DMA.iovaPage));
  setLedgerMm(a, 'vpfn', node, mm);
  orders(a).vpfn.insert(dma + DMA.vpfnRoot, node);
  a.add(dma, DMA.vpfnCount, 1);
  return 0;
}

/**
 * vfio_unpin_pages: gives back one reference of each page. The number of pages looked at, up to the first outside any
 * mapping, or a negative errno.
 */
export function* vfioUnpinPages(k: Ctx, group: Ref, iovaPages: readonly number[]): Path<number> {
  const container = containerOfGroup(k, group, iovaPages.length);
  return container < 0 ? container : yield* unpinPages(k, container, iovaPages);
}

/** vfio_iommu_type1_unpin_pages. */
export function* unpinPages(k: Ctx, container: Ref, iovaPages: readonly number[]): Path<number> {
  yield* mutexLock(k, container);
  const account = k.arena.get(container, CONTAINER.domains) === 0;
  let done = 0;
  for (; done < iovaPages.length; done += 1) {
    const iovaPage = iovaPages[done] as number;
    if (k.at(S.FindDma, container)) yield;
    const dma = findForPin(k, container, iovaPage);
    if (dma === 0) break;
    yield* unpinPage(k, container, dma, iovaPage, account);
  }
  yield* mutexUnlock(k, container);
  return done > 0 ? done : -EINVAL;
}

/** vfio_unpin_page_external: the last reference puts the page. */
function* unpinPage(k: Ctx, container: Ref, dma: Ref, iovaPage: number, account: boolean): Path<void> {
  const a = k.arena;
  if (k.at(S.FindVpfn, dma)) yield;
  const node = findNode(a, dma, iovaPage);
  if (node === 0) return;
  const refs = a.get(node, VPFN.refCount) - 1;
  a.set(node, VPFN.refCount, refs);
  if (refs > 0) return;
  const counts = a.get(node, VPFN.reserved) === 0;
  const mm = a.get(node, VPFN.ledgerMm);
  mmgrab(a, mm);
  if (counts && account) k.oracle.beginRelease(mm, 1);
  if (k.at(S.PutPage, mm)) yield;
  if (counts) {
    putPages(a, container, 1);
    k.count(C.pages_unpinned, 1);
  }
  if (k.at(S.UnlinkVpfn, dma)) yield;
  freeNode(a, dma, node);
  if (counts && account) {
    yield* k.variant.acctDma(k, dma, -1);
    k.oracle.endRelease(mm, 1);
  }
  mmdrop(a, mm);
}

/** The pages drivers hold in a mapping, once for each reference. The caller holds the container's lock. */
export function pinnedPages(a: Arena, dma: Ref, into: number[]): void {
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  for (let node = index.first(root); node !== 0; node = index.next(root, node)) {
    const iovaPage = a.get(node, VPFN.iovaPage);
    for (let refs = a.get(node, VPFN.refCount); refs > 0; refs -= 1) into.push(iovaPage);
  }
}

/** A driver gives back everything it holds of a container, as it does when its last device is closed. */
export function* unpinEverything(k: Ctx, container: Ref): Path<void> {
  const a = k.arena;
  const pages: number[] = [];
  yield* mutexLock(k, container);
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  for (let dma = index.first(root); dma !== 0; dma = index.next(root, dma)) pinnedPages(a, dma, pages);
  yield* mutexUnlock(k, container);
  yield* driverUnpins(k, container, pages);
}

/** The driver's calls of vfio_unpin_pages for a list of any length. */
export function* driverUnpins(k: Ctx, container: Ref, pages: readonly number[]): Path<void> {
  for (let from = 0; from < pages.length; from += PIN_PAGES_MAX) {
    yield* unpinPages(k, container, pages.slice(from, from + PIN_PAGES_MAX));
  }
}
