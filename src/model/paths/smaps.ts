/**
 * A read of /proc/PID/smaps: the page tables of one area after the other are walked under mmap_sem for read, which is
 * held for the whole of an area, however large. Source: fs/proc/task_mmu.c (m_start, show_smap), 4.10 to 6.12.
 *
 * differs: the lock is let go after each area; the kernel does so when its buffer is full, which takes some areas more.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { downRead, upRead } from '../rwsem.ts';
import { S } from '../steps.ts';

/** `entries`: page table entries of each area: one per 4 KiB page, or per huge page. 0. */
export function* readSmaps(k: Ctx, mm: Ref, entries: readonly number[]): Path<number> {
  for (const count of entries) {
    yield* downRead(k, mm);
    if (k.atMany(S.WalkPte, mm, count)) yield;
    yield* upRead(k, mm);
  }
  return 0;
}
