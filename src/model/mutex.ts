/**
 * The container's mutex (vfio_iommu.lock). Held over a whole MAP_DMA or UNMAP_DMA, so the pin loops of one container
 * never run side by side.
 *
 * differs: released to the first waiter in order; the kernel's mutex lets a spinner on another CPU be faster.
 */
import type { Ref } from './arena.ts';
import { LockKind, type Ctx, type Path } from './env.ts';
import { ACTOR, CONTAINER } from './layout.ts';
import { S } from './steps.ts';
import { dequeueHead, enqueue, WaitMode } from './wait-queue.ts';

const FREE = 0;
const HELD = 1;

/** Where a structure keeps its mutex. */
export interface MutexFields {
  readonly muState: number;
  readonly muLatch: number;
  readonly muHead: number;
  readonly muTail: number;
  readonly muOwner: number;
}

export function* mutexLock(k: Ctx, object: Ref, at: MutexFields = CONTAINER): Path<void> {
  if (k.at(S.MutexLock, object)) yield;
  const a = k.arena;
  const state = object + at.muState;
  if (Atomics.compareExchange(a.i32, state, FREE, HELD) !== FREE) {
    const latch = object + at.muLatch;
    a.lock(latch);
    if (Atomics.compareExchange(a.i32, state, FREE, HELD) === FREE) {
      a.unlock(latch);
    } else {
      enqueue(a, object + at.muHead, object + at.muTail, k.actor, WaitMode.Write);
      while (Atomics.load(a.i32, k.actor + ACTOR.granted) === 0) {
        k.block(LockKind.Container);
        a.unlock(latch);
        yield;
        a.lock(latch);
      }
      a.unlock(latch);
      k.unblock(LockKind.Container);
    }
  }
  a.i32[object + at.muOwner] = k.actor;
  k.acquired(LockKind.Container);
}

/** mutex_unlock. */
export function* mutexUnlock(k: Ctx, object: Ref, at: MutexFields = CONTAINER): Path<void> {
  if (k.at(S.MutexUnlock, object)) yield;
  const a = k.arena;
  k.releasing(LockKind.Container);
  const latch = object + at.muLatch;
  a.i32[object + at.muOwner] = 0;
  a.lock(latch);
  if (a.i32[object + at.muHead] === 0) {
    Atomics.store(a.i32, object + at.muState, FREE);
  } else {
    const next = dequeueHead(a, object + at.muHead, object + at.muTail);
    Atomics.store(a.i32, next + ACTOR.granted, 1);
    k.wake(next);
  }
  a.unlock(latch);
}
