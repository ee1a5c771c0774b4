/**
 * Page faults of user space: mmap_sem for read up to 6.3, the lock of the VMA alone from 6.4 on, which nothing in this
 * model contends for. Source: arch/x86/mm/fault.c, mm/memory.c.
 */
import { EFAULT } from '../../base/errno.ts';
import { FaultCost } from '../address-space/gup-runs.ts';
import type { Ctx, Path } from '../env.ts';
import { taskMm } from '../mm.ts';
import { downRead, upRead } from '../rwsem.ts';
import { S } from '../steps.ts';
import { chargeFaults } from './pin.ts';

/** User space reads or writes one byte of each page, faulting where it must. 0, or -EFAULT at the first SIGSEGV. */
export function* touch(k: Ctx, page: number, pages: number, write: boolean): Path<number> {
  const mm = taskMm(k.arena, k.current);
  const cost = new FaultCost();
  const locks = !k.variant.gup.perVmaLocks;
  for (let at = page; at < page + pages;) {
    const usable = k.addressSpace.usable(mm, at, page + pages - at, write);
    if (usable > 0) {
      if (k.at(S.UserWork, mm)) yield;
      at += usable;
      continue;
    }
    if (locks) yield* downRead(k, mm);
    const err = k.addressSpace.fault(mm, at, write, cost);
    yield* chargeFaults(k, mm, cost);
    if (locks) {
      yield* upRead(k, mm);
    }
    if (err !== 0) return -EFAULT;
    at += 1;
  }
  return 0;
}
