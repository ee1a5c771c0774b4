/**
 * Variant E, 4.12: the work item is gone. The lock is waited for (killably), the limit is tested again
 * under it, and errors reach the pin loop. Source: drivers/vfio/vfio_iommu_type1.c at 0cfef2b7410b and in 4.12.
 */
import { EINTR, ENODEV, ENOMEM, ESRCH } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path, type Variant } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { DMA } from '../layout.ts';
import { addLockedVm, exceeds, lockedVm } from '../locked-vm.ts';
import { getTaskMm, hasCapIpcLock, memlockPages, mmput, taskMm } from '../mm.ts';
import { type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { downWriteKillable, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { D } from './d-4.10.ts';

/**
 * vfio_lock_acct(task, npage, lock_cap): `lockCap` as sampled by the ioctl, or null to ask the task. 0, -ESRCH without
 * an mm, -EINTR on a fatal signal, -ENOMEM over the limit. A decrement is never refused and may wrap.
 */
function* vfioLockAcct(k: Ctx, task: Ref, npage: number, lockCap: boolean | null): Path<number> {
  if (npage === 0) return 0;
  const a = k.arena;
  const isCurrent = taskMm(a, task) === taskMm(a, k.current);
  let mm: Ref;
  if (isCurrent) {
    mm = taskMm(a, task);
  } else {
    mm = yield* getTaskMm(k, task);
  }
  if (mm === 0) return -ESRCH; // process exited
  let ret = yield* downWriteKillable(k, mm);
  if (ret === 0) {
    if (npage > 0) {
      if (!(lockCap ?? hasCapIpcLock(a, task))) {
        const limit = memlockPages(a, task);
        if (exceeds(lockedVm(a, mm), npage, limit)) {
          k.count(C.limit_refusals, 1);
          k.oracle.refused(mm, limit);
          ret = -ENOMEM;
        }
      }
    }
    if (ret === 0) {
      if (k.at(S.LockedVmWrite, mm)) yield;
      addLockedVm(a, mm, npage);
      if (npage < 0) k.oracle.decremented(mm);
    }
    yield* upWrite(k, mm);
  } else {
    ret = -EINTR;
  }
  if (!isCurrent) {
    yield* mmput(k, mm);
  }
  return ret;
}

const LOOP: PerPageLoop = {
  lockedGup: false,
  pfnmapInSection: false,
  overLimit: 'fail',
  // Limit and capability were sampled once by the ioctl (4.12).
  // oxlint-disable-next-line require-yield
  *enter(k, call) {
    call.mm = taskMm(k.arena, k.current);
    call.local = true;
    return call.mm === 0 ? -ENODEV : 0;
  },
};

export const E: Variant = {
  ...D,
  id: 'E',
  kernels: '4.12 - 4.17',
  versions: [['4.12', '4.17']],
  identity: 'no work item: killable write lock, limit tested again under it, errors propagate',
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
  deferring: false,
  external: { ...(D.external as ExternalRules), limitTest: 'accounting' },
  acctPin: (k, call, npage) => vfioLockAcct(k, k.current, npage, call.lockCap),
  // The callers (unmap, release) ignore the result, so -EINTR and -ESRCH lose the decrement.
  acctDma: (k, dma, npage) => vfioLockAcct(k, k.arena.get(dma, DMA.task), npage, null),
};

/** E in the stable lines that got dma_entry_limit (492855939bdb): of its kernels only 4.14 lived that long. */
export const STABLE_4_14: Variant = {
  ...E,
  id: '4.14.115',
  kernels: '4.14.115 on (stable)',
  versions: [['4.14.115', '4.14']],
  identity: 'E with dma_entry_limit: at most 65_535 mappings per container',
  entryLimit: true,
};

/** The chunk loop of the backport: limit and capability are sampled per chunk, as in D. */
const STABLE_LOOP: PerPageLoop = {
  ...LOOP,
  *enter(k, call) {
    if (k.at(S.Rlimit, k.current)) yield;
    call.limitPages = memlockPages(k.arena, k.current);
    if (k.at(S.Capable, k.current)) yield;
    call.lockCap = hasCapIpcLock(k.arena, k.current);
    return yield* LOOP.enter(k, call);
  },
};

/** The same fix as it went into stable kernels: D's pins for mdev drivers, which test the limit too early, stayed. */
export const STABLE_4_10: Variant = {
  ...E,
  id: '4.10.17',
  kernels: '4.10.17 (stable)',
  versions: [['4.10.17', '4.10.17']],
  identity: "E as backported: limit and capability per chunk, D's early limit test for mdev pins",
  external: D.external,
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, STABLE_LOOP),
};
