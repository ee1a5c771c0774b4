/**
 * Getting user pages for a mapping: vaddr_get_pfn in its eras, and the chunk loops of vfio_pin_pages_remote.
 * Sources: drivers/vfio/vfio_iommu_type1.c in 4.8, 4.10, 4.12, 4.19 (per page) and 5.15, 6.4 (per batch).
 *
 * A chunk is the longest run from the current address whose page frames follow each other and are alike in being
 * reserved. The kernel finds it page by page; here pages that nobody can tell apart are taken in one step of at most
 * `k.pagesPerStep`, which explore sets to 1.
 */
import { EFAULT, ENODEV, ENOMEM } from '../../base/errno.ts';
import { type Lookup, LOOKUP_FAULT, LOOKUP_OK, LOOKUP_PFNMAP } from '../address-space/address-space.ts';
import { type BatchRun, type FaultCost, GupEntry } from '../address-space/gup-runs.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { DMA } from '../layout.ts';
import { allowance, exceeds, lockedVm } from '../locked-vm.ts';
import { taskMm } from '../mm.ts';
import { countExternal } from '../pfn-list.ts';
import { type Batch, newPinCall, type PinCall } from '../pin-call.ts';
import { downRead, upRead } from '../rwsem.ts';
import { S, type StepId } from '../steps.ts';

/**
 * How a per-page kernel differs in its loop (A to F).
 */
export interface PerPageLoop {
  /** Fast GUP without the lock, or every page in a read section of its own (4.16+). */
  readonly lockedGup: boolean;
  /** The test for a pfnmap happens in the same read section (5.6+). */
  readonly pfnmapInSection: boolean;
  /** Over the limit inside a chunk: end it quietly (A-D) or fail (E+). */
  readonly overLimit: 'shorten' | 'fail';
  /** Takes the mm, the limit and the capability for this chunk. 0 or a negative errno. */
  enter(k: Ctx, call: PinCall): Path<number>;
  /** Gives back what `enter` took. */
  leave?(k: Ctx, call: PinCall): Path<void>;
}

/** Charges the costs of what a GUP call had to fault in. */
export function* chargeFaults(k: Ctx, mm: Ref, f: FaultCost): Path<void> {
  if (k.atMany(S.Fault, mm, Math.max(1, f.faults))) yield;
  if (f.zeroed4k > 0 && k.atMany(S.ZeroPage4K, 0, f.zeroed4k)) yield;
  if (f.zeroed2m > 0 && k.atMany(S.ZeroPage2M, 0, f.zeroed2m)) yield;
  if (f.zeroed1g > 0 && k.atMany(S.ZeroPage1G, 0, f.zeroed1g)) yield;
}

/** Charges the pages of a GUP call; `pageStep` is what a page with a table entry of its own costs. */
export function* chargeBatch(k: Ctx, mm: Ref, runs: readonly BatchRun[], pageStep: StepId): Path<void> {
  const pages: [number, number, number] = [0, 0, 0];
  for (const run of runs) pages[run.entry] += run.pages * run.times;
  if (pages[GupEntry.Page] > 0 && k.atMany(pageStep, mm, pages[GupEntry.Page])) yield;
  if (pages[GupEntry.Thp] > 0 && k.atMany(S.GupBatchPageThp, mm, pages[GupEntry.Thp])) yield;
  if (pages[GupEntry.Giga] > 0 && k.atMany(S.GupBatchPage1G, mm, pages[GupEntry.Giga])) yield;
}

/** One page faulted in and looked up again, under mmap_sem. */
function* faultIn(k: Ctx, call: PinCall, page: number): Path<Lookup> {
  const { mm } = call;
  const err = k.addressSpace.gupFault(mm, page, call.write, call.fault.reset());
  yield* chargeFaults(k, mm, call.fault);
  return err === 0 ? k.addressSpace.lookup(mm, page, 1, call.write, call.run) : LOOKUP_FAULT;
}

/**
 * vaddr_get_pfn, per page (A-F): at most `max` pages from `page` that are contiguous and alike, in `call.run`.
 * 0 or -EFAULT.
 */
export function* vaddrGetPfn(
  k: Ctx,
  call: PinCall,
  page: number,
  max: number,
  loop: Pick<PerPageLoop, 'lockedGup' | 'pfnmapInSection'>,
): Path<number> {
  const { mm, run } = call;
  const as = k.addressSpace;
  let found: Lookup;
  if (!loop.lockedGup && call.local) {
    if (k.at(S.GupFast, 0)) yield;
    found = as.lookup(mm, page, max, call.write, run);
    if (found === LOOKUP_OK) {
      if (run.pages > 1 && k.atMany(S.GupFast, 0, run.pages - 1)) yield;
      return 0;
    }
    // The slow half of get_user_pages_fast: not present, not writable, or not there at all.
    yield* downRead(k, mm);
    if (found === LOOKUP_FAULT) found = yield* faultIn(k, call, page);
    else if (k.at(S.GupLockedPage, mm)) yield;
    yield* upRead(k, mm);
    if (found === LOOKUP_OK) return 0;
  } else {
    yield* downRead(k, mm);
    if (k.at(S.GupLockedPage, mm)) yield;
    found = as.lookup(mm, page, 1, call.write, run);
    if (found === LOOKUP_FAULT) found = yield* faultIn(k, call, page);
    if (found !== LOOKUP_OK && loop.pfnmapInSection) {
      if (k.at(S.FollowPfn, mm)) yield;
      found = as.lookup(mm, page, max, call.write, run);
    }
    yield* upRead(k, mm);
    if (found === LOOKUP_OK) return 0;
    if (loop.pfnmapInSection) return found === LOOKUP_PFNMAP ? 0 : -EFAULT;
  }
  // GUP failed: a second read section looks for a VM_PFNMAP area.
  yield* downRead(k, mm);
  if (k.at(S.FollowPfn, mm)) yield;
  found = as.lookup(mm, page, max, call.write, run);
  yield* upRead(k, mm);
  return found === LOOKUP_PFNMAP ? 0 : -EFAULT;
}

/**
 * vfio_pin_pages_remote of A to F: one chunk, page by page, charged by the variant. Pages pinned, or a negative errno.
 */
export function* vfioPinPagesRemotePerPage(k: Ctx, call: PinCall, loop: PerPageLoop): Path<number> {
  call.counted = 0;
  let err = yield* loop.enter(k, call);
  if (err < 0) return err;
  const { run } = call;
  const start = call.vaddrPage;
  let pages = 0;
  let account = 0;
  let chunkEnd = start + 1;
  let reserved = false;
  while (pages < call.remaining) {
    const page = start + pages;
    // Past the end of the physical run the kernel gets one page more, sees that it does not follow, and puts it.
    const max = pages > 0 && page >= chunkEnd ? 1 : Math.min(call.remaining - pages, k.pagesPerStep);
    err = yield* vaddrGetPfn(k, call, page, max, loop);
    if (err < 0) {
      if (pages > 0) err = 0;
      break;
    }
    if (pages === 0) {
      reserved = run.reserved;
      chunkEnd = run.blockEnd;
    } else if (page >= chunkEnd || run.reserved !== reserved) {
      if (k.at(S.PutPage, 0)) yield;
      break;
    }
    let got = run.pages;
    if (!reserved) {
      if (k.atMany(S.FindVpfn, call.dma, got)) yield;
      const external = countExternal(k.arena, call.dma, call.iovaPage + pages, got);
      if (!call.lockCap) {
        if (k.at(S.LockedVmRead, call.mm)) yield;
        const v = lockedVm(k.arena, call.mm);
        const fits = allowance(v, account, call.limitPages, got - external);
        if (fits < got - external) {
          const refused = loop.overLimit === 'fail' || (pages === 0 && fits === 0);
          if (k.at(S.PutPage, 0)) yield;
          if (refused) {
            k.count(C.limit_refusals, 1);
            k.oracle.refused(call.mm, call.limitPages);
            err = -ENOMEM;
            break;
          }
          // The next call fails on its first page, so the ioctl still ends in ENOMEM if nothing else changes V.
          got = fits;
          account += got;
          pages += got;
          break;
        }
      }
      account += got - external;
    }
    pages += got;
  }
  if (err === 0 && pages > 0 && !reserved) {
    call.accountNs = k.usedNs();
    err = yield* k.variant.acctPin(k, call, account);
    if (err === 0) call.counted = account;
  }
  if (err < 0 && pages > 0) {
    // The chunk was never accounted: put its pages without accounting.
    if (k.atMany(S.PutPage, 0, pages)) yield;
    pages = 0;
  }
  if (loop.leave) yield* loop.leave(k, call);
  call.reserved = reserved;
  k.count(C.chunks, 1);
  return err < 0 ? err : pages;
}

/**
 * vfio_pin_pages_remote of G and H: one chunk out of batches of up to 512 pages that live as long as the ioctl. Pages
 * come from the caller; the variant says who is charged. `byRun` is H2: the limit test and the lookup of external pages
 * go by contiguous run instead of by page. Pages pinned, or a negative errno.
 */
export function* vfioPinPagesRemoteBatched(k: Ctx, call: PinCall, byRun: boolean): Path<number> {
  call.mm = taskMm(k.arena, k.current);
  if (call.mm === 0) return -ENODEV;
  call.lockCap = k.arena.get(call.dma, DMA.lockCap) === 1;
  call.counted = 0;
  const batch = call.batch;
  if (batch === null) throw new Error('a batched pin loop needs a batch');
  const { mm } = call;
  let pages = 0;
  let account = 0;
  let reserved = false;
  let err = 0;
  while (pages < call.remaining) {
    if (batch.next >= batch.runs.length) {
      err = yield* refill(
        k,
        call,
        batch,
        call.vaddrPage + pages,
        Math.min(call.remaining - pages, batch.capacityPages),
      );
      if (err < 0) break;
    }
    const run = batch.runs[batch.next] as BatchRun;
    const inRun = batch.used % run.pages;
    if (pages === 0) reserved = run.reserved;
    else if (!(batch.used === 0 ? run.contiguous : inRun > 0) || run.reserved !== reserved) break;
    const got = Math.min(run.pages - inRun, k.pagesPerStep);
    if (!reserved) {
      // By run, one range query; by page, one lookup each.
      if (k.atMany(S.FindVpfn, call.dma, byRun ? 1 : got)) yield;
      const external = countExternal(k.arena, call.dma, call.iovaPage + pages, got);
      const fresh = got - external;
      if (!call.lockCap && fresh > 0) {
        if (k.at(S.LockedVmRead, mm)) yield;
        const v = lockedVm(k.arena, mm) - BigInt(call.reserve);
        const refused = byRun
          ? exceeds(v, account + fresh, call.limitPages)
          : allowance(v, account, call.limitPages, fresh) < fresh;
        if (refused) {
          k.count(C.limit_refusals, 1);
          k.oracle.refused(mm, call.limitPages);
          err = -ENOMEM;
          break;
        }
      }
      account += fresh;
    }
    pages += got;
    batch.used += got;
    if (batch.used === run.pages * run.times) {
      batch.next += 1;
      batch.used = 0;
    }
  }
  if (err === 0 && pages > 0 && !reserved) {
    err = yield* k.variant.acctPin(k, call, account);
    if (err === 0) call.counted = account;
  }
  if (err < 0) {
    yield* putBatch(k, batch, pages);
    pages = 0;
  }
  call.reserved = reserved;
  k.count(C.chunks, 1);
  return err < 0 ? err : pages;
}

/** Unpins a chunk of `pages` and the rest of its batch; nothing of them was accounted. */
function* putBatch(k: Ctx, batch: Batch, pages: number): Path<void> {
  let rest = -batch.used;
  for (const run of batch.runs.slice(batch.next)) rest += run.pages * run.times;
  if (pages + rest > 0 && k.atMany(S.PutPage, 0, pages + rest)) yield;
  batch.runs.length = 0;
  batch.next = 0;
  batch.used = 0;
}

/** vaddr_get_pfns: one read section of mmap_sem for up to 512 pages. 0 or -EFAULT. */
export function* refill(k: Ctx, call: PinCall, batch: Batch, page: number, max: number): Path<number> {
  const { mm } = call;
  yield* downRead(k, mm);
  if (k.at(S.GupBatch, mm)) yield;
  const got = k.addressSpace.gupBatch(mm, page, max, call.write, batch.runs, call.fault.reset());
  if (call.fault.faults > 0) yield* chargeFaults(k, mm, call.fault);
  yield* chargeBatch(k, mm, batch.runs, S.GupBatchPage);
  yield* upRead(k, mm);
  batch.next = 0;
  batch.used = 0;
  return got < 0 ? got : 0;
}

/** Whether the mapping's pages come from the caller's own address space. */
export function isLocal(k: Ctx, mm: Ref): boolean {
  return taskMm(k.arena, k.current) === mm;
}

export function pinCallFor(k: Ctx, dma: Ref): PinCall {
  const call = newPinCall(dma, k.arena.get(dma, DMA.prot));
  call.mm = taskMm(k.arena, k.current);
  return call;
}
