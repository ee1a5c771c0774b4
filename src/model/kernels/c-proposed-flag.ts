/**
 * Variant C, the first version of the seed patch, never merged: B plus an `is_current` flag that the caller supplies.
 * Source: the patch "vfio/type1: Restore mapping performance with mdev support", December 2016 (partial diff).
 */
import { ENODEV } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import { C as Count, type Ctx, type Path, type Variant } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { DMA } from '../layout.ts';
import { getTaskMm, hasCapIpcLock, memlockPages, mmput, taskMm } from '../mm.ts';
import { type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { downWriteTrylock } from '../rwsem.ts';
import { S } from '../steps.ts';
import { B } from './b-4.10-rc1.ts';
import { deferUpdate, updateAndUnlock } from './work-item.ts';

/**
 * vfio_lock_acct(task, npage, is_current): with the flag set the task's mm is used without a reference, which is taken
 * only if the update must be deferred. Shared with D, which infers the flag.
 */
export function* vfioLockAcct(k: Ctx, task: Ref, npage: number, isCurrent: boolean, trylockFailed = false): Path<void> {
  if (npage === 0) return;
  let mm: Ref;
  if (isCurrent) {
    mm = taskMm(k.arena, task);
  } else {
    mm = yield* getTaskMm(k, task);
  }
  if (mm === 0) return; // process exited
  if (!trylockFailed && (yield* downWriteTrylock(k, mm))) {
    yield* updateAndUnlock(k, mm, npage);
    if (!isCurrent) {
      yield* mmput(k, mm);
    }
    return;
  }
  if (isCurrent) {
    mm = yield* getTaskMm(k, task);
    if (mm === 0) {
      k.count(Count.deferred_lost, 1);
      return;
    }
  }
  yield* deferUpdate(k, mm, npage);
}

/** The pin loop of C and D: `current` throughout, without a test. */
const LOOP: PerPageLoop = {
  lockedGup: false,
  pfnmapInSection: false,
  overLimit: 'shorten',
  *enter(k, call) {
    call.mm = taskMm(k.arena, k.current);
    call.local = true;
    if (call.mm === 0) return -ENODEV;
    if (k.at(S.Rlimit, k.current)) yield;
    call.limitPages = memlockPages(k.arena, k.current);
    if (k.at(S.Capable, k.current)) yield;
    call.lockCap = hasCapIpcLock(k.arena, k.current);
    return 0;
  },
};

export const C: Variant = {
  ...B,
  id: 'C',
  kernels: 'proposed for 4.10, never merged',
  versions: [],
  chunkReference: false,
  identity: 'B plus an is_current flag supplied by the caller (the first version of the seed patch)',
  // The flag is false for mdev drivers, and GUP goes by the flag: the slow way even in the owner's own context.
  external: { ...(B.external as ExternalRules), localGup: false },
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
  *acctPin(k, call, npage) {
    yield* vfioLockAcct(k, k.current, npage, true, call.trylockFailed);
    return 0;
  },
  // UNMAP_DMA tests that the mapping's task has the caller's mm before it removes anything, so its flag is true there;
  // release and detach pass false.
  *acctDma(k, dma, npage) {
    const task = k.arena.get(dma, DMA.task);
    const own = taskMm(k.arena, k.current);
    yield* vfioLockAcct(k, task, npage, own !== 0 && taskMm(k.arena, task) === own);
    return 0;
  },
};
