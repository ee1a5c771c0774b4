/**
 * Processes: fork, clone(CLONE_VM), threads and exec; the end of a thread is in exit.ts. Sources: kernel/fork.c
 * (dup_mmap, copy_process), fs/exec.c (exec_mmap, de_thread).
 *
 * The new task is not yet run by anybody: its actor is the driver's business.
 */
import { EINTR } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { FILES, MM, PROCESS, TASK } from '../layout.ts';
import { hasCapIpcLock, memlockBytes, mmget, mmNew, mmDropUser, putTask, taskMm, taskNew } from '../mm.ts';
import { downRead, downWriteKillable, upRead, upWrite } from '../rwsem.ts';
import { NOTHING_PINNED, pinnedPages } from '../pins.ts';
import { S } from '../steps.ts';
import { filesCopy, filesOf, putMapped } from './files.ts';

/** A process around a first task: `files` and one user of `mm` pass to it. */
export function processNew(
  a: Arena,
  p: { readonly mm: Ref; readonly files: Ref; readonly memlockBytes: bigint; readonly capIpcLock: boolean },
): Ref {
  const process = a.alloc('process');
  a.setU64(process, PROCESS.memlockBytes, p.memlockBytes);
  a.set(process, PROCESS.files, p.files);
  a.set(process, PROCESS.threads, 1);
  const leader = taskNew(a, { process, mm: p.mm, leader: 0, capIpcLock: p.capIpcLock });
  a.set(process, PROCESS.leader, leader);
  Atomics.add(a.i32, p.mm + MM.liveTasks, 1);
  return leader;
}

/**
 * fork, or with `shareMm` clone(CLONE_VM): the child has a descriptor table, a limit and a capability of its own, all
 * copied. A forked address space starts with nothing locked; pages that may be pinned are copied at once from 5.9 on
 * (copy_present_page, mm/memory.c). The child's first task, or -EINTR.
 */
export function* fork(k: Ctx, shareMm: boolean): Path<Ref> {
  const a = k.arena;
  let mm = taskMm(a, k.current);
  if (shareMm) {
    mmget(a, mm);
  } else {
    const parent = mm;
    mm = mmNew(a, a.get(parent, MM.guest));
    a.set(mm, MM.user, a.get(parent, MM.user));
    if ((yield* downWriteKillable(k, parent)) !== 0) {
      mmDropUser(k, mm);
      return -EINTR;
    }
    const pinned = k.addressSpace.rules.forkCopiesPinned ? pinnedPages(a, parent) : NOTHING_PINNED;
    const { tablePages, copiedPages } = k.addressSpace.fork(parent, mm, pinned);
    if (tablePages > 0 && k.atMany(S.ForkCopy, parent, tablePages)) yield;
    if (copiedPages > 0 && k.atMany(S.CopyPresentPage, parent, copiedPages)) yield;
    yield* upWrite(k, parent);
  }
  return processNew(a, {
    mm,
    files: filesCopy(a, filesOf(a, k.current)),
    memlockBytes: memlockBytes(a, k.current),
    capIpcLock: hasCapIpcLock(a, k.current),
  });
}

/** pthread_create: address space, descriptors and limit are shared, capabilities are the thread's own. */
export function cloneThread(a: Arena, current: Ref): Ref {
  const process = a.get(current, TASK.process);
  const mm = taskMm(a, current);
  mmget(a, mm);
  Atomics.add(a.i32, mm + MM.liveTasks, 1);
  Atomics.add(a.i32, process + PROCESS.threads, 1);
  Atomics.add(a.i32, filesOf(a, current) + FILES.users, 1);
  const leader = a.get(process, PROCESS.leader);
  return taskNew(a, { process, mm, leader, capIpcLock: hasCapIpcLock(a, current) });
}

/**
 * execve: the same task, an empty address space; descriptors (not close-on-exec), limit and capability stay. The other
 * threads of the process must have ended. The caller becomes the leader if it was not.
 */
export function* exec(k: Ctx): Path<number> {
  const a = k.arena;
  const task = k.current;
  const process = a.get(task, TASK.process);
  const old = taskMm(a, task);
  const mm = mmNew(a, a.get(old, MM.guest));
  a.set(mm, MM.user, a.get(old, MM.user));
  const leader = a.get(process, PROCESS.leader);
  a.set(process, PROCESS.leader, task);
  a.set(task, TASK.groupLeader, task);
  if (leader !== task) putTask(a, leader);
  // For read: a core dump of the old address space must not be under way.
  yield* downRead(k, old);
  if (k.at(S.Exec, task)) yield;
  Atomics.store(a.i32, task + TASK.mm, mm);
  Atomics.add(a.i32, mm + MM.liveTasks, 1);
  yield* upRead(k, old);
  if (k.at(S.Mmput, old)) yield;
  Atomics.sub(a.i32, old + MM.liveTasks, 1);
  mmDropUser(k, old);
  yield* putMapped(k, old);
  return 0;
}
