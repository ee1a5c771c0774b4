/**
 * VFIO_IOMMU_MAP_DMA: vfio_dma_do_map and vfio_pin_map_dma.
 * Source: drivers/vfio/vfio_iommu_type1.c, 4.8 to 6.12; the checks in their order there and in the recordings.
 */
import { EEXIST, EINVAL, ENOMEM, ENOSPC, EOVERFLOW } from '../../base/errno.ts';
import { U64_MAX } from '../../base/units.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { lastByte, MAP_ARGSZ, MAP_FLAG_READ, MAP_FLAG_VADDR, MAP_FLAG_WRITE, type MapArgs } from '../ioctl-args.ts';
import { CONTAINER, DMA } from '../layout.ts';
import { setLedgerMm } from '../ledger.ts';
import { hasCapIpcLock, memlockChanges, memlockPages, taskMm } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { NO_LIMIT } from '../oracle.ts';
import { BATCH_PAGES, type PinCall } from '../pin-call.ts';
import { S } from '../steps.ts';
import { type Checked, findDma, iommuMap, linkDma, newDma, recordChunk } from './dma.ts';
import { pinCallFor } from './pin.ts';
import { Repeater } from './repeat.ts';
import { removeDma } from './unmap.ts';
import { updateVaddr } from './vaddr.ts';

const PAGE_MASK = 0xfffn;

/** 0 or a negative errno. */
export function* vfioDmaDoMap(k: Ctx, container: Ref, args: MapArgs): Path<number> {
  const v = k.variant;
  if (v.mapDma) return yield* v.mapDma(k, container, args);
  if (k.at(S.CopyFromUser, 0)) yield;
  const known = MAP_FLAG_READ | MAP_FLAG_WRITE | (v.vaddrUpdate ? MAP_FLAG_VADDR : 0);
  if (args.argsz < MAP_ARGSZ || (args.flags & ~known) !== 0) return -EINVAL;
  const prot = args.flags & (MAP_FLAG_READ | MAP_FLAG_WRITE);
  const setVaddr = (args.flags & MAP_FLAG_VADDR) !== 0;
  if ((prot !== 0) === setVaddr) return -EINVAL;
  if (args.size === 0n || ((args.size | args.iova | args.vaddr) & PAGE_MASK) !== 0n) return -EINVAL;
  const lastIova = lastByte(args.iova, args.size);
  if (lastIova === null || lastByte(args.vaddr, args.size) === null) {
    return v.overflowErrors ? -EOVERFLOW : -EINVAL;
  }
  const iovaPage = Number(args.iova >> 12n);
  const vaddrPage = Number(args.vaddr >> 12n);
  const pages = Number(args.size >> 12n);

  yield* mutexLock(k, container);
  const ret = yield* mapLocked(k, container, { prot, setVaddr, iovaPage, vaddrPage, pages, lastIova, iova: args.iova });
  yield* mutexUnlock(k, container);
  return ret;
}

function* mapLocked(k: Ctx, container: Ref, m: Checked): Path<number> {
  const a = k.arena;
  const v = k.variant;
  if (k.at(S.FindDma, container)) yield;
  // iova + size of exactly 2^64 is 0 in the kernel's lookup, which then finds nothing (up to 6.18).
  const wraps = m.lastIova === U64_MAX && !v.overflowErrors;
  const existing = wraps ? 0 : findDma(a, container, m.iovaPage, m.pages);
  if (m.setVaddr) return yield* updateVaddr(k, container, existing, m);
  if (existing !== 0) return -EEXIST;
  if (v.entryLimit && a.get(container, CONTAINER.dmaAvail) === 0) {
    k.count(C.entry_limit_refusals, 1);
    return -ENOSPC;
  }
  if (v.aperture && !k.aperture.ranges.some(([first, last]) => m.iova >= first && m.lastIova <= last)) return -EINVAL;
  if (k.at(S.Kmalloc, 0)) yield;
  if (k.inject('dma_node')) return -ENOMEM;

  const dma = newDma(k, container, m);
  if (k.at(S.LinkDma, container)) yield;
  linkDma(a, container, dma);

  const owner = taskMm(a, k.current);
  if (a.get(container, CONTAINER.domains) === 0) {
    // mdev only: nothing is pinned until a driver asks for it.
    a.set(dma, DMA.sizePages, m.pages);
    setLedgerMm(a, 'dma', dma, owner);
    return 0;
  }
  setLedgerMm(a, 'dma', dma, owner);
  const limit = memlockPages(a, k.current);
  const changes = memlockChanges(a, k.current);
  const bypass = hasCapIpcLock(a, k.current);
  const began = owner === 0 ? 0 : k.oracle.begin(owner, m.pages, bypass ? NO_LIMIT : limit);
  const ret = yield* pinMapDma(k, container, dma, m.pages);
  const held = ret === 0 ? a.get(dma, DMA.ledgerPinned) : 0;
  if (ret !== 0) yield* removeDma(k, container, dma);
  if (owner !== 0) {
    const changed = memlockChanges(a, k.current) !== changes;
    k.oracle.end(owner, m.pages, held, limit, bypass || changed, began);
  }
  return ret;
}

/** vfio_pin_map_dma: pin a chunk, map it, until the mapping is whole. 0 or a negative errno; the caller unwinds. */
export function* pinMapDma(k: Ctx, container: Ref, dma: Ref, pages: number): Path<number> {
  const call = yield* startPin(k, dma, pages);
  const ret = yield* pinLoop(k, container, call);
  if (k.variant.endPin) yield* k.variant.endPin(k, call);
  return ret;
}

/** A pin loop over `pages` pages of a mapping, from its first one: MAP_DMA's or a replay's. */
export function* startPin(k: Ctx, dma: Ref, pages: number): Path<PinCall> {
  const a = k.arena;
  const call = pinCallFor(k, dma);
  call.iovaPage = a.get(dma, DMA.iovaPage);
  call.vaddrPage = a.get(dma, DMA.vaddrPage);
  call.remaining = pages;
  // Sampled once per ioctl; variants that sample per chunk do so themselves.
  if (k.at(S.Rlimit, k.current)) yield;
  call.limitPages = memlockPages(a, k.current);
  if (k.at(S.Capable, k.current)) yield;
  call.lockCap = hasCapIpcLock(a, k.current);
  yield* batchInit(k, call);
  return call;
}

function* pinLoop(k: Ctx, container: Ref, call: PinCall): Path<number> {
  const a = k.arena;
  const { dma } = call;
  const repeater = new Repeater();
  while (call.remaining > 0) {
    if (repeater.run(k, call) > 0 && repeater.busyPages === 0) continue;
    if (repeater.loop !== null && k.startChunks?.(repeater.loop) === true) {
      yield;
      if (repeater.resume()) continue;
    }
    let n: number;
    if (repeater.busyPages > 0) {
      // The fast form met a busy lock with this chunk pinned. It has tried the trylock itself unless the driver came so
      // far.
      n = repeater.busyPages;
      call.reserved = false;
      call.counted = n;
      call.trylockFailed = k.variant.deferring && !k.exclusive;
      const err = yield* k.variant.acctPin(k, call, n);
      call.trylockFailed = false;
      if (err < 0) {
        if (k.atMany(S.PutPage, 0, n)) yield;
        return err;
      }
      k.count(C.chunks, 1);
    } else {
      n = yield* k.variant.pinPages(k, call);
    }
    if (n <= 0) return n;
    const err = yield* iommuMap(k, a.get(container, CONTAINER.domains), call.iovaPage, n);
    if (err !== 0) {
      // This chunk is unpinned with accounting; the rest is the caller's to unwind.
      if (k.atMany(S.PutPage, 0, n)) yield;
      yield* k.variant.acctDma(k, dma, -call.counted);
      return err;
    }
    recordChunk(a, call, n);
    a.add(dma, DMA.sizePages, n);
    if (!call.reserved) k.count(C.pages_pinned, n);
    call.remaining -= n;
    call.iovaPage += n;
    call.vaddrPage += n;
  }
  a.set(dma, DMA.iommuMapped, 1);
  return 0;
}

/** vfio_batch_init (5.12+): one page of pointers, or room for one page when that allocation fails. */
function* batchInit(k: Ctx, call: PinCall): Path<void> {
  if (!k.variant.batched) return;
  if (k.at(S.BatchAlloc, 0)) yield;
  call.batch = { capacityPages: k.inject('batch_array') ? 1 : BATCH_PAGES, runs: [], next: 0, used: 0 };
}
