/** Threads that spin for mmap_sem while its writer has a CPU: the optimistic spinning of kernel/locking/rwsem.c. */
import type { Ref } from '../../model/arena.ts';
import { Ask, type HostThread, ThreadState } from './host-thread.ts';
import type { Timeline } from './timeline.ts';

export class Spinners {
  readonly #timeline: Timeline;
  readonly #spinNs: number;
  /** By address space, the first in line first. */
  readonly #byMm = new Map<Ref, HostThread[]>();

  /** @param spinNs from the release of a lock to a spinning waiter's next try. */
  constructor(timeline: Timeline, spinNs: number) {
    this.#timeline = timeline;
    this.#spinNs = spinNs;
  }

  /** Whether `thread` may spin for mmap_sem of `mm`, whose writer is `owner`: only while that one has a CPU itself. */
  maySpin(thread: HostThread, mm: Ref, owner: HostThread | undefined): boolean {
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
    this.#timeline.schedule(first, ns + this.#spinNs);
  }

  /** The thread has lost its CPU: who spins for the lock it holds sees that. */
  ownerLeft(thread: HostThread): void {
    if (thread.ownedMm !== 0) this.#wake(thread.ownedMm);
  }

  /** The thread is to look at the lock again at `ns`. */
  stop(thread: HostThread, ns: number): void {
    for (const list of this.#byMm.values()) {
      const at = list.indexOf(thread);
      if (at >= 0) list.splice(at, 1);
    }
    thread.state = ThreadState.Running;
    this.#timeline.schedule(thread, ns);
  }

  #wake(mm: Ref): void {
    const list = this.#byMm.get(mm);
    if (list === undefined || list.length === 0) return;
    for (const thread of list) {
      thread.state = ThreadState.Running;
      this.#timeline.schedule(thread, this.#timeline.nowNs);
    }
    list.length = 0;
  }
}
