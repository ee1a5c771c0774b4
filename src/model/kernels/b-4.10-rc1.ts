/**
 * Variant B, the 4.10 merge window up to the fix: each mapping records its task, and every accounting call goes through
 * that task with get_task_mm, twice per chunk. The seed's regression of about 25 %.
 * Source: drivers/vfio/vfio_iommu_type1.c at 3cedd7d75f9a and 8f0d5bb95f76 (4.10-rc1).
 */
import { ENODEV } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import type { Ctx, Path, Variant } from '../env.ts';
import { DMA } from '../layout.ts';
import { getTaskMm, hasCapIpcLock, memlockPages, mmput } from '../mm.ts';
import { isLocal, type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { downWriteTrylock } from '../rwsem.ts';
import { S } from '../steps.ts';
import { A } from './a-3.6.ts';
import { deferUpdate, updateAndUnlock } from './work-item.ts';

/** vfio_lock_acct(task, npage): always by a reference taken through the task. */
function* vfioLockAcct(k: Ctx, task: Ref, npage: number, trylockFailed = false): Path<void> {
  if (npage === 0) return;
  const mm = yield* getTaskMm(k, task);
  if (mm === 0) return; // process exited
  if (!trylockFailed && (yield* downWriteTrylock(k, mm))) {
    yield* updateAndUnlock(k, mm, npage);
    yield* mmput(k, mm);
    return;
  }
  yield* deferUpdate(k, mm, npage);
}

const taskOf = (k: Ctx, dma: Ref): Ref => k.arena.get(dma, DMA.task);

const LOOP: PerPageLoop = {
  lockedGup: false,
  pfnmapInSection: false,
  overLimit: 'shorten',
  *enter(k, call) {
    const task = taskOf(k, call.dma);
    call.mm = yield* getTaskMm(k, task);
    if (call.mm === 0) return -ENODEV;
    call.local = isLocal(k, call.mm);
    // current's credentials against the namespace of the mapping's task.
    if (k.at(S.NsCapable, k.current)) yield;
    call.lockCap = hasCapIpcLock(k.arena, k.current);
    if (k.at(S.Rlimit, task)) yield;
    call.limitPages = memlockPages(k.arena, task);
    return 0;
  },
  *leave(k, call) {
    yield* mmput(k, call.mm);
  },
};

export const B: Variant = {
  ...A,
  id: 'B',
  kernels: '4.10-rc1',
  versions: [['4.10-rc1', '4.10-rc1']],
  identity:
    'task recorded per mapping; each accounting call does get_task_mm; trylock, else a work item (the 25 % regression)',
  recordsTask: 'thread',
  chunkReference: true,
  foreignUnmap: 'stops',
  external: {
    zeroSizeLookup: true,
    limitTest: 'current',
    localGup: true,
    pfnmapInSection: false,
    nodeFailureLeaks: true,
    structPagesOnly: false,
  },
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
  *acctPin(k, call, npage) {
    yield* vfioLockAcct(k, taskOf(k, call.dma), npage, call.trylockFailed);
    return 0;
  },
  *acctDma(k, dma, npage) {
    yield* vfioLockAcct(k, taskOf(k, dma), npage);
    return 0;
  },
};
