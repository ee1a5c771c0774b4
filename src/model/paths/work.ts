/**
 * The work item (A to D): vfio_lock_acct_bg, vfio_iommu_type1.c up to 4.11. Waits for the lock without being killable,
 * applies the count with no limit and no floor, drops its mm reference.
 */
import type { Ref } from '../arena.ts';
import { C, type Ctx, LockKind, type Path } from '../env.ts';
import { addLockedVm } from '../locked-vm.ts';
import { mmputLasting } from '../mm.ts';
import { downWriteSlow, tryWriteFast, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { putMapped } from './files.ts';

export function* vfioLockAcctBg(k: Ctx, mm: Ref, npage: number): Path<void> {
  if (k.at(S.WorkStart, mm)) yield;
  if (k.at(S.DownWrite, mm)) yield;
  if (!tryWriteFast(k, mm)) yield* downWriteSlow(k, mm, false, LockKind.KWorker);
  if (k.at(S.LockedVmWrite, mm)) yield;
  addLockedVm(k.arena, mm, npage);
  k.oracle.deferredApplied(mm, npage);
  if (npage < 0) k.oracle.decremented(mm);
  k.count(C.deferred_applied, 1);
  yield* upWrite(k, mm);
  yield* mmputLasting(k, mm);
  yield* putMapped(k, mm);
}
