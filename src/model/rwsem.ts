/**
 * mmap_sem: a reader/writer semaphore with the rules of the kernels that matter here.
 *
 * x86 up to 5.1 (lib/rwsem.c, kernel/locking/rwsem-xadd.c, read in 4.10): FIFO waiters; a new reader queues behind any
 * waiter; write-trylock fails only while somebody holds the lock, so it may take it past sleeping waiters; a woken
 * writer gets no reservation; readers at the head of the queue are all woken together. Generic, 5.2 and later
 * (kernel/locking/rwsem.c, read in 5.3, 5.11, 7.1): write-trylock fails unless the word is idle, so also while somebody
 * waits; a waiter older than 4 ms asks for hand-off, which ends stealing; at most 256 readers are woken at once; later
 * trees let a reader in past waiting writers while nobody holds the lock.
 *
 * differs: the kernel's reader adds itself first and backs out when it must wait, here it asks first, so a reader's
 * mere attempt never fails a trylock. Optimistic spinning is a matter of time and CPUs, so the driver says whether a
 * writer may spin (`k.spin`); a spinner that finds the lock free takes it past the queue. differs: only writers spin,
 * and only on a lock held for write; 5.3 also let readers spin, later trees let writers spin on readers for a short
 * time.
 */
import { EINTR } from '../base/errno.ts';
import type { Arena, Ref } from './arena.ts';
import { C, type Ctx, LockKind, type Path } from './env.ts';
import { ACTOR, MM, TASK, word64 } from './layout.ts';
import { exceeds } from './locked-vm.ts';
import { S } from './steps.ts';
import { dequeue, dequeueHead, enqueue, WaitMode } from './wait-queue.ts';

const WRITER = 1;
const WAITERS = 2;
const HANDOFF = 4;
const READER = 8;

/** Who holds the lock: -1 a writer, otherwise the number of readers. For oracles and tests. */
export function holders(a: Arena, mm: Ref): number {
  const s = Atomics.load(a.i32, mm + MM.semState);
  return (s & WRITER) !== 0 ? -1 : Math.floor(s / READER);
}

/** Nobody holds the lock and nobody waits for it. */
export function isFree(a: Arena, mm: Ref): boolean {
  return Atomics.load(a.i32, mm + MM.semState) === 0;
}

/** down_write_trylock. */
export function* downWriteTrylock(k: Ctx, mm: Ref): Path<boolean> {
  if (k.at(S.DownWriteTrylock, mm)) yield;
  const m = k.arena.i32;
  const word = mm + MM.semState;
  k.count(C.trylock_attempts, 1);
  let s = Atomics.compareExchange(m, word, 0, WRITER);
  if (s !== 0) {
    if (!k.variant.rwsem.trylockPassesWaiters) {
      k.count(C.trylock_failures, 1);
      return false;
    }
    for (;;) {
      if ((s & ~WAITERS) !== 0) {
        k.count(C.trylock_failures, 1);
        return false;
      }
      const seen = Atomics.compareExchange(m, word, s, s | WRITER);
      if (seen === s) break;
      s = seen;
    }
  }
  m[mm + MM.semOwner] = k.actor;
  k.count(C.mmap_write_acquisitions, 1);
  k.acquired(LockKind.MmapWrite);
  return true;
}

export function* downWrite(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.DownWrite, mm)) yield;
  if (!tryWriteFast(k, mm)) yield* downWriteSlow(k, mm, false, LockKind.MmapWrite);
}

/** 0, or -EINTR when a fatal signal arrived while waiting. */
export function* downWriteKillable(k: Ctx, mm: Ref): Path<number> {
  if (k.at(S.DownWriteKillable, mm)) yield;
  if (tryWriteFast(k, mm)) return 0;
  return yield* downWriteSlow(k, mm, true, LockKind.MmapWrite);
}

/** The uncontended acquisition of down_write, and what a successful optimistic spinner does. */
export function tryWriteFast(k: Ctx, mm: Ref): boolean {
  const m = k.arena.i32;
  const word = mm + MM.semState;
  let s = Atomics.compareExchange(m, word, 0, WRITER);
  while (s !== 0) {
    if ((s & ~WAITERS) !== 0) return false;
    const seen = Atomics.compareExchange(m, word, s, s | WRITER);
    if (seen === s) break;
    s = seen;
  }
  gotWrite(k, mm);
  return true;
}

function gotWrite(k: Ctx, mm: Ref): void {
  k.arena.set(mm, MM.semOwner, k.actor);
  k.count(C.mmap_write_acquisitions, 1);
  k.acquired(LockKind.MmapWrite);
}

/** rwsem_down_write_failed: queue, then take the lock whenever it is free and this actor is at the head. */
export function* downWriteSlow(k: Ctx, mm: Ref, killable: boolean, kind: LockKind): Path<number> {
  const a = k.arena;
  const latch = mm + MM.semLatch;
  const head = mm + MM.semHead;
  const tail = mm + MM.semTail;
  k.count(C.lock_waits, 1);
  while (k.spin(mm, kind)) {
    yield;
    if (tryWriteFast(k, mm)) {
      k.unblock(kind);
      return 0;
    }
  }
  a.lock(latch);
  enqueue(a, head, tail, k.actor, WaitMode.Write);
  setFlag(a, mm, WAITERS);
  for (;;) {
    if (a.i32[head] === k.actor && takeAtHead(k, mm)) break;
    if (killable && a.get(k.current, TASK.fatalSignal) === 1) {
      dequeue(a, head, tail, k.actor);
      if (a.i32[head] === 0) clearFlag(a, mm, WAITERS | HANDOFF);
      else wakeHead(k, mm);
      a.unlock(latch);
      k.unblock(kind);
      return -EINTR;
    }
    k.block(kind);
    a.unlock(latch);
    yield;
    a.lock(latch);
  }
  a.unlock(latch);
  k.unblock(kind);
  gotWrite(k, mm);
  return 0;
}

/** Under the latch, the actor at the head: takes the lock if nobody holds it. */
function takeAtHead(k: Ctx, mm: Ref): boolean {
  const a = k.arena;
  const word = mm + MM.semState;
  const last = a.get(k.actor, ACTOR.next) === 0;
  for (;;) {
    const s = Atomics.load(a.i32, word);
    if ((s & ~(WAITERS | HANDOFF)) !== 0) {
      if (k.variant.rwsem.handoff && (s & HANDOFF) === 0 && k.handoffDue(k.actor)) setFlag(a, mm, HANDOFF);
      return false;
    }
    if (Atomics.compareExchange(a.i32, word, s, last ? WRITER : WRITER | WAITERS) === s) {
      dequeueHead(a, mm + MM.semHead, mm + MM.semTail);
      return true;
    }
  }
}

/** up_write. */
export function* upWrite(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.UpWrite, mm)) yield;
  const m = k.arena.i32;
  k.releasing(LockKind.MmapWrite);
  m[mm + MM.semOwner] = 0;
  const s = Atomics.sub(m, mm + MM.semState, WRITER);
  if ((s & WAITERS) !== 0) wakeWaiters(k, mm);
}

/**
 * `times` write sections in a row, each adding `pages` to locked_vm: what the fast form of the pin loop does chunk by
 * chunk, with every lock word touched as often as by down_write(_trylock) and up_write. Stops before a section whose
 * lock is not free at once, or (with a limit) that would exceed it. Returns the sections done; the caller counts and
 * reports them.
 */
export function accountRepeatedly(k: Ctx, mm: Ref, pages: number, times: number, limitPages: bigint | null): number {
  const { i32, u64 } = k.arena;
  const word = mm + MM.semState;
  const v = word64(mm, MM.lockedVm);
  const add = BigInt(pages);
  for (let n = 0; n < times; n += 1) {
    if (limitPages !== null && exceeds(u64[v] as bigint, pages, limitPages)) return n;
    const seen = Atomics.compareExchange(i32, word, 0, WRITER);
    if (seen !== 0 && (seen !== WAITERS || Atomics.compareExchange(i32, word, WAITERS, WAITERS | WRITER) !== WAITERS))
      return n;
    u64[v] = (u64[v] as bigint) + add;
    if ((Atomics.sub(i32, word, WRITER) & WAITERS) !== 0) wakeWaiters(k, mm);
  }
  return times;
}

/** `times` read sections in a row; stops before one that would have to wait. Returns those done. */
export function readRepeatedly(k: Ctx, mm: Ref, times: number): number {
  const { i32 } = k.arena;
  const word = mm + MM.semState;
  for (let n = 0; n < times; n += 1) {
    const s = Atomics.load(i32, word);
    if ((s & (WRITER | WAITERS | HANDOFF)) !== 0 || Atomics.compareExchange(i32, word, s, s + READER) !== s) return n;
    releaseRead(k, mm);
  }
  return times;
}

/** downgrade_write: from writer to reader without a gap; readers at the head of the queue come in. */
export function* downgradeWrite(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.DowngradeWrite, mm)) yield;
  const m = k.arena.i32;
  k.releasing(LockKind.MmapWrite);
  m[mm + MM.semOwner] = 0;
  const s = Atomics.add(m, mm + MM.semState, READER - WRITER);
  k.acquired(LockKind.MmapRead);
  if ((s & WAITERS) !== 0) wakeWaiters(k, mm);
}

/** down_read_trylock, once down_read has announced its step. */
function downReadTrylock(k: Ctx, mm: Ref): boolean {
  const m = k.arena.i32;
  const word = mm + MM.semState;
  let s = Atomics.load(m, word);
  while ((s & (WRITER | WAITERS | HANDOFF)) === 0) {
    const seen = Atomics.compareExchange(m, word, s, s + READER);
    if (seen === s) {
      gotRead(k);
      return true;
    }
    s = seen;
  }
  return false;
}

function gotRead(k: Ctx): void {
  k.count(C.mmap_read_acquisitions, 1);
  k.acquired(LockKind.MmapRead);
}

export function* downRead(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.DownRead, mm)) yield;
  if (!downReadTrylock(k, mm)) yield* downReadSlow(k, mm);
}

function* downReadSlow(k: Ctx, mm: Ref): Path<void> {
  const a = k.arena;
  const word = mm + MM.semState;
  if (k.variant.rwsem.readerSteal) {
    let s = Atomics.load(a.i32, word);
    while ((s & (WRITER | HANDOFF)) === 0 && s < READER) {
      const seen = Atomics.compareExchange(a.i32, word, s, s + READER);
      if (seen === s) {
        gotRead(k);
        return;
      }
      s = seen;
    }
  }
  const latch = mm + MM.semLatch;
  const granted = k.actor + ACTOR.granted;
  k.count(C.lock_waits, 1);
  a.lock(latch);
  enqueue(a, mm + MM.semHead, mm + MM.semTail, k.actor, WaitMode.Read);
  setFlag(a, mm, WAITERS);
  // Nobody may be left to wake the queue: the holder can have gone between the attempt and the latch.
  if (a.get(mm, MM.semHead) === k.actor) wakeHead(k, mm);
  while (Atomics.load(a.i32, granted) === 0) {
    k.block(LockKind.MmapRead);
    a.unlock(latch);
    yield;
    a.lock(latch);
  }
  a.unlock(latch);
  k.unblock(LockKind.MmapRead);
  gotRead(k);
}

/** up_read. */
export function* upRead(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.UpRead, mm)) yield;
  k.releasing(LockKind.MmapRead);
  releaseRead(k, mm);
}

function releaseRead(k: Ctx, mm: Ref): void {
  const s = Atomics.sub(k.arena.i32, mm + MM.semState, READER);
  if (s < 2 * READER && (s & WAITERS) !== 0) wakeWaiters(k, mm);
}

function wakeWaiters(k: Ctx, mm: Ref): void {
  const a = k.arena;
  // A head writer that was already woken will re-check the lock when it runs.
  const head = Atomics.load(a.i32, mm + MM.semHead);
  if (
    head !== 0 &&
    a.get(head, ACTOR.waitMode) === WaitMode.Write &&
    Atomics.load(a.i32, head + ACTOR.wakePending) === 1
  )
    return;
  a.lock(mm + MM.semLatch);
  wakeHead(k, mm);
  a.unlock(mm + MM.semLatch);
}

/**
 * Under the latch: a writer at the head is told to try; readers at the head are handed the lock together, up to the
 * first writer. Writers get no reservation, so somebody may still be faster.
 */
function wakeHead(k: Ctx, mm: Ref): void {
  const a = k.arena;
  const m = a.i32;
  const headWord = mm + MM.semHead;
  const word = mm + MM.semState;
  const first = m[headWord] as number;
  if (first === 0) return;
  if (m[first + ACTOR.waitMode] === WaitMode.Write) {
    const s = Atomics.load(m, word);
    if ((s & WRITER) === 0 && s < READER) k.wake(first);
    return;
  }
  const rules = k.variant.rwsem;
  let count = 0;
  let at = first;
  while (at !== 0 && m[at + ACTOR.waitMode] === WaitMode.Read && count < rules.readersWokenMax) {
    count += 1;
    at = m[at + ACTOR.next] as number;
  }
  for (;;) {
    const s = Atomics.load(m, word);
    if ((s & WRITER) !== 0) {
      // A writer was faster. Its release wakes this queue again.
      if (rules.handoff && k.handoffDue(first)) setFlag(a, mm, HANDOFF);
      return;
    }
    const flags = at === 0 ? 0 : WAITERS;
    const readers = s - (s & (WAITERS | HANDOFF));
    if (Atomics.compareExchange(m, word, s, readers + count * READER + flags) === s) break;
  }
  for (let i = 0; i < count; i += 1) {
    const actor = dequeueHead(a, headWord, mm + MM.semTail);
    Atomics.store(m, actor + ACTOR.granted, 1);
    k.wake(actor);
  }
}

function setFlag(a: Arena, mm: Ref, flag: number): void {
  Atomics.or(a.i32, mm + MM.semState, flag);
}

function clearFlag(a: Arena, mm: Ref, flags: number): void {
  Atomics.and(a.i32, mm + MM.semState, ~flags);
}
