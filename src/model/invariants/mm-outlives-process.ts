/**
 * An address space that no task lives in any more has no users beyond the operations that run on it just now: nothing
 * else may keep its memory, page tables and mapped files. Holds at every step, not only at rest.
 */
import type { Arena, Ref } from '../arena.ts';
import { MM } from '../layout.ts';
import type { Oracle } from '../oracle.ts';

export function checkMmOutlives(a: Arena, oracle: Oracle, mm: Ref): void {
  if (Atomics.load(a.i32, mm + MM.liveTasks) !== 0) return;
  const users = Atomics.load(a.i32, mm + MM.mmUsers) - Atomics.load(a.i32, mm + MM.operationUsers);
  if (users > 0)
    oracle.report('mm-outlives-process', mm, `nobody lives in the address space, yet it has ${users} users`);
}
