/**
 * do_exit of one thread: the address space goes before the descriptors, so a container that is released by the exit
 * finds `current->mm` NULL. Source: kernel/exit.c, 4.10 (exit_mm before exit_files).
 */
import type { Ctx, Path } from '../env.ts';
import { MM, PROCESS, TASK } from '../layout.ts';
import { mmDropUser, putTask, taskMm } from '../mm.ts';
import { S } from '../steps.ts';
import { putFiles, putMapped } from './files.ts';

export function* doExit(k: Ctx): Path<void> {
  const a = k.arena;
  const task = k.current;
  if (k.at(S.ExitMm, task)) yield;
  const mm = taskMm(a, task);
  Atomics.store(a.i32, task + TASK.mm, 0);
  if (mm !== 0) {
    Atomics.sub(a.i32, mm + MM.liveTasks, 1);
    mmDropUser(k, mm);
  }
  const process = a.get(task, TASK.process);
  if (process !== 0) {
    const files = a.get(process, PROCESS.files);
    if (k.at(S.ExitFiles, task)) yield;
    yield* putFiles(k, files);
    yield* putMapped(k, mm);
    a.set(task, TASK.exited, 1);
    const leader = a.get(process, PROCESS.leader);
    const last = Atomics.sub(a.i32, process + PROCESS.threads, 1) === 1;
    // A zombie leader is released with the last thread of its process (delay_group_leader).
    if (last && leader !== task) putTask(a, leader);
    if (!last && leader === task) return;
  }
  putTask(a, task);
}
