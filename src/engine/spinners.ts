/** Threads that spin for mmap_sem while its writer has a CPU: the optimistic spinning of kernel/locking/rwsem.c. */
import type { Ref } from '../model/arena.ts';

export const ThreadState = { Ready: 0, Running: 1, Spinning: 2, Blocked: 3, Waking: 4, Done: 5 } as const;
export type ThreadState = (typeof ThreadState)[keyof typeof ThreadState];

/** What a thread's path asked for before it yielded. */
export const Ask = { Time: 0, Block: 1, Sleep: 2, Spin: 3, Chunks: 4 } as const;
export type Ask = (typeof Ask)[keyof typeof Ask];

/** A thread that may spin, as its spinners see it. */
export interface SpinThread {
  state: ThreadState;
  ask: Ask;
  /** The address space it holds mmap_sem of for write, 0 none: others may spin on it. */
  readonly ownedMm: Ref;
  /** It has been told to stop spinning: somebody else needs the CPU. */
  needResched: boolean;
  /** It was at the head of the spinners and goes back there. */
  spinFirst: boolean;
}

/** When threads go on. */
export interface Schedule<T> {
  /** Up to when things have happened, ns. */
  readonly nowNs: number;
  /** The thread goes on at `ns`. */
  schedule(thread: T, ns: number): void;
}

export class Spinners<T extends SpinThread> {
  readonly #schedule: Schedule<T>;
  readonly #spinNs: number;
  /** By address space, the first in line first. */
  readonly #byMm = new Map<Ref, T[]>();

  /** @param spinNs from the release of a lock to a spinning waiter's next try. */
  constructor(schedule: Schedule<T>, spinNs: number) {
    this.#schedule = schedule;
    this.#spinNs = spinNs;
  }

  /** Whether `thread` may spin for mmap_sem of `mm`, whose writer is `owner`: only while that one has a CPU itself. */
  maySpin(thread: T, mm: Ref, owner: T | undefined): boolean {
    const running =
      owner !== undefined && (owner.state === ThreadState.Running || owner.state === ThreadState.Spinning);
    if (!running || thread.needResched) {
      thread.needResched = false;
      thread.spinFirst = false;
      // The next in line sees for itself.
      this.#wake(mm);
      return false;
    }
    let list = this.#byMm.get(mm);
    if (list === undefined) this.#byMm.set(mm, (list = []));
    if (thread.spinFirst) list.unshift(thread);
    else list.push(thread);
    thread.ask = Ask.Spin;
    return true;
  }

  /** mmap_sem of `mm` is about to be released by its writer at `ns`: the first spinner sees it a moment later. */
  released(mm: Ref, ns: number): void {
    const first = this.#byMm.get(mm)?.shift();
    if (first === undefined) return;
    first.spinFirst = true;
    first.state = ThreadState.Running;
    this.#schedule.schedule(first, ns + this.#spinNs);
  }

  /** The thread has lost its CPU: who spins for the lock it holds sees that. */
  ownerLeft(thread: T): void {
    if (thread.ownedMm !== 0) this.#wake(thread.ownedMm);
  }

  /** The thread is to look at the lock again at `ns`. */
  stop(thread: T, ns: number): void {
    for (const list of this.#byMm.values()) {
      const at = list.indexOf(thread);
      if (at >= 0) list.splice(at, 1);
    }
    thread.state = ThreadState.Running;
    this.#schedule.schedule(thread, ns);
  }

  #wake(mm: Ref): void {
    const list = this.#byMm.get(mm);
    if (list === undefined || list.length === 0) return;
    for (const thread of list) {
      thread.state = ThreadState.Running;
      this.#schedule.schedule(thread, this.#schedule.nowNs);
    }
    list.length = 0;
  }
}
