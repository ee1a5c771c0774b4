/**
 * The accounting call of 4.18 and later: vfio_lock_acct(dma, npage, async) and, from 5.3 on, __account_locked_vm
 * (mm/util.c).
 */
import { EINTR, ESRCH } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { DMA } from '../layout.ts';
import { getTaskMm, mmgetNotZero, mmput, taskMm } from '../mm.ts';
import { accountLockedVm } from '../paths/account-locked-vm.ts';
import { downWriteKillable, upWrite } from '../rwsem.ts';

/** Where an era finds the mm to charge: through the recorded leader (E2-G), or recorded itself (H). */
export type MmSource = 'leader' | 'stored';

/** Changes an mm's locked_vm by the era's means. 0 or a negative errno. */
export type Charge = (k: Ctx, mm: Ref, npage: number, task: Ref, bypass: boolean) => Path<number>;

/** down_write_killable, __account_locked_vm, up_write. 0, -EINTR or -ENOMEM. */
function* underWriteLock(k: Ctx, mm: Ref, npage: number, task: Ref, bypass: boolean): Path<number> {
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  const ret = yield* accountLockedVm(k, mm, npage, task, bypass);
  yield* upWrite(k, mm);
  return ret;
}

/**
 * vfio_lock_acct(dma, npage, async). `isAsync`: the caller is not in the mapping process's own system call, so a
 * reference is taken. 0, -ESRCH without an mm, or what `charge` answers: -EINTR on a fatal signal, -ENOMEM over the
 * limit.
 */
export function* vfioLockAcct(
  k: Ctx,
  dma: Ref,
  npage: number,
  isAsync: boolean,
  source: MmSource,
  charge: Charge = underWriteLock,
): Path<number> {
  if (npage === 0) return 0;
  const a = k.arena;
  const task = a.get(dma, DMA.task);
  let mm: Ref;
  if (source === 'stored') {
    mm = a.get(dma, DMA.mm);
    if (isAsync) {
      if (!(yield* mmgetNotZero(k, mm))) return -ESRCH;
    }
  } else if (isAsync) {
    mm = yield* getTaskMm(k, task);
  } else {
    mm = taskMm(a, task);
  }
  if (mm === 0) return -ESRCH;
  const ret = yield* charge(k, mm, npage, task, a.get(dma, DMA.lockCap) === 1);
  if (ret === 0 && source === 'stored') {
    a.add(dma, DMA.lockedVm, npage);
  }
  if (isAsync) {
    yield* mmput(k, mm);
  }
  return ret;
}
