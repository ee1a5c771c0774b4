/**
 * A proposal from the review of the seed patch, never written as code: D, but the test is whether `current` is the very task that
 * made the mapping, instead of whether it lives in the same address space. Only `pinstorm contexts` runs it.
 * Source: K. Wankhede and A. Williamson in the thread of "vfio/type1: Restore mapping performance with mdev support",
 * December 2016.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { DMA } from '../layout.ts';
import { pinPagesPerPage, type PinCall } from '../paths/pin.ts';
import { currentLoop, vfioLockAcct as lockAcctFlagged } from './c.ts';
import { D } from './d.ts';
import type { Variant } from './variant.ts';

function* vfioLockAcct(k: Ctx, task: Ref, npage: number, busy = false): Path<number> {
  yield* lockAcctFlagged(k, task, npage, task === k.current, busy);
  return 0;
}

const LOOP = currentLoop((k, call, npage) => CURRENT_IS_TASK.acctPin(k, call, npage, false));

export const CURRENT_IS_TASK: Variant = {
  ...D,
  id: 'current-is-task',
  kernels: 'proposed for 4.10, never written',
  versions: [],
  identity: 'D with `current == dma->task` for its test',
  pinPages: (k: Ctx, call: PinCall) => pinPagesPerPage(k, call, LOOP),
  acctPin: (k, _call, npage, busy) => vfioLockAcct(k, k.current, npage, busy),
  acctDma: (k, dma, npage) => vfioLockAcct(k, k.arena.i32[dma + DMA.task] as number, npage),
};
