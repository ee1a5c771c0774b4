/**
 * A group joins a container: vfio_iommu_type1_attach_group and vfio_iommu_replay.
 * Source: drivers/vfio/vfio_iommu_type1.c, 4.8 to 6.12.
 *
 * The first group behind an IOMMU turns an mdev-only container into one whose mappings are pinned whole, so the charge
 * moves from the pages drivers hold to all pages. From 4.10 on the pages come from the process that attaches, whoever
 * mapped.
 */
import { EBUSY, EINVAL, EIO, ENOMEM, EPERM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { CHUNK, CONTAINER, DMA, GROUP, VPFN } from '../layout.ts';
import { putPages, setLedgerMm } from '../ledger.ts';
import { hasCapIpcLock, memlockChanges, memlockPages, mmdrop, mmgrab, taskMm } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { NO_LIMIT } from '../oracle.ts';
import { orders } from '../orders.ts';
import { countableNodes, countExternal } from '../pfn-list.ts';
import { S } from '../steps.ts';
import { entries, iommuMap, recordChunk } from './dma.ts';
import { MdevDriver } from './external.ts';
import { startPin } from './map.ts';
import { waitForVaddr } from './vaddr.ts';

/** 0 or a negative errno. The caller is the process that owns the group's descriptor. */
export function* vfioAttachGroup(k: Ctx, container: Ref, group: Ref): Path<number> {
  yield* mutexLock(k, container);
  const ret = yield* attachLocked(k, container, group);
  if (ret === 0) k.arena.set(group, GROUP.container, container);
  yield* mutexUnlock(k, container);
  return ret;
}

function* attachLocked(k: Ctx, container: Ref, group: Ref): Path<number> {
  const a = k.arena;
  const driver = a.get(group, GROUP.driver);
  // An attach may have to pin.
  if (k.variant.invalidVaddr === 'busy' && a.get(container, CONTAINER.vaddrInvalid) !== 0) return -EBUSY;
  if (a.get(group, GROUP.container) !== 0) return -EINVAL;
  if (k.at(S.Kmalloc, 0)) yield;
  if (k.inject('group_node')) return -ENOMEM;
  if (driver !== MdevDriver.None && k.variant.external !== null) {
    a.add(container, CONTAINER.externalGroups, 1);
    a.set(container, CONTAINER.notifier, driver);
    return 0;
  }
  if (k.at(S.AttachGroup, container)) yield;
  // An mdev has no IOMMU to make a domain of; before 4.10 nobody knew what it was.
  if (driver !== MdevDriver.None || k.inject('domain')) return -EIO;
  if (a.get(group, GROUP.unsafe) === 1) return -EPERM;
  const inDomain = domainGroups(a, container, group);
  if (a.i32[inDomain] === 0) {
    const domains = a.get(container, CONTAINER.domains);
    a.set(container, CONTAINER.domains, domains + 1);
    const err = yield* (k.variant.addDomain ?? replay)(k, container);
    if (err < 0) {
      a.set(container, CONTAINER.domains, domains);
      return err;
    }
  }
  a.i32[inDomain] = (a.i32[inDomain] as number) + 1;
  return 0;
}

/** The word that counts the groups of the domain this group can be in. */
export function domainGroups(a: Arena, container: Ref, group: Ref): number {
  return container + (a.get(group, GROUP.iommuKind) === 0 ? CONTAINER.domainGroups0 : CONTAINER.domainGroups1);
}

/** vfio_iommu_replay: brings a new domain up to all mappings, by iova. 0 or a negative errno. */
function* replay(k: Ctx, container: Ref): Path<number> {
  const a = k.arena;
  while (a.get(container, CONTAINER.vaddrInvalid) !== 0) {
    const err = yield* waitForVaddr(k, container);
    if (err < 0) return err;
  }
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  const fresh: { readonly dma: Ref; readonly mms: ReadonlyMap<Ref, number> }[] = [];
  const limit = memlockPages(a, k.current);
  const changes = memlockChanges(a, k.current);
  const bypass = hasCapIpcLock(a, k.current);
  let err = 0;
  for (let dma = index.first(root); dma !== 0 && err === 0; dma = index.next(root, dma)) {
    if (a.get(dma, DMA.iommuMapped) === 1) {
      err = yield* copyTranslations(k, dma);
    } else {
      const mms = new Map<Ref, number>();
      for (const mm of concerned(k, dma)) {
        mmgrab(a, mm);
        mms.set(mm, k.oracle.begin(mm, a.get(dma, DMA.sizePages), bypass ? NO_LIMIT : limit));
      }
      fresh.push({ dma, mms });
      err = yield* replayMapping(k, dma);
      if (err === 0 && !k.variant.replayUnwinds) a.set(dma, DMA.iommuMapped, 1);
    }
  }
  if (err === 0) for (const { dma } of fresh) a.set(dma, DMA.iommuMapped, 1);
  else if (k.variant.replayUnwinds) for (const { dma } of fresh.toReversed()) yield* unwind(k, container, dma);
  else for (const { dma } of fresh) forget(a, dma);

  const changed = memlockChanges(a, k.current) !== changes;
  for (const { dma, mms } of fresh) {
    if (err === 0) for (const node of countableNodes(a, dma)) k.oracle.recommit(a.get(node, VPFN.ledgerMm), -1);
    const held = a.get(dma, DMA.ledgerPinned);
    const pinnedFrom = a.get(dma, DMA.ledgerMm);
    for (const [mm, began] of mms) {
      const asked = a.get(dma, DMA.sizePages);
      k.oracle.end(mm, asked, mm === pinnedFrom ? held : 0, limit, bypass || changed, began);
      mmdrop(a, mm);
    }
  }
  return err;
}

/** The address spaces a replay of the mapping may pin from or charge. */
function concerned(k: Ctx, dma: Ref): Ref[] {
  const a = k.arena;
  const task = a.get(dma, DMA.task);
  const mms = [taskMm(a, k.current), a.get(dma, DMA.ledgerMm), a.get(dma, DMA.mm)];
  if (task !== 0) mms.push(taskMm(a, task));
  return [...new Set(mms)].filter((mm) => mm !== 0);
}

/** What the first domain translates is mapped again; nothing is pinned, nothing charged. */
function* copyTranslations(k: Ctx, dma: Ref): Path<number> {
  const a = k.arena;
  const index = orders(a).chunk;
  const root = dma + DMA.chunks;
  for (let chunk = index.first(root); chunk !== 0; chunk = index.next(root, chunk)) {
    const start = a.get(chunk, CHUNK.startPage);
    const err = yield* iommuMap(k, 1, start, a.get(chunk, CHUNK.pages));
    if (err < 0) return err;
  }
  return 0;
}

/** Pins and maps one mapping chunk by chunk, with the routine of MAP_DMA. */
function* replayMapping(k: Ctx, dma: Ref): Path<number> {
  const call = yield* startPin(k, dma, k.arena.get(dma, DMA.sizePages));
  let ret = 0;
  while (call.remaining > 0 && ret === 0) {
    const n = yield* k.variant.pinPages(k, call);
    if (n <= 0) {
      ret = n;
      break;
    }
    setLedgerMm(k.arena, 'dma', dma, call.mm);
    recordChunk(k.arena, call, n);
    if (!call.reserved) k.count(C.pages_pinned, n);
    ret = yield* iommuMap(k, 1, call.iovaPage, n);
    call.remaining -= n;
    call.iovaPage += n;
    call.vaddrPage += n;
  }
  if (k.variant.endPin) yield* k.variant.endPin(k, call);
  return ret;
}

/** 5.9: what this replay has pinned is unmapped, put and un-counted, each contiguous run by itself. */
function* unwind(k: Ctx, container: Ref, dma: Ref): Path<void> {
  const a = k.arena;
  const index = orders(a).chunk;
  const root = dma + DMA.chunks;
  for (let chunk = index.first(root); chunk !== 0; chunk = index.first(root)) {
    const start = a.get(chunk, CHUNK.startPage);
    const end = start + a.get(chunk, CHUNK.pages);
    const run = a.get(chunk, CHUNK.runPages);
    const counted = a.get(chunk, CHUNK.counted) === 1;
    for (let at = start; at < end; at += run) {
      const pages = Math.min(run, end - at);
      const { small, large } = entries(at, pages);
      if (large > 0 && k.atMany(S.IommuUnmap2M, 0, large)) yield;
      if (small > 0 && k.atMany(S.IommuUnmap4K, 0, small)) yield;
      if (k.atMany(S.PutPage, 0, pages)) yield;
      if (!counted) continue;
      putPages(a, container, pages);
      k.count(C.pages_unpinned, pages);
      yield* k.variant.acctDma(k, dma, countExternal(a, dma, at, pages) - pages);
    }
    index.remove(root, chunk);
    a.free('chunk', chunk);
  }
  a.set(dma, DMA.ledgerPinned, 0);
}

/** Up to 5.8: the new domain goes, and with it the only record of what has been pinned. */
function forget(a: Arena, dma: Ref): void {
  const index = orders(a).chunk;
  const root = dma + DMA.chunks;
  for (let chunk = index.first(root); chunk !== 0; chunk = index.first(root)) {
    index.remove(root, chunk);
    a.free('chunk', chunk);
  }
  a.set(dma, DMA.ledgerPinned, 0);
}
