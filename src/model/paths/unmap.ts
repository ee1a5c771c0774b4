/**
 * VFIO_IOMMU_UNMAP_DMA: vfio_dma_do_unmap, vfio_remove_dma and vfio_unmap_unpin.
 * Source: drivers/vfio/vfio_iommu_type1.c, 4.8 to 6.12.
 */
import { EBUSY, EINVAL, EOVERFLOW } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import {
  lastByte,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  UNMAP_FLAG_GET_DIRTY_BITMAP,
  UNMAP_FLAG_VADDR,
  type UnmapArgs,
} from '../ioctl-args.ts';
import { CHUNK, CONTAINER, DMA, TASK } from '../layout.ts';
import { putPages, setLedgerMm } from '../ledger.ts';
import { mmdrop, putTask, taskMm } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { orders } from '../orders.ts';
import { freeNodes } from '../pfn-list.ts';
import { S } from '../steps.ts';
import { entries, findDma } from './dma.ts';
import { notifyUnmap } from './notify.ts';
import { invalidateVaddr, wakeVaddrWaiters } from './vaddr.ts';

const PAGE_MASK = 0xfffn;
const LAST_PAGE = 2 ** 52;

/** 0 or a negative errno. */
export function* vfioDmaDoUnmap(k: Ctx, container: Ref, args: UnmapArgs): Path<number> {
  const v = k.variant;
  if (v.unmapDma) return yield* v.unmapDma(k, container, args);
  if (k.at(S.CopyFromUser, 0)) yield;
  const known = v.vaddrUpdate ? UNMAP_FLAG_GET_DIRTY_BITMAP | UNMAP_FLAG_ALL | UNMAP_FLAG_VADDR : 0;
  if (args.argsz < UNMAP_ARGSZ || (args.flags & ~known) !== 0) return -EINVAL;
  // Dirty tracking needs a bitmap and an IOMMU that logs, neither of which is modelled.
  if ((args.flags & UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0) return -EINVAL;
  yield* mutexLock(k, container);
  const ret = yield* unmapLocked(k, container, args);
  yield* mutexUnlock(k, container);
  return ret;
}

function* unmapLocked(k: Ctx, container: Ref, args: UnmapArgs): Path<number> {
  const a = k.arena;
  const v = k.variant;
  const all = (args.flags & UNMAP_FLAG_ALL) !== 0;
  const invalidate = (args.flags & UNMAP_FLAG_VADDR) !== 0;
  if (invalidate && v.invalidVaddr === 'busy' && a.get(container, CONTAINER.externalGroups) !== 0) return -EBUSY;
  if ((args.iova & PAGE_MASK) !== 0n) return -EINVAL;
  let pages: number;
  if (all) {
    if (args.iova !== 0n || args.size !== 0n) return -EINVAL;
    pages = LAST_PAGE;
  } else {
    if (args.size === 0n || (args.size & PAGE_MASK) !== 0n) return -EINVAL;
    if (lastByte(args.iova, args.size) === null) return v.overflowErrors ? -EOVERFLOW : -EINVAL;
    pages = Number(args.size >> 12n);
  }
  const start = Number(args.iova >> 12n);
  const end = start + pages;
  // iova + size of exactly 2^64 is 0 in the kernel's lookup, which then finds nothing (up to 6.18). The test for a
  // mapping cut at the start of the request is made all the same.
  const nothing = !all && end === LAST_PAGE && !v.overflowErrors;

  if (a.get(container, CONTAINER.v2) === 1 && !all) {
    if (k.at(S.FindDma, container)) yield;
    const first = findDma(a, container, start, 1);
    if (first !== 0 && a.get(first, DMA.iovaPage) !== start) return -EINVAL;
    const last = findDma(a, container, end - 1, 1);
    if (last !== 0 && endPage(a, last) !== end) return -EINVAL;
  }
  if (nothing) {
    args.unmapped = 0n;
    return 0;
  }
  return yield* removeRange(k, container, args, { start, end, all, invalidate });
}

function endPage(a: Arena, dma: Ref): number {
  return a.get(dma, DMA.iovaPage) + a.get(dma, DMA.sizePages);
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly all: boolean;
  readonly invalidate: boolean;
}

function* removeRange(k: Ctx, container: Ref, args: UnmapArgs, r: Range): Path<number> {
  const a = k.arena;
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  let unmapped = 0;
  if (k.at(S.FindDma, container)) yield;
  let dma = firstOverlap(a, container, r.start);
  let retries = 0;
  const invalidated: Ref[] = [];
  while (dma !== 0) {
    const iovaPage = a.get(dma, DMA.iovaPage);
    if (iovaPage >= r.end) break;
    // v1: a request that begins inside a mapping ends here, with what has been removed so far.
    if (a.get(container, CONTAINER.v2) === 0 && !r.all && r.start > iovaPage) break;
    if (k.variant.foreignUnmap === 'stops') {
      const task = a.get(dma, DMA.task);
      if (Atomics.load(a.i32, task + TASK.mm) !== taskMm(a, k.current)) break;
    }
    const size = a.get(dma, DMA.sizePages);
    if (r.invalidate) {
      const err = invalidateVaddr(a, container, dma, invalidated);
      if (err !== 0) return err;
      unmapped += size;
      dma = index.next(root, dma);
      continue;
    }
    if (a.get(dma, DMA.vpfnCount) !== 0) {
      yield* notifyUnmap(k, container, dma, (retries += 1));
      dma = firstOverlap(a, container, r.start);
      continue;
    }
    retries = 0;
    unmapped += size;
    const next = index.next(root, dma);
    yield* removeDma(k, container, dma);
    dma = next;
  }
  args.unmapped = BigInt(unmapped) << 12n;
  return 0;
}

/** The first mapping that ends after `page`. */
function firstOverlap(a: Arena, container: Ref, page: number): Ref {
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  const before = index.atOrBefore(root, page);
  if (before !== 0 && endPage(a, before) > page) return before;
  return index.atOrAfter(root, page);
}

/** vfio_remove_dma: unmap, unpin, un-account, unlink, free. */
export function* removeDma(k: Ctx, container: Ref, dma: Ref): Path<void> {
  const a = k.arena;
  yield* unmapUnpin(k, container, dma, true);
  if (k.at(S.UnlinkDma, container)) yield;
  orders(a).dma.remove(container + CONTAINER.dmaRoot, dma);
  a.add(container, CONTAINER.dmaCount, -1);
  if (a.get(dma, DMA.vaddrInvalid) === 1) {
    a.add(container, CONTAINER.vaddrInvalid, -1);
    wakeVaddrWaiters(k, container);
  }
  if (k.at(S.Kfree, 0)) yield;
  if (k.variant.recordsTask !== 'none') putTask(a, a.get(dma, DMA.task));
  if (k.variant.recordsMm) mmdrop(a, a.get(dma, DMA.mm));
  setLedgerMm(a, 'dma', dma, 0);
  freeNodes(a, dma);
  a.free('dma', dma);
  a.add(container, CONTAINER.dmaAvail, 1);
}

/**
 * vfio_unmap_unpin: everything the IOMMU translates for the mapping is unmapped and put; then one accounting call for
 * all of it, whose result nobody looks at. Returns the countable pages put; `account` false leaves the accounting to
 * the caller.
 */
export function* unmapUnpin(k: Ctx, container: Ref, dma: Ref, account: boolean): Path<number> {
  const a = k.arena;
  if (a.get(container, CONTAINER.domains) === 0) return 0;
  const ledgerMm = a.get(dma, DMA.ledgerMm);
  const pinned = a.get(dma, DMA.ledgerPinned);
  const committed = a.get(dma, DMA.iommuMapped) === 1 ? pinned : 0;
  if (committed > 0 && ledgerMm !== 0) k.oracle.beginRelease(ledgerMm, committed);
  const index = orders(a).chunk;
  const root = dma + DMA.chunks;
  const domains = a.get(container, CONTAINER.domains);
  let put = 0;
  for (let chunk = index.first(root); chunk !== 0; chunk = index.first(root)) {
    const pages = a.get(chunk, CHUNK.pages);
    const run = a.get(chunk, CHUNK.runPages);
    const start = a.get(chunk, CHUNK.startPage);
    const e = run % 512 === 0 ? entries(start, pages) : { small: pages, large: 0 };
    if (e.large > 0 && k.atMany(S.IommuUnmap2M, 0, e.large * domains)) yield;
    if (e.small > 0 && k.atMany(S.IommuUnmap4K, 0, e.small * domains)) yield;
    if (k.at(S.IotlbSync, 0)) yield;
    // Unpinned in bulk, only the first page of a run costs a call of its own.
    const runs = k.variant.bulkUnpin ? Math.ceil(pages / run) : pages;
    if (k.atMany(S.PutPage, 0, runs)) yield;
    if (pages > runs && k.atMany(S.PutPagesBulk, 0, pages - runs)) yield;
    if (a.get(chunk, CHUNK.counted) === 1) put += pages;
    index.remove(root, chunk);
    a.free('chunk', chunk);
  }
  k.count(C.pages_unpinned, put);
  a.set(dma, DMA.ledgerPinned, 0);
  putPages(a, container, put);
  a.set(dma, DMA.iommuMapped, 0);
  if (account) yield* k.variant.acctDma(k, dma, -put);
  if (committed > 0 && ledgerMm !== 0) k.oracle.endRelease(ledgerMm, committed);
  return put;
}
