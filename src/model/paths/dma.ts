import { ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CHUNK, CONTAINER, DMA, TASK } from '../layout.ts';
import { recordPinned } from '../ledger.ts';
import { getTask, hasCapIpcLock, mmgrab, taskMm } from '../mm.ts';
import { orders } from '../orders.ts';
import type { PinCall } from '../pin-call.ts';
import { S } from '../steps.ts';

/** A mapping that shares a page with [page, page + pages), or 0. vfio_find_dma. */
export function findDma(a: Arena, container: Ref, page: number, pages: number): Ref {
  const index = orders(a).dma;
  const dma = index.atOrBefore(container + CONTAINER.dmaRoot, page + Math.max(pages, 1) - 1);
  if (dma === 0) return 0;
  const first = a.get(dma, DMA.iovaPage);
  const size = a.get(dma, DMA.sizePages);
  return first + size > page ? dma : 0;
}

export interface Checked {
  readonly prot: number;
  readonly setVaddr: boolean;
  readonly iovaPage: number;
  readonly vaddrPage: number;
  readonly pages: number;
  readonly iova: bigint;
  readonly lastIova: bigint;
}

/** The node as vfio_dma_do_map fills it: size 0, and of the caller's identity what the era records. */
export function newDma(k: Ctx, container: Ref, m: Checked): Ref {
  const a = k.arena;
  const v = k.variant;
  const dma = a.alloc('dma');
  a.set(dma, DMA.iovaPage, m.iovaPage);
  a.set(dma, DMA.vaddrPage, m.vaddrPage);
  a.set(dma, DMA.prot, m.prot);
  a.set(dma, DMA.container, container);
  recordIdentity(k, dma);
  if (v.recordsMm) mmgrab(a, a.get(dma, DMA.mm));
  return dma;
}

/** Task, capability and mm of `current`, as far as the era keeps them. References to the task are taken. */
export function recordIdentity(k: Ctx, dma: Ref): void {
  const a = k.arena;
  const v = k.variant;
  if (v.recordsTask !== 'none') {
    const task = v.recordsTask === 'leader' ? a.get(k.current, TASK.groupLeader) : k.current;
    getTask(a, task);
    a.set(dma, DMA.task, task);
  }
  if (v.recordsCap) a.set(dma, DMA.lockCap, hasCapIpcLock(a, k.current) ? 1 : 0);
  if (v.recordsMm) a.set(dma, DMA.mm, taskMm(a, k.current));
}

export function linkDma(a: Arena, container: Ref, dma: Ref): void {
  orders(a).dma.insert(container + CONTAINER.dmaRoot, dma);
  a.add(container, CONTAINER.dmaCount, 1);
  a.add(container, CONTAINER.dmaAvail, -1);
}

/** vfio_iommu_map: `pages` pages at `iovaPage` into so many domains, in the largest entries that fit. */
export function* iommuMap(k: Ctx, domains: number, iovaPage: number, pages: number): Path<number> {
  if (k.inject('iommu_map')) return -ENOMEM;
  for (let d = 0; d < domains; d += 1) {
    const { small, large } = entries(iovaPage, pages);
    if (large > 0 && k.atMany(S.IommuMap2M, 0, large)) yield;
    if (small > 0 && k.atMany(S.IommuMap4K, 0, small)) yield;
  }
  return 0;
}

/** How many 4 KiB and 2 MiB entries a physically contiguous, aligned run needs. */
export function entries(iovaPage: number, pages: number): { small: number; large: number } {
  const head = Math.min(pages, (512 - (iovaPage % 512)) % 512);
  const large = Math.floor((pages - head) / 512);
  return { small: pages - large * 512, large };
}

/** What the IOMMU now translates, and with it what an unmap will find; merged with its neighbour where alike. */
export function recordChunk(a: Arena, call: PinCall, pages: number): void {
  const { dma } = call;
  const index = orders(a).chunk;
  const counted = call.reserved ? 0 : 1;
  if (counted === 1) recordPinned(a, dma, call.mm, pages);
  const last = index.atOrBefore(dma + DMA.chunks, call.iovaPage);
  if (last !== 0 && a.get(last, CHUNK.counted) === counted) {
    const have = a.get(last, CHUNK.pages);
    const run = a.get(last, CHUNK.runPages);
    // Alike when every run so far had this length; the last run of a mapping may be shorter.
    if (have % run === 0 && (pages === run || (pages < run && pages === call.remaining))) {
      a.set(last, CHUNK.pages, have + pages);
      return;
    }
  }
  const chunk = a.alloc('chunk');
  a.set(chunk, CHUNK.startPage, call.iovaPage);
  a.set(chunk, CHUNK.pages, pages);
  a.set(chunk, CHUNK.runPages, pages);
  a.set(chunk, CHUNK.counted, counted);
  index.insert(dma + DMA.chunks, chunk);
}
