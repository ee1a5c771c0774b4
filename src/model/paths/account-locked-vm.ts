import { ENOMEM } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { addLockedVm, exceeds, lockedVm } from '../locked-vm.ts';
import { memlockPages } from '../mm.ts';
import { S } from '../steps.ts';

/**
 * __account_locked_vm: the caller holds mmap_sem for write. An increment is tested against the limit of `task` unless
 * `bypass`; a decrement below zero warns and wraps. 0 or -ENOMEM.
 */
export function* accountLockedVm(k: Ctx, mm: Ref, npage: number, task: Ref, bypass: boolean): Path<number> {
  const a = k.arena;
  if (npage > 0 && !bypass) {
    const limit = memlockPages(a, task);
    if (exceeds(lockedVm(a, mm), npage, limit)) {
      k.count(C.limit_refusals, 1);
      k.oracle.refused(mm, limit);
      return -ENOMEM;
    }
  }
  if (k.at(S.LockedVmWrite, mm)) yield;
  addLockedVm(a, mm, npage);
  if (npage < 0) k.oracle.decremented(mm);
  return 0;
}
