/**
 * Variant D, 4.10 to 4.11: the flag of C is inferred, `task->mm == current->mm`; the pin loop uses `current` without a
 * test. Source: drivers/vfio/vfio_iommu_type1.c, 4.10.0.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path, Variant } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { DMA } from '../layout.ts';
import { taskMm } from '../mm.ts';
import { C, vfioLockAcct as lockAcctFlagged } from './c-proposed-flag.ts';

/** vfio_lock_acct(task, npage): NULL == NULL counts as equal, and then there is nothing to charge. */
function* vfioLockAcct(k: Ctx, task: Ref, npage: number, trylockFailed = false): Path<void> {
  if (npage === 0) return;
  const isCurrent = taskMm(k.arena, task) === taskMm(k.arena, k.current);
  yield* lockAcctFlagged(k, task, npage, isCurrent, trylockFailed);
}

export const D: Variant = {
  ...C,
  id: 'D',
  kernels: '4.10 - 4.11',
  versions: [['4.10', '4.11']],
  identity: 'is_current inferred from task->mm == current->mm; trylock, else a work item',
  external: { ...(C.external as ExternalRules), zeroSizeLookup: false, limitTest: 'task', localGup: true },
  *acctPin(k, call, npage) {
    yield* vfioLockAcct(k, k.current, npage, call.trylockFailed);
    return 0;
  },
  *acctDma(k, dma, npage) {
    yield* vfioLockAcct(k, k.arena.get(dma, DMA.task), npage);
    return 0;
  },
};
