/** The system calls of a process on its own memory, as workloads make them, and the scratch memory they work on. */
import type { Actor } from '../../engine/actor.ts';
import { BUFFER_PAGE } from '../../engine/machine.ts';
import { Backing } from '../../model/address-space/memory.ts';
import type { Path } from '../../model/env.ts';
import { touch } from '../../model/paths/fault.ts';
import { madviseDontneed } from '../../model/paths/madvise.ts';
import { sysMlock, sysMunlock } from '../../model/paths/mlock.ts';
import { sysMmap, sysMunmap } from '../../model/paths/mmap.ts';

/**
 * Where scratch memory lies, and how far apart that of two actors is: above any guest's buffer, which has at most 64
 * TiB.
 */
const SCRATCH_PAGE = BUFFER_PAGE + 2 ** 34;
const SCRATCH_STRIDE = 2 ** 24;
const PROT_RW = 3;
const PAGE = 4096n;

/** First page of memory that belongs to this actor alone, beside the guest's buffer. Its user maps it. */
export function scratchPage(actor: Actor): number {
  return SCRATCH_PAGE + actor.guest.actors.indexOf(actor.plan) * SCRATCH_STRIDE;
}

/** mmap of private anonymous memory, of 4 KiB pages or where it can of transparent huge ones. */
export function* mmapScratch(actor: Actor, page: number, pages: number, backing?: 'anon4k' | 'thp'): Path<number> {
  const kind = backing === 'thp' ? Backing.Thp : Backing.Anon4k;
  return yield* actor.operate('mmap', sysMmap(actor.k, page, pages, { backing: kind, prot: PROT_RW }));
}

export function* munmapScratch(actor: Actor, page: number, pages: number): Path<number> {
  return yield* actor.operate('munmap', sysMunmap(actor.k, page, pages));
}

/** Writes one byte of each page. */
export function* touchPages(actor: Actor, page: number, pages: number): Path<number> {
  return yield* actor.operate('fault', touch(actor.k, page, pages, true));
}

/** MADV_DONTNEED: the next access faults again. */
export function* dontneed(actor: Actor, page: number, pages: number): Path<number> {
  return yield* actor.operate('madvise', madviseDontneed(actor.k, page, pages));
}

export function* mlock(actor: Actor, page: number, pages: number): Path<number> {
  return yield* actor.operate('mlock', sysMlock(actor.k, BigInt(page) * PAGE, BigInt(pages) * PAGE, false));
}

export function* munlock(actor: Actor, page: number, pages: number): Path<number> {
  return yield* actor.operate('munlock', sysMunlock(actor.k, BigInt(page) * PAGE, BigInt(pages) * PAGE));
}
