/**
 * The FIFO of actors that wait for one lock: linked through ACTOR.next, guarded by the lock's latch. An actor waits
 * for at most one lock at a time, so the link lives in the actor.
 */
import type { Arena, Ref } from './arena.ts';
import { ACTOR } from './layout.ts';

/** What a queued actor wants. */
export const WaitMode = { None: 0, Read: 1, Write: 2 } as const;
export type WaitMode = (typeof WaitMode)[keyof typeof WaitMode];

export function enqueue(a: Arena, headWord: number, tailWord: number, actor: Ref, mode: WaitMode): void {
  const m = a.i32;
  m[actor + ACTOR.next] = 0;
  m[actor + ACTOR.waitMode] = mode;
  Atomics.store(m, actor + ACTOR.granted, 0);
  const tail = m[tailWord] as number;
  if (tail === 0) m[headWord] = actor;
  else m[tail + ACTOR.next] = actor;
  m[tailWord] = actor;
}

export function dequeueHead(a: Arena, headWord: number, tailWord: number): Ref {
  const m = a.i32;
  const head = m[headWord] as number;
  const next = m[head + ACTOR.next] as number;
  m[headWord] = next;
  if (next === 0) m[tailWord] = 0;
  m[head + ACTOR.waitMode] = WaitMode.None;
  m[head + ACTOR.next] = 0;
  return head;
}

/** Removes an actor from anywhere in the queue (a killed waiter). */
export function dequeue(a: Arena, headWord: number, tailWord: number, actor: Ref): void {
  const m = a.i32;
  let previous = 0;
  let at = m[headWord] as number;
  while (at !== actor) {
    if (at === 0) throw new Error('wait queue: actor is not queued');
    previous = at;
    at = m[at + ACTOR.next] as number;
  }
  const next = m[actor + ACTOR.next] as number;
  if (previous === 0) m[headWord] = next;
  else m[previous + ACTOR.next] = next;
  if (next === 0) m[tailWord] = previous;
  m[actor + ACTOR.waitMode] = WaitMode.None;
  m[actor + ACTOR.next] = 0;
}
