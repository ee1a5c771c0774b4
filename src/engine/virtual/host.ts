/**
 * An emulated host in virtual time: its CPUs with run queue and time slices, its workqueue, its IOMMU's invalidation
 * queue, and the loop that jumps from event to event.
 *
 * A thread runs ahead without yielding while no other event of the host is due; its effects therefore happen in the
 * order of the queue, as if every step were an event of its own.
 */
import type { Path } from '../../model/env.ts';
import type { HostOptions } from '../host-options.ts';
import { Ask, Spinners, ThreadState } from '../spinners.ts';
import { Workqueue } from '../workqueue.ts';
import { Cpus } from './cpus.ts';
import { slotOf, SLOTS_MAX } from './event-queue.ts';
import { HostThread, type ThreadGroup } from './host-thread.ts';
import { LockLines } from './lock-lines.ts';
import { Timeline } from './timeline.ts';

/**
 * `HostOptions.halt` is asked once in so many events and steps that share something, less one: some tens of
 * microseconds.
 */
const HALT_MASK = 255;

/**
 * Threads of guests that one host is sure to have room for: beside them the end of each CPU's slice, the workers of its
 * workqueue, and what it does itself have slots.
 */
export const HOST_THREADS_MAX = SLOTS_MAX - 2 ** 15;

export class Host {
  /** The cache lines of lock words. */
  readonly lines: LockLines;
  readonly spinners: Spinners<HostThread>;
  readonly workqueue: Workqueue<HostThread>;
  readonly #timeline = new Timeline();
  readonly #cpus: Cpus;
  #memoryFreeNs = 0;
  /** When the IOMMU's invalidation queue is free again. */
  #invalidationFreeNs = 0;
  /** Threads that have not ended. */
  #threads = 0;
  readonly #onEnd: (thread: HostThread) => void;
  /** Events handled. */
  events = 0;
  /** It stays as it is: nothing goes on any more. */
  halted = false;
  #untilHalt = 0;

  /** @param onEnd called when a thread's path has ended. */
  constructor(
    readonly options: HostOptions,
    onEnd: (thread: HostThread) => void,
  ) {
    this.#onEnd = onEnd;
    this.lines = new LockLines(options.lineNs);
    this.spinners = new Spinners(this.#timeline, options.spinNs);
    this.#cpus = new Cpus(this.#timeline, this.spinners, options.cpus ?? 0, options.sliceNs);
    this.workqueue = new Workqueue(this.#timeline, options, (thread, path, startNs) => this.add(thread, path, startNs));
  }

  /** Up to when things have happened, ns: the running thread's own time, or the instant of the event being handled. */
  get nowNs(): number {
    return this.#timeline.nowNs;
  }

  /** Starts `path` on a thread at `startNs`. */
  add(thread: HostThread, path: Path<void>, startNs: number): void {
    thread.path = path;
    thread.slot = this.#timeline.slot(thread);
    thread.state = ThreadState.Waking;
    thread.group?.threads.push(thread);
    this.#threads += 1;
    this.#timeline.schedule(thread, Math.max(startNs, this.nowNs));
  }

  /** Calls `f` at an instant, before any thread of that instant. */
  at(ns: number, f: () => void): void {
    const slot = this.#timeline.slot(() => {
      this.#timeline.free(slot);
      f();
    });
    this.#timeline.call(slot, ns);
  }

  /** Whether nothing is left to happen. */
  get idle(): boolean {
    return this.#timeline.nextNs() === Infinity;
  }

  /** Runs until nothing is left to happen; at one instant the host comes before the threads. */
  run(): void {
    const { own, threads } = this.#timeline;
    for (;;) {
      const next = own.peekNs() <= threads.peekNs() ? own : threads;
      const key = next.pop();
      if (key === undefined || this.mayHalt()) return;
      this.events += 1;
      this.#timeline.clockNs = next.poppedNs;
      const target = this.#timeline.targets[slotOf(key)];
      if (target instanceof HostThread) {
        if (target.event === key) this.#due(target);
      } else if (target !== null && target !== undefined) {
        target();
      }
    }
  }

  /** Whether everything stays as it is from now on. */
  mayHalt(): boolean {
    this.#untilHalt += 1;
    if ((this.#untilHalt & HALT_MASK) === 0 && this.options.halt?.() === true) this.halted = true;
    return this.halted;
  }

  /** The next thing the host does itself: what is counted is read then. */
  get ownNs(): number {
    return this.#timeline.own.peekNs();
  }

  /** Whether nothing outside `group` can touch its address spaces or take a CPU from it. */
  isAlone(group: ThreadGroup): boolean {
    return group.queuedWork === 0 && (this.options.cpus === null || this.#threads <= this.options.cpus);
  }

  /** Until when (exclusive) nobody but the thread itself can see what it does. */
  isolatedNs(thread: HostThread): number {
    return Math.min(this.#timeline.nextNs(), this.quietNs(thread.group?.threads ?? [], thread));
  }

  /**
   * Until when (exclusive) nobody of its group sees what the running thread does to their address spaces, and nobody
   * else can: other guests go on meanwhile, which is nothing to it as long as it uses none of what CPUs share.
   * -Infinity: not known.
   */
  undisturbedNs(thread: HostThread, group: ThreadGroup): number {
    // Without other guests the horizon says it already.
    const alone = group.threads.length === this.#threads;
    if (alone || group.looping > 0 || !this.isAlone(group)) return -Infinity;
    return Math.min(this.ownNs, this.quietNs(group.threads, thread));
  }

  /**
   * When the first of `threads` goes on that does not repeat chunks, apart from `thread`. -Infinity: one watches all
   * the time.
   */
  quietNs(threads: readonly HostThread[], thread: HostThread | null): number {
    let ns = Infinity;
    for (const other of threads) {
      if (other === thread) continue;
      // A spinner sees every release.
      if (other.state === ThreadState.Spinning) return -Infinity;
      if (other.dueNs < ns && !other.repeating) ns = other.dueNs;
    }
    return ns;
  }

  /** `thread`, which repeats chunks, goes on at its `localNs` instead. */
  reschedule(thread: HostThread): void {
    this.#timeline.schedule(thread, thread.localNs);
  }

  /**
   * Lets the path of a thread that repeated chunks catch up from its `localNs` to `nowNs`: steps that only it could
   * see. Then it is a thread like any other.
   */
  catchUp(thread: HostThread, nowNs: number): void {
    if (thread.localNs < nowNs) {
      const current = this.#timeline.current;
      this.#timeline.current = null;
      thread.ask = Ask.Time;
      thread.horizonNs = nowNs;
      if ((thread.path as Path<void>).next().done === true || thread.ask !== Ask.Time)
        throw new Error('a chunk does more than its own steps before its lock');
      this.#timeline.current = current;
    }
    this.#timeline.schedule(thread, thread.localNs);
  }

  /** Threads that are left, in no state to go on by themselves: after `run` they wait for ever. */
  stuck(): HostThread[] {
    return this.#timeline.targets.filter((s): s is HostThread => s instanceof HostThread);
  }

  #due(thread: HostThread): void {
    this.#timeline.unschedule(thread);
    const now = this.nowNs;
    if (thread.state === ThreadState.Waking) {
      if (this.options.cpus !== null && !this.#cpus.take(thread)) return;
      thread.state = ThreadState.Running;
      thread.resumed();
    }
    if (now > thread.localNs) thread.localNs = now;
    if (thread.repeating && thread.chunkDue()) {
      this.#timeline.schedule(thread, thread.localNs);
      return;
    }
    this.#run(thread);
  }

  #run(thread: HostThread): void {
    const timeline = this.#timeline;
    for (;;) {
      thread.ask = Ask.Time;
      thread.horizonNs = timeline.nextNs();
      timeline.current = thread;
      thread.group?.settle();
      const { done } = (thread.path as Path<void>).next();
      timeline.current = null;
      timeline.clockNs = thread.localNs;
      if (this.halted) return;
      if (done === true) {
        this.#leave(thread, ThreadState.Done);
        timeline.free(thread.slot);
        this.workqueue.done(thread);
        this.#onEnd(thread);
        return;
      }
      switch (thread.ask as Ask) {
        case Ask.Time:
          if (thread.localNs < timeline.nextNs() && this.options.stepByStep !== true) continue;
          timeline.schedule(thread, thread.localNs);
          return;
        case Ask.Block:
          this.#leave(thread, ThreadState.Blocked);
          this.workqueue.blocked(thread);
          return;
        case Ask.Sleep:
          this.#leave(thread, ThreadState.Waking);
          this.workqueue.blocked(thread);
          timeline.schedule(thread, thread.sleepUntilNs);
          return;
        case Ask.Spin:
          thread.state = ThreadState.Spinning;
          return;
        case Ask.Chunks:
          timeline.schedule(thread, thread.localNs);
          return;
      }
    }
  }

  /** The thread gives its CPU up. */
  #leave(thread: HostThread, state: ThreadState): void {
    thread.state = state;
    if (state === ThreadState.Done) {
      this.#threads -= 1;
      thread.group?.threads.splice(thread.group.threads.indexOf(thread), 1);
    }
    this.#cpus.leave(thread);
    this.spinners.ownerLeft(thread);
  }

  /**
   * Makes a blocked thread runnable; it runs after the wake-up latency, when it has a CPU. False: it was not blocked.
   */
  wake(thread: HostThread, ns: number): boolean {
    if (thread.state !== ThreadState.Blocked) return false;
    thread.state = ThreadState.Waking;
    this.#timeline.schedule(thread, ns + this.options.wakeUpNs);
    return true;
  }

  /** An invalidation of `ns` asked for at `startNs`: when it is done, behind all the others of this host. */
  invalidate(startNs: number, ns: number): number {
    this.#invalidationFreeNs = Math.max(this.#invalidationFreeNs, startNs) + ns;
    return this.#invalidationFreeNs;
  }

  /** `pages` pages are cleared from `ns` on: not over before this. */
  memory(ns: number, pages: number): number {
    this.#memoryFreeNs = Math.max(this.#memoryFreeNs, ns) + pages * this.options.memoryNs;
    return this.#memoryFreeNs;
  }
}
