/**
 * The vaddr of mappings: invalidated by UNMAP_DMA with VADDR, set again by MAP_DMA with VADDR, perhaps from another
 * address space (live update). Source: drivers/vfio/vfio_iommu_type1.c 5.12 to 6.12 (vfio_change_dma_owner, 6.3).
 */
import { EFAULT, EINVAL, ENOENT, ENOMEM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import { C, type Ctx, LockKind, type Path } from '../env.ts';
import { ACTOR, CONTAINER, DMA } from '../layout.ts';
import { setLedgerMm } from '../ledger.ts';
import { addLockedVm, exceeds, lockedVm } from '../locked-vm.ts';
import { hasCapIpcLock, memlockPages, mmdrop, mmgetNotZero, mmgrab, mmput, putTask, taskMm } from '../mm.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { downWriteKillable, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { dequeueHead, enqueue, WaitMode } from '../wait-queue.ts';
import { recordIdentity } from './dma.ts';

/**
 * Marks one mapping; `done` collects the marked ones so that a mapping that is invalid already takes the whole request
 * back. 0 or -EINVAL.
 */
export function invalidateVaddr(a: Arena, container: Ref, dma: Ref, done: Ref[]): number {
  const count = container + CONTAINER.vaddrInvalid;
  if (a.get(dma, DMA.vaddrInvalid) === 1) {
    for (const d of done) a.set(d, DMA.vaddrInvalid, 0);
    a.i32[count] = (a.i32[count] as number) - done.length;
    return -EINVAL;
  }
  a.set(dma, DMA.vaddrInvalid, 1);
  a.i32[count] = (a.i32[count] as number) + 1;
  done.push(dma);
  return 0;
}

/** MAP_DMA with VADDR, under the container's lock. 0, -ENOENT, -EINVAL, -ENOMEM or -EINTR. */
export function* updateVaddr(
  k: Ctx,
  container: Ref,
  dma: Ref,
  m: { readonly iovaPage: number; readonly vaddrPage: number; readonly pages: number },
): Path<number> {
  const a = k.arena;
  if (dma === 0) return -ENOENT;
  if (
    a.get(dma, DMA.vaddrInvalid) !== 1 ||
    a.get(dma, DMA.iovaPage) !== m.iovaPage ||
    a.get(dma, DMA.sizePages) !== m.pages
  ) {
    return -EINVAL;
  }
  if (k.variant.recordsMm) {
    const err = yield* changeDmaOwner(k, dma);
    if (err !== 0) return err;
  } else {
    // The charge stays where it was; the ledger knows whose the pages are now.
    const old = a.get(dma, DMA.ledgerMm);
    const mm = taskMm(a, k.current);
    if (old !== 0 && old !== mm) {
      k.oracle.move(old, mm, a.get(dma, DMA.ledgerPinned));
      setLedgerMm(a, 'dma', dma, mm);
    }
  }
  a.set(dma, DMA.vaddrPage, m.vaddrPage);
  a.set(dma, DMA.vaddrInvalid, 0);
  a.add(container, CONTAINER.vaddrInvalid, -1);
  wakeVaddrWaiters(k, container);
  return 0;
}

/**
 * vfio_change_dma_owner: the new mm is charged first, under the caller's limit and capability; then the old one, if
 * anybody still lives in it, is relieved. Both are charged for a moment.
 */
function* changeDmaOwner(k: Ctx, dma: Ref): Path<number> {
  const a = k.arena;
  const mm = taskMm(a, k.current);
  const old = a.get(dma, DMA.mm);
  if (mm === old) return 0;
  const pages = a.get(dma, DMA.lockedVm);
  if (k.at(S.Capable, k.current)) yield;
  const cap = hasCapIpcLock(a, k.current);
  const limit = memlockPages(a, k.current);
  k.oracle.begin(mm, pages);
  const err = yield* charge(k, mm, pages, cap ? null : limit);
  if (err !== 0) {
    k.oracle.end(mm, pages, 0, limit, cap);
    return err;
  }
  if (yield* mmgetNotZero(k, old)) {
    yield* charge(k, old, -pages, null);
    yield* mmput(k, old);
  }
  k.oracle.end(mm, pages, 0, limit, cap);
  k.oracle.move(old, mm, pages);
  setLedgerMm(a, 'dma', dma, mm);
  putTask(a, a.get(dma, DMA.task));
  mmgrab(a, mm);
  mmdrop(a, old);
  recordIdentity(k, dma);
  return 0;
}

/** mm_lock_acct: the write lock, killable, and the change; `limitPages` null = no test. */
function* charge(k: Ctx, mm: Ref, npage: number, limitPages: bigint | null): Path<number> {
  const a = k.arena;
  const err = yield* downWriteKillable(k, mm);
  if (err !== 0) return err;
  let ret = 0;
  if (npage > 0 && limitPages !== null && exceeds(lockedVm(a, mm), npage, limitPages)) {
    k.count(C.limit_refusals, 1);
    k.oracle.refused(mm, limitPages);
    ret = -ENOMEM;
  } else {
    if (k.at(S.LockedVmWrite, mm)) yield;
    addLockedVm(a, mm, npage);
    if (npage < 0) k.oracle.decremented(mm);
  }
  yield* upWrite(k, mm);
  return ret;
}

/**
 * vfio_wait (5.12 to 6.2): a caller that needs a mapping's vaddr releases the container and sleeps until some mapping
 * has become valid or gone. 0 with the container locked again, or -EFAULT when it has been released meanwhile.
 *
 * differs: a fatal signal does not end the wait; the exit's close of the container does.
 */
export function* waitForVaddr(k: Ctx, container: Ref): Path<number> {
  const a = k.arena;
  const latch = container + CONTAINER.muLatch;
  a.lock(latch);
  enqueue(a, container + CONTAINER.vaddrHead, container + CONTAINER.vaddrTail, k.actor, WaitMode.Read);
  a.unlock(latch);
  yield* mutexUnlock(k, container);
  while (Atomics.load(a.i32, k.actor + ACTOR.granted) === 0) {
    k.block(LockKind.Container);
    yield;
  }
  k.unblock(LockKind.Container);
  yield* mutexLock(k, container);
  return a.get(container, CONTAINER.released) === 1 ? -EFAULT : 0;
}

/** wake_up_all of them. */
export function wakeVaddrWaiters(k: Ctx, container: Ref): void {
  const a = k.arena;
  const head = container + CONTAINER.vaddrHead;
  const latch = container + CONTAINER.muLatch;
  a.lock(latch);
  while (a.i32[head] !== 0) {
    const waiter = dequeueHead(a, head, container + CONTAINER.vaddrTail);
    Atomics.store(a.i32, waiter + ACTOR.granted, 1);
    k.wake(waiter);
  }
  a.unlock(latch);
}
