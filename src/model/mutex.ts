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

export function* mutexLock(k: Ctx, container: Ref): Path<void> {
  if (k.at(S.MutexLock, container)) yield;
  const a = k.arena;
  const state = container + CONTAINER.muState;
  if (Atomics.compareExchange(a.i32, state, FREE, HELD) !== FREE) {
    const latch = container + CONTAINER.muLatch;
    a.lock(latch);
    if (Atomics.compareExchange(a.i32, state, FREE, HELD) === FREE) {
      a.unlock(latch);
    } else {
      enqueue(a, container + CONTAINER.muHead, container + CONTAINER.muTail, k.actor, WaitMode.Write);
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
  a.i32[container + CONTAINER.muOwner] = k.actor;
  k.acquired(LockKind.Container);
}

/** mutex_unlock. The caller has announced the step. */
export function mutexUnlock(k: Ctx, container: Ref): void {
  const a = k.arena;
  k.releasing(LockKind.Container);
  const latch = container + CONTAINER.muLatch;
  a.i32[container + CONTAINER.muOwner] = 0;
  a.lock(latch);
  if (a.i32[container + CONTAINER.muHead] === 0) {
    Atomics.store(a.i32, container + CONTAINER.muState, FREE);
  } else {
    const next = dequeueHead(a, container + CONTAINER.muHead, container + CONTAINER.muTail);
    Atomics.store(a.i32, next + ACTOR.granted, 1);
    k.wake(next);
  }
  a.unlock(latch);
}
