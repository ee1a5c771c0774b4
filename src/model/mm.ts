/**
 * mm_struct and task_struct: references, and locked_vm as the unsigned long it is.
 * Sources: kernel/fork.c get_task_mm, mmget_not_zero, mmput; include/linux/sched/mm.h.
 */
import type { Arena, Ref } from './arena.ts';
import type { Ctx, Path } from './env.ts';
import { MM, PROCESS, TASK, USER } from './layout.ts';
import { S } from './steps.ts';

/** The soft RLIMIT_MEMLOCK of a task's process, in bytes. */
export function memlockBytes(a: Arena, task: Ref): bigint {
  const process = a.get(task, TASK.process);
  return a.getU64(process, PROCESS.memlockBytes);
}

/** setrlimit(RLIMIT_MEMLOCK). */
export function setMemlockBytes(a: Arena, task: Ref, bytes: bigint): void {
  const process = a.get(task, TASK.process);
  a.setU64(process, PROCESS.memlockBytes, bytes);
  Atomics.add(a.i32, process + PROCESS.memlockChanges, 1);
}

/**
 * How often the limit was set: an operation during which the limit changes is not checked against it. For the oracle.
 */
export function memlockChanges(a: Arena, task: Ref): number {
  const process = a.get(task, TASK.process);
  return process === 0 ? 0 : Atomics.load(a.i32, process + PROCESS.memlockChanges);
}

/** The soft RLIMIT_MEMLOCK in pages, rounded down. */
export function memlockPages(a: Arena, task: Ref): bigint {
  return memlockBytes(a, task) >> 12n;
}

export function hasCapIpcLock(a: Arena, task: Ref): boolean {
  return a.get(task, TASK.capIpcLock) === 1;
}

export function taskMm(a: Arena, task: Ref): Ref {
  return Atomics.load(a.i32, task + TASK.mm);
}

/** mm_users of 1, mm_count of 1 for all users together. */
export function mmNew(a: Arena, guest: number): Ref {
  const mm = a.alloc('mm');
  a.set(mm, MM.mmUsers, 1);
  a.set(mm, MM.mmCount, 1);
  a.set(mm, MM.guest, guest);
  return mm;
}

export function mmget(a: Arena, mm: Ref): void {
  Atomics.add(a.i32, mm + MM.mmUsers, 1);
}

export function mmgrab(a: Arena, mm: Ref): void {
  Atomics.add(a.i32, mm + MM.mmCount, 1);
}

/** Drops a reference to the structure; the last one frees it. */
export function mmdrop(a: Arena, mm: Ref): void {
  if (Atomics.sub(a.i32, mm + MM.mmCount, 1) === 1) a.free('mm', mm);
}

/** get_task_mm: NULL for a kernel thread or after exit_mm. */
export function* getTaskMm(k: Ctx, task: Ref): Path<Ref> {
  if (k.at(S.GetTaskMm, task)) yield;
  const a = k.arena;
  if (a.get(task, TASK.kthread) === 1) return 0;
  const mm = taskMm(a, task);
  if (mm !== 0) {
    mmget(a, mm);
    Atomics.add(a.i32, mm + MM.operationUsers, 1);
  }
  return mm;
}

/** mmget_not_zero: a reference only if the address space still has users. */
export function* mmgetNotZero(k: Ctx, mm: Ref): Path<boolean> {
  if (k.at(S.MmgetNotZero, mm)) yield;
  const a = k.arena;
  const word = mm + MM.mmUsers;
  let n = Atomics.load(a.i32, word);
  while (n !== 0) {
    const seen = Atomics.compareExchange(a.i32, word, n, n + 1);
    if (seen === n) {
      Atomics.add(a.i32, mm + MM.operationUsers, 1);
      return true;
    }
    n = seen;
  }
  return false;
}

/** mmput of what get_task_mm or mmget_not_zero took for the running operation. */
export function* mmput(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.Mmput, mm)) yield;
  Atomics.sub(k.arena.i32, mm + MM.operationUsers, 1);
  mmDropUser(k, mm);
}

/** The reference of the running operation passes to a work item. */
export function mmHandOver(a: Arena, mm: Ref): void {
  Atomics.sub(a.i32, mm + MM.operationUsers, 1);
}

/** mmput of the reference of a task or a work item: the last user tears the address space down. */
export function* mmputLasting(k: Ctx, mm: Ref): Path<void> {
  if (k.at(S.Mmput, mm)) yield;
  mmDropUser(k, mm);
}

/** The effect of mmput, for a caller whose own step covers it. */
export function mmDropUser(k: Ctx, mm: Ref): void {
  const a = k.arena;
  if (Atomics.sub(a.i32, mm + MM.mmUsers, 1) !== 1) return;
  k.addressSpace.destroy(mm);
  mmdrop(a, mm);
}

export function taskNew(a: Arena, p: { process: Ref; mm: Ref; leader: Ref; capIpcLock: boolean }): Ref {
  const task = a.alloc('task');
  a.set(task, TASK.mm, p.mm);
  a.set(task, TASK.usage, 1);
  a.set(task, TASK.process, p.process);
  if (p.process !== 0) Atomics.add(a.i32, p.process + PROCESS.tasks, 1);
  a.set(task, TASK.groupLeader, p.leader === 0 ? task : p.leader);
  a.set(task, TASK.capIpcLock, p.capIpcLock ? 1 : 0);
  return task;
}

/** free_uid. */
export function putUser(a: Arena, user: Ref): void {
  if (Atomics.sub(a.i32, user + USER.refs, 1) === 1) a.free('user', user);
}

export function getTask(a: Arena, task: Ref): void {
  Atomics.add(a.i32, task + TASK.usage, 1);
}

/**
 * put_task_struct: the last reference frees the structure, and with it its part of signal_struct, where the limits are.
 */
export function putTask(a: Arena, task: Ref): void {
  if (Atomics.sub(a.i32, task + TASK.usage, 1) !== 1) return;
  const process = a.get(task, TASK.process);
  a.free('task', task);
  if (process !== 0 && Atomics.sub(a.i32, process + PROCESS.tasks, 1) === 1) a.free('process', process);
}
