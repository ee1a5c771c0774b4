/**
 * mmap, munmap and mprotect: mmap_sem for write over the whole call.
 * Sources: mm/mmap.c, mm/vma.c, mm/mprotect.c; munmap downgrades to read before it frees the pages from 4.20 on.
 * Ranges are whole pages. 0 or a negative errno.
 */
import { EINTR, EINVAL } from '../../base/errno.ts';
import { FaultCost } from '../address-space/gup-runs.ts';
import type { MmapArgs } from '../address-space/memory.ts';
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { taskMm } from '../mm.ts';
import { gaveBack } from '../pins.ts';
import { downgradeWrite, downWriteKillable, upRead, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { putMapped } from './files.ts';
import { addMlocked } from './mlock.ts';
import { chargeFaults } from './pin.ts';

/** The user half of the address space, in pages (TASK_SIZE). */
export const TASK_PAGES = 2 ** 35 - 1;

/** mmap(MAP_FIXED): what was there goes, under the lock held for write throughout. */
export function* sysMmap(k: Ctx, page: number, pages: number, args: MmapArgs): Path<number> {
  const mm = taskMm(k.arena, k.current);
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  if (k.at(S.VmaOp, mm)) yield;
  const cost = new FaultCost();
  const unlocked = k.addressSpace.mmap(mm, page, pages, args, cost);
  if (cost.zappedPages > 0) gaveBack(k.arena, mm, page, pages);
  if (cost.zappedPages > 0 && k.atMany(S.PutPage, mm, cost.zappedPages)) yield;
  if (unlocked > 0) yield* addMlocked(k, mm, -unlocked);
  yield* upWrite(k, mm);
  yield* putMapped(k, mm);
  return Math.min(unlocked, 0);
}

export function* sysMunmap(k: Ctx, page: number, pages: number): Path<number> {
  if (pages === 0 || page + pages > TASK_PAGES) return -EINVAL;
  const mm = taskMm(k.arena, k.current);
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  if (k.at(S.VmaOp, mm)) yield;
  const cost = new FaultCost();
  const unlocked = k.addressSpace.munmap(mm, page, pages, cost);
  if (cost.zappedPages > 0) gaveBack(k.arena, mm, page, pages);
  if (unlocked > 0) yield* addMlocked(k, mm, -unlocked);
  const downgrade = k.variant.gup.munmapDowngrades;
  if (downgrade) {
    yield* downgradeWrite(k, mm);
  }
  if (cost.zappedPages > 0 && k.atMany(S.PutPage, mm, cost.zappedPages)) yield;
  yield* release(k, mm, downgrade);
  yield* putMapped(k, mm);
  return Math.min(unlocked, 0);
}

function* release(k: Ctx, mm: Ref, downgraded: boolean): Path<void> {
  if (downgraded) yield* upRead(k, mm);
  else yield* upWrite(k, mm);
}

export function* sysMprotect(k: Ctx, page: number, pages: number, prot: number): Path<number> {
  if (pages === 0) return 0;
  const mm = taskMm(k.arena, k.current);
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  if (k.at(S.VmaOp, mm)) yield;
  const cost = new FaultCost();
  const err = k.addressSpace.mprotect(mm, page, pages, prot, cost);
  if (cost.faults > 0) yield* chargeFaults(k, mm, cost);
  yield* upWrite(k, mm);
  return err;
}
