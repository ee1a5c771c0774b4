/**
 * mlock, mlock2 and munlock. They share locked_vm, and so the limit, with VFIO: the accounting happens under mmap_sem
 * for write, the pages are faulted in under the lock for read afterwards.
 * Source: mm/mlock.c, mm/gup.c (__mm_populate) in 6.1 and 6.12.
 *
 * The limit test takes back only what mlock has counted in the range; pages that DMA pins there are paid for twice.
 * hugetlb and device memory are never counted, yet their size is part of the test.
 */
import { EINTR, EINVAL, ENOMEM, EPERM } from '../../base/errno.ts';
import { U64_MAX } from '../../base/units.ts';
import { FaultCost } from '../address-space/gup-runs.ts';
import { Locked } from '../address-space/memory.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { MM } from '../layout.ts';
import { addLockedVm, addLockedVmAtomic, exceeds, lockedVm } from '../locked-vm.ts';
import { hasCapIpcLock, memlockBytes, memlockChanges, memlockPages, taskMm } from '../mm.ts';
import { NO_LIMIT } from '../oracle.ts';
import { downRead, downWriteKillable, upRead, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { chargeFaults } from './pin.ts';

/** The pages a byte range touches, with the kernel's wrap of PAGE_ALIGN; `wraps` where the end does. */
function pagesOf(addressBytes: bigint, bytes: bigint): { page: number; pages: number; wraps: boolean } {
  const page = Number(addressBytes >> 12n);
  const pages = Number(((bytes + (addressBytes & 0xfffn) + 0xfffn) & U64_MAX) >> 12n);
  return { page, pages, wraps: page + pages >= 2 ** 52 };
}

/** locked_vm and the part of it that mlock charged, under mmap_sem for write. */
export function* addMlocked(k: Ctx, mm: Ref, pages: number): Path<void> {
  if (k.at(k.variant.lockFree ? S.LockedVmAtomic : S.LockedVmWrite, mm)) yield;
  if (k.variant.lockFree) addLockedVmAtomic(k.arena, mm, pages);
  else addLockedVm(k.arena, mm, pages);
  k.arena.addU64(mm, MM.mlockedPages, BigInt(pages));
  if (pages < 0) k.oracle.decremented(mm);
}

/**
 * mlock or, with `onFault`, mlock2(MLOCK_ONFAULT). 0; -EPERM at a limit of 0 without the capability; -ENOMEM over the
 * limit, at a hole (what lies before it stays locked and counted) or where memory cannot be read; -EINVAL where the
 * range wraps.
 */
export function* sysMlock(k: Ctx, addressBytes: bigint, bytes: bigint, onFault: boolean): Path<number> {
  const a = k.arena;
  if (k.at(S.Rlimit, k.current)) yield;
  const limitPages = memlockPages(a, k.current);
  if (k.at(S.Capable, k.current)) yield;
  const cap = hasCapIpcLock(a, k.current);
  // can_do_mlock looks at the limit in bytes, the test below at whole pages.
  if (!cap && memlockBytes(a, k.current) === 0n) return -EPERM;
  const { page, pages, wraps } = pagesOf(addressBytes, bytes);
  const mm = taskMm(a, k.current);
  const changes = memlockChanges(a, k.current);
  const began = k.oracle.begin(mm, pages, cap ? NO_LIMIT : limitPages);
  const err = yield* mlockRange(k, mm, { page, pages, wraps, onFault, limitPages, cap });
  // What is locked the ledger keeps as MM.mlockedPages.
  const changed = memlockChanges(a, k.current) !== changes;
  k.oracle.end(mm, pages, 0, limitPages, cap || changed, began, err === 0);
  return err;
}

interface Request {
  readonly page: number;
  readonly pages: number;
  readonly wraps: boolean;
  readonly onFault: boolean;
  readonly limitPages: bigint;
  readonly cap: boolean;
}

function* mlockRange(k: Ctx, mm: Ref, r: Request): Path<number> {
  const a = k.arena;
  const { page, pages, wraps, onFault, limitPages, cap } = r;
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  let err = 0;
  if (!cap) {
    const v = lockedVm(a, mm);
    if (exceeds(v, pages, limitPages)) {
      const again = k.addressSpace.lockedPages(mm, page, pages);
      if (exceeds(v, pages - again, limitPages)) {
        k.count(C.limit_refusals, 1);
        k.oracle.refused(mm, limitPages, again);
        err = -ENOMEM;
      }
    }
  }
  if (err === 0 && wraps) err = -EINVAL;
  if (err === 0) err = yield* applyFlags(k, mm, page, pages, onFault ? Locked.OnFault : Locked.Yes);
  yield* upWrite(k, mm);
  if (err !== 0) return err;

  yield* downRead(k, mm);
  const cost = new FaultCost();
  err = k.addressSpace.populateLocked(mm, page, pages, cost);
  if (cost.faults > 0) yield* chargeFaults(k, mm, cost);
  yield* upRead(k, mm);
  return err;
}

/** 0; -ENOMEM at a hole, after unlocking what lies before it; -EINVAL where the range wraps. */
export function* sysMunlock(k: Ctx, addressBytes: bigint, bytes: bigint): Path<number> {
  const { page, pages, wraps } = pagesOf(addressBytes, bytes);
  const mm = taskMm(k.arena, k.current);
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  const err = wraps ? -EINVAL : yield* applyFlags(k, mm, page, pages, Locked.No);
  yield* upWrite(k, mm);
  return err;
}

/** apply_vma_lock_flags. */
function* applyFlags(k: Ctx, mm: Ref, page: number, pages: number, locked: Locked): Path<number> {
  if (k.at(S.MlockPages, mm)) yield;
  const { error, lockedDeltaPages } = k.addressSpace.setLocked(mm, page, pages, locked);
  if (lockedDeltaPages !== 0) yield* addMlocked(k, mm, lockedDeltaPages);
  return error;
}
