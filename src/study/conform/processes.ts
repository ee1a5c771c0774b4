/** The live processes of a recording and their threads, by the names that the recording gives them. */
import type { Direct } from '../../engine/direct.ts';
import type { Ref } from '../../model/arena.ts';
import type { Ctx } from '../../model/env.ts';
import { TASK } from '../../model/layout.ts';
import { doExit } from '../../model/paths/exit.ts';
import { exec } from '../../model/paths/process.ts';

export interface Process {
  readonly name: string;
  readonly process: Ref;
  /** Live threads; the leader first, unless it has ended. */
  threads: Thread[];
}

export interface Thread {
  readonly name: string;
  readonly process: Process;
  readonly task: Ref;
}

export class Processes {
  /** In the order of their making. */
  readonly live: Process[] = [];
  readonly #threads = new Map<string, Thread>();
  readonly #direct: Direct;

  constructor(direct: Direct) {
    this.#direct = direct;
  }

  thread(name: string): Thread | undefined {
    return this.#threads.get(name);
  }

  named(name: string): Process | undefined {
    return this.live.find((process) => process.name === name);
  }

  add(name: string, leader: Ref): void {
    const process: Process = { name, process: this.#direct.arena.get(leader, TASK.process), threads: [] };
    this.live.push(process);
    this.addThread(name, process, leader);
  }

  addThread(name: string, process: Process, task: Ref): void {
    const thread = { name, process, task };
    process.threads.push(thread);
    this.#threads.set(name, thread);
  }

  endThread(thread: Thread): void {
    const { process } = thread;
    const k = this.#direct.as(thread.task);
    this.#direct.run(doExit(k));
    this.#direct.arena.free('actor', k.actor);
    this.#threads.delete(thread.name);
    process.threads = process.threads.filter((t) => t !== thread);
    if (process.threads.length === 0) this.live.splice(this.live.indexOf(process), 1);
  }

  end(process: Process): void {
    for (const thread of process.threads) this.endThread(thread);
  }

  /** The other threads end, and the caller leads its process under the name of that. */
  exec(thread: Thread, k: Ctx): void {
    const { process } = thread;
    for (const other of process.threads) if (other !== thread) this.endThread(other);
    this.#direct.run(exec(k));
    this.#threads.delete(thread.name);
    process.threads = [];
    this.addThread(process.name, process, thread.task);
  }
}
