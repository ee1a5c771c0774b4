/**
 * madvise: MADV_DONTNEED (what a balloon does) and MADV_POPULATE_*, both under mmap_sem for read.
 * Source: mm/madvise.c in 6.1 and 6.12. Ranges are whole pages. 0 or a negative errno.
 *
 * differs: from 6.16 on DONTNEED of a single area takes the lock of the area instead.
 */
import { FaultCost } from '../address-space/gup-runs.ts';
import type { Ctx, Path } from '../env.ts';
import { taskMm } from '../mm.ts';
import { gaveBack } from '../pins.ts';
import { downRead, upRead } from '../rwsem.ts';
import { S } from '../steps.ts';
import { chargeFaults } from './pin.ts';

export function* madviseDontneed(k: Ctx, page: number, pages: number): Path<number> {
  if (pages === 0) return 0;
  const mm = taskMm(k.arena, k.current);
  yield* downRead(k, mm);
  const cost = new FaultCost();
  const err = k.addressSpace.dontneed(mm, page, pages, cost);
  if (cost.zappedPages > 0) gaveBack(k.arena, mm, page, pages);
  if (cost.zappedPages > 0 && k.atMany(S.PutPage, mm, cost.zappedPages)) yield;
  yield* upRead(k, mm);
  return err;
}

export function* madvisePopulate(k: Ctx, page: number, pages: number, write: boolean): Path<number> {
  if (pages === 0) return 0;
  const mm = taskMm(k.arena, k.current);
  yield* downRead(k, mm);
  const cost = new FaultCost();
  const err = k.addressSpace.populate(mm, page, pages, write, cost);
  if (cost.faults > 0) yield* chargeFaults(k, mm, cost);
  yield* upRead(k, mm);
  return err;
}
