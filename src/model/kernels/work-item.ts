/**
 * The fall-back of A to D: when the trylock fails, the update is put into a work item that holds one mm_users reference
 * (kmalloc of struct vwork, schedule_work; vfio_iommu_type1.c up to 4.11).
 */
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { addLockedVm } from '../locked-vm.ts';
import { mmHandOver, mmput } from '../mm.ts';
import { upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';

/** locked_vm += npage and the release of the lock, once the trylock has succeeded. */
export function* updateAndUnlock(k: Ctx, mm: Ref, npage: number): Path<void> {
  if (k.at(S.LockedVmWrite, mm)) yield;
  addLockedVm(k.arena, mm, npage);
  if (npage < 0) k.oracle.decremented(mm);
  yield* upWrite(k, mm);
}

/** The trylock has failed: allocates the work item of the update. False: no memory, so the update is lost for ever. */
export function* allocateWork(k: Ctx, mm: Ref, npage: number): Path<boolean> {
  k.oracle.deferredQueued(mm, npage);
  if (k.at(S.Kmalloc, 0)) yield;
  if (!k.inject('work_item')) return true;
  k.count(C.deferred_lost, 1);
  return false;
}

/** schedule_work. The caller's mm_users reference moves into the work item. */
export function* queueWork(k: Ctx, mm: Ref, npage: number): Path<void> {
  mmHandOver(k.arena, mm);
  k.count(C.deferred_queued, 1);
  if (k.at(S.QueueWork, mm)) yield;
  while (!k.defer(mm, npage)) {
    k.count(C.ring_full_waits, 1);
    yield;
  }
}

/**
 * B to D: defers the update of a caller that holds an mm_users reference. A failed allocation drops the reference; B
 * loses the update in silence, C and D warn.
 */
export function* deferUpdate(k: Ctx, mm: Ref, npage: number): Path<void> {
  if (yield* allocateWork(k, mm, npage)) {
    yield* queueWork(k, mm, npage);
    return;
  }
  yield* mmput(k, mm);
}
