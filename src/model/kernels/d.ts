/**
 * Variant D, 4.10 to 4.11: the flag of C is inferred, `task->mm == current->mm`; the pin loop uses `current` without a test.
 * Source: drivers/vfio/vfio_iommu_type1.c, 4.10.0.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { DMA } from '../layout.ts';
import { taskMm } from '../mm.ts';
import { pinPagesPerPage, type PinCall } from '../paths/pin.ts';
import { currentLoop, C, vfioLockAcct as lockAcctFlagged } from './c.ts';
import type { ExternalRules } from '../paths/external.ts';
import type { Variant } from './variant.ts';

/** vfio_lock_acct(task, npage): NULL == NULL counts as equal, and then there is nothing to charge. */
function* vfioLockAcct(k: Ctx, task: Ref, npage: number, busy = false): Path<void> {
  if (npage === 0) return;
  const isCurrent = taskMm(k.arena, task) === taskMm(k.arena, k.current);
  yield* lockAcctFlagged(k, task, npage, isCurrent, busy);
}

const LOOP = currentLoop((k, call, npage) => D.acctPin(k, call, npage, false));

export const D: Variant = {
  ...C,
  id: 'D',
  kernels: '4.10 - 4.11',
  versions: [['4.10', '4.11']],
  identity: 'is_current inferred from task->mm == current->mm; trylock, else a work item',
  external: { ...(C.external as ExternalRules), zeroSizeLookup: false, limitTest: 'task', localGup: true },
  pinPages: (k: Ctx, call: PinCall) => pinPagesPerPage(k, call, LOOP),
  *acctPin(k, _call, npage, busy) {
    yield* vfioLockAcct(k, k.current, npage, busy);
    return 0;
  },
  *acctDma(k, dma, npage) {
    yield* vfioLockAcct(k, k.arena.i32[dma + DMA.task] as number, npage);
    return 0;
  },
};
