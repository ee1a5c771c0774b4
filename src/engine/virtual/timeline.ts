/** What is to happen on an emulated host, and when it is: two queues of events, and the thread that runs. */
import { EventQueue, SLOTS_MAX } from './event-queue.ts';
import { type HostThread, NO_EVENT } from './host-thread.ts';

/** What an event is for: a thread that goes on, or something the host does itself. */
type Target = HostThread | (() => void);

export class Timeline {
  /** Threads that go on. */
  readonly threads = new EventQueue();
  /** What the host does itself: the end of a time slice, the start of a guest. */
  readonly own = new EventQueue();
  /** The thread that runs, if any. */
  current: HostThread | null = null;
  /** Up to when things have happened, while no thread runs. */
  clockNs = 0;
  /** By slot. */
  readonly targets: (Target | null)[] = [];
  readonly #freeSlots: number[] = [];

  /** Up to when things have happened, ns: the running thread's own time, or the instant of the event being handled. */
  get nowNs(): number {
    return this.current === null ? this.clockNs : this.current.localNs;
  }

  /** When the next event is due; Infinity if there is none. */
  nextNs(): number {
    return Math.min(this.threads.peekNs(), this.own.peekNs());
  }

  /** @throws RangeError when the host has no slot left. */
  slot(target: Target): number {
    const slot = this.#freeSlots.pop() ?? this.targets.length;
    if (slot >= SLOTS_MAX) throw new RangeError(`more than ${SLOTS_MAX} threads on one emulated host`);
    this.targets[slot] = target;
    return slot;
  }

  free(slot: number): void {
    this.targets[slot] = null;
    this.#freeSlots.push(slot);
  }

  /** Calls what has `slot` at an instant that is not over, before any thread of that instant. */
  call(slot: number, ns: number): void {
    this.own.push(Math.max(ns, this.nowNs), slot);
  }

  /** The thread goes on at `ns`, and at no other time. */
  schedule(thread: HostThread, ns: number): void {
    thread.event = this.threads.push(ns, thread.slot);
    thread.dueNs = ns;
    // What the running thread causes may come before what it had to look out for.
    if (this.current !== null && ns < this.current.horizonNs) this.current.horizonNs = ns;
  }

  unschedule(thread: HostThread): void {
    thread.event = NO_EVENT;
    thread.dueNs = Infinity;
  }
}
