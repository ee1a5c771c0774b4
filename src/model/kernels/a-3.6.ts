/**
 * Variant A, 3.6 to 4.9: everything is charged to `current->mm`; the trylock, else a work item. Nothing is recorded
 * per mapping. Source: drivers/vfio/vfio_iommu_type1.c, 4.8 (vfio_pin_pages, vfio_lock_acct).
 */
import { ENODEV } from '../../base/errno.ts';
import { C, type Ctx, type Path, type Variant } from '../env.ts';
import { GUP_ZERO_PAGE } from '../gup-rules.ts';
import { getTaskMm, hasCapIpcLock, memlockPages, taskMm } from '../mm.ts';
import { type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { RWSEM_4_10 } from '../rwsem-rules.ts';
import { downWriteTrylock } from '../rwsem.ts';
import { S } from '../steps.ts';
import { allocateWork, queueWork, updateAndUnlock } from './work-item.ts';

/** vfio_lock_acct(npage): void, so its caller never learns of a failure. */
function* vfioLockAcct(k: Ctx, npage: number, trylockFailed = false): Path<void> {
  if (npage === 0) return;
  const mm = taskMm(k.arena, k.current);
  if (mm === 0) return; // process exited
  if (!trylockFailed && (yield* downWriteTrylock(k, mm))) {
    yield* updateAndUnlock(k, mm, npage);
    return;
  }
  // The only era that allocates first and takes the reference then, so a failed allocation has nothing to put.
  if (!(yield* allocateWork(k, mm, npage))) return;
  if ((yield* getTaskMm(k, k.current)) === 0) {
    k.count(C.deferred_lost, 1);
    if (k.at(S.Kfree, 0)) yield;
    return;
  }
  yield* queueWork(k, mm, npage);
}

const LOOP: PerPageLoop = {
  lockedGup: false,
  pfnmapInSection: false,
  overLimit: 'shorten',
  *enter(k, call) {
    if (k.at(S.Rlimit, k.current)) yield;
    call.limitPages = memlockPages(k.arena, k.current);
    if (k.at(S.Capable, k.current)) yield;
    call.lockCap = hasCapIpcLock(k.arena, k.current);
    call.mm = taskMm(k.arena, k.current);
    call.local = true;
    return call.mm === 0 ? -ENODEV : 0;
  },
};

export const A: Variant = {
  id: 'A',
  kernels: '3.6 - 4.9',
  versions: [['3.6', '4.9']],
  identity: 'accounts to current->mm; trylock, else a work item; nothing recorded per mapping',
  rwsem: RWSEM_4_10,
  gup: GUP_ZERO_PAGE,
  batched: false,
  bulkUnpin: false,
  lockedGup: false,
  chunkReference: false,
  deferring: true,
  lockFree: false,
  reservePages: 0,
  recordsTask: 'none',
  recordsCap: false,
  recordsMm: false,
  foreignUnmap: 'allowed',
  entryLimit: false,
  aperture: false,
  vaddrUpdate: false,
  invalidVaddr: 'waits',
  external: null,
  replayUnwinds: false,
  overflowErrors: false,
  iommufd: null,
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
  *acctPin(k, call, npage) {
    yield* vfioLockAcct(k, npage, call.trylockFailed);
    return 0;
  },
  *acctDma(k, _dma, npage) {
    yield* vfioLockAcct(k, npage);
    return 0;
  },
};
