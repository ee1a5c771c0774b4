/**
 * A proposal from the review of the seed patch, never written as code: D, but the test is whether `current` is the very
 * task that made the mapping, instead of whether it lives in the same address space. Only `pinstorm contexts` runs it.
 * Source: K. Wankhede and A. Williamson in the thread of "vfio/type1: Restore mapping performance with mdev support",
 * December 2016.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path, Variant } from '../env.ts';
import { DMA } from '../layout.ts';
import { vfioLockAcct as lockAcctFlagged } from './c-proposed-flag.ts';
import { D } from './d-4.10.ts';

function* vfioLockAcct(k: Ctx, task: Ref, npage: number, trylockFailed = false): Path<number> {
  yield* lockAcctFlagged(k, task, npage, task === k.current, trylockFailed);
  return 0;
}

export const CURRENT_IS_TASK: Variant = {
  ...D,
  id: 'current-is-task',
  kernels: 'proposed for 4.10, never written',
  versions: [],
  identity: 'D with `current == dma->task` for its test',
  acctPin: (k, call, npage) => vfioLockAcct(k, k.current, npage, call.trylockFailed),
  acctDma: (k, dma, npage) => vfioLockAcct(k, k.arena.get(dma, DMA.task), npage),
};
