/**
 * An emulated host in virtual time: its CPUs with run queue and time slices, its workqueue, its IOMMU's invalidation
 * queue, and the loop that jumps from event to event.
 *
 * A thread runs ahead without yielding while no other event of the host is due; its effects therefore happen in the
 * order of the queue, as if every step were an event of its own. Whoever waits for a lock or a timer leaves its CPU;
 * whoever has used up its slice while others are ready goes to the end of the run queue, with whatever locks it holds.
 *
 * differs: one run queue for all CPUs, round robin, where the kernel has one per CPU and balances them; a long step
 * (clearing a huge page) can be interrupted at any point.
 */
import type { Ref } from '../../model/arena.ts';
import type { Path } from '../../model/env.ts';
import type { HostOptions } from '../host-options.ts';
import { EventQueue, slotOf, SLOTS_MAX } from './event-queue.ts';
import { Ask, HostThread, NO_EVENT, type ThreadGroup, ThreadState } from './host-thread.ts';

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

/** Linux: half of WQ_MAX_ACTIVE (512) for a bound workqueue with the default limit. */
export const WORK_MAX_ACTIVE = 256;

interface Cpu {
  thread: HostThread | null;
  armed: boolean;
  timerSlot: number;
}

/** A queued work item: makes the worker that runs it. */
export type WorkItem = () => { readonly thread: HostThread; readonly path: Path<void> };

/** A pool of the bound workqueue: one worker runs at a time; when it blocks the next one starts. */
interface Pool {
  readonly items: WorkItem[];
  next: number;
  /** The worker that runs or is about to, null when all of them are blocked. */
  running: HostThread | null;
  active: number;
}

export class Host {
  /** Threads that go on, and what the host does itself: the end of a time slice, the start of a guest. */
  readonly #queue = new EventQueue();
  readonly #own = new EventQueue();
  readonly #slots: (HostThread | (() => void) | null)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #cpus: Cpu[];
  readonly #idle: number[] = [];
  readonly #ready: HostThread[] = [];
  #readyHead = 0;
  readonly #spinners = new Map<Ref, HostThread[]>();
  readonly #pools = new Map<number, Pool>();
  readonly #poolOf = new Map<HostThread, Pool>();
  /** Who used the lock word of an address space last, and when its cache line is free again. */
  readonly #lines = new Map<Ref, { user: HostThread; freeNs: number }>();
  #memoryFreeNs = 0;
  /** When the IOMMU's invalidation queue is free again. */
  #invalidationFreeNs = 0;
  #current: HostThread | null = null;
  /** Up to when things have happened, while no thread runs. */
  #clockNs = 0;
  /** Threads that have not ended. */
  #threads = 0;
  /** Events handled. */
  events = 0;
  /** It stays as it is: nothing goes on any more. */
  halted = false;
  #untilHalt = 0;

  constructor(
    readonly options: HostOptions,
    /** Called when a thread's path has ended. */
    private readonly onEnd: (thread: HostThread) => void,
  ) {
    this.#cpus = Array.from({ length: options.cpus ?? 0 }, (_, cpu) => ({
      thread: null,
      armed: false,
      timerSlot: this.#slot(() => this.#sliceOver(cpu)),
    }));
    for (let cpu = this.#cpus.length - 1; cpu >= 0; cpu -= 1) this.#idle.push(cpu);
  }

  /** Up to when things have happened, ns: the running thread's own time, or the instant of the event being handled. */
  get nowNs(): number {
    return this.#current === null ? this.#clockNs : this.#current.localNs;
  }

  /** Starts `path` on a thread at `startNs`. */
  add(thread: HostThread, path: Path<void>, startNs: number): void {
    thread.path = path;
    thread.slot = this.#slot(thread);
    thread.state = ThreadState.Waking;
    thread.group?.threads.push(thread);
    this.#threads += 1;
    this.#schedule(thread, Math.max(startNs, this.nowNs));
  }

  /** Calls `f` at an instant, before any thread of that instant. */
  at(ns: number, f: () => void): void {
    const slot = this.#slot(() => {
      this.#free(slot);
      f();
    });
    this.#own.push(Math.max(ns, this.nowNs), slot);
  }

  /** Whether nothing is left to happen. */
  get idle(): boolean {
    return Math.min(this.#queue.peekNs(), this.#own.peekNs()) === Number.POSITIVE_INFINITY;
  }

  /** Runs until nothing is left to happen; at one instant the host comes before the threads. */
  run(): void {
    const queue = this.#queue;
    const own = this.#own;
    for (;;) {
      const next = own.peekNs() <= queue.peekNs() ? own : queue;
      const key = next.pop();
      if (key === undefined || this.mayHalt()) return;
      this.events += 1;
      this.#clockNs = next.poppedNs;
      const target = this.#slots[slotOf(key)];
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
    return this.#own.peekNs();
  }

  /** Whether nothing outside `group` can touch its address spaces or take a CPU from it. */
  isAlone(group: ThreadGroup): boolean {
    return group.queuedWork === 0 && (this.options.cpus === null || this.#threads <= this.options.cpus);
  }

  /** Until when (exclusive) nobody but the thread itself can see what it does. */
  isolatedNs(thread: HostThread): number {
    const anybodyNs = Math.min(this.#queue.peekNs(), this.#own.peekNs());
    return Math.min(anybodyNs, this.quietNs(thread.group?.threads ?? [], thread));
  }

  /**
   * Until when (exclusive) nobody of its group sees what the running thread does to their address spaces, and nobody
   * else can: other guests go on meanwhile, which is nothing to it as long as it uses none of what CPUs share.
   * -Infinity: not known.
   */
  undisturbedNs(thread: HostThread, group: ThreadGroup): number {
    // Without other guests the horizon says it already.
    const alone = group.threads.length === this.#threads;
    if (alone || group.looping > 0 || !this.isAlone(group)) return Number.NEGATIVE_INFINITY;
    return Math.min(this.ownNs, this.quietNs(group.threads, thread));
  }

  /**
   * When the first of `threads` goes on that does not repeat chunks, apart from `thread`. -Infinity: one watches all
   * the time.
   */
  quietNs(threads: readonly HostThread[], thread: HostThread | null): number {
    let ns = Number.POSITIVE_INFINITY;
    for (const other of threads) {
      if (other === thread) continue;
      // A spinner sees every release.
      if (other.state === ThreadState.Spinning) return Number.NEGATIVE_INFINITY;
      if (other.dueNs < ns && !other.repeating) ns = other.dueNs;
    }
    return ns;
  }

  /** `thread`, which repeats chunks, goes on at its `localNs` instead. */
  reschedule(thread: HostThread): void {
    this.#schedule(thread, thread.localNs);
  }

  /**
   * Lets the path of a thread that repeated chunks catch up from its `localNs` to `nowNs`: steps that only it could
   * see. Then it is a thread like any other.
   */
  catchUp(thread: HostThread, nowNs: number): void {
    if (thread.localNs < nowNs) {
      const current = this.#current;
      this.#current = null;
      thread.ask = Ask.Time;
      thread.horizonNs = nowNs;
      if ((thread.path as Path<void>).next().done === true || thread.ask !== Ask.Time)
        throw new Error('a chunk does more than its own steps before its lock');
      this.#current = current;
    }
    this.#schedule(thread, thread.localNs);
  }

  /** Threads that are left, in no state to go on by themselves: after `run` they wait for ever. */
  stuck(): HostThread[] {
    return this.#slots.filter((s): s is HostThread => s instanceof HostThread);
  }

  #slot(target: HostThread | (() => void)): number {
    const slot = this.#freeSlots.pop() ?? this.#slots.length;
    if (slot >= SLOTS_MAX) throw new RangeError(`more than ${SLOTS_MAX} threads on one emulated host`);
    this.#slots[slot] = target;
    return slot;
  }

  #free(slot: number): void {
    this.#slots[slot] = null;
    this.#freeSlots.push(slot);
  }

  #schedule(thread: HostThread, ns: number): void {
    thread.event = this.#queue.push(ns, thread.slot);
    thread.dueNs = ns;
    // What the running thread causes may come before what it had to look out for.
    if (this.#current !== null && ns < this.#current.horizonNs) this.#current.horizonNs = ns;
  }

  #due(thread: HostThread): void {
    this.#unschedule(thread);
    const now = this.nowNs;
    if (thread.state === ThreadState.Waking) {
      if (this.options.cpus !== null) {
        const cpu = this.#idle.pop();
        if (cpu === undefined) {
          this.#enqueue(thread);
          return;
        }
        this.#occupy(thread, cpu, now);
      }
      thread.state = ThreadState.Running;
      thread.resumed();
    }
    if (now > thread.localNs) thread.localNs = now;
    if (thread.repeating && thread.chunkDue()) {
      this.#schedule(thread, thread.localNs);
      return;
    }
    this.#run(thread);
  }

  #unschedule(thread: HostThread): void {
    thread.event = NO_EVENT;
    thread.dueNs = Number.POSITIVE_INFINITY;
  }

  #run(thread: HostThread): void {
    const queue = this.#queue;
    for (;;) {
      thread.ask = Ask.Time;
      thread.horizonNs = Math.min(queue.peekNs(), this.#own.peekNs());
      this.#current = thread;
      thread.group?.settle();
      const { done } = (thread.path as Path<void>).next();
      this.#current = null;
      this.#clockNs = thread.localNs;
      if (this.halted) return;
      if (done === true) {
        this.#leave(thread, ThreadState.Done);
        this.#free(thread.slot);
        this.#workDone(thread);
        this.onEnd(thread);
        return;
      }
      switch (thread.ask as Ask) {
        case Ask.Time:
          if (thread.localNs < Math.min(queue.peekNs(), this.#own.peekNs()) && this.options.stepByStep !== true)
            continue;
          this.#schedule(thread, thread.localNs);
          return;
        case Ask.Block:
          this.#leave(thread, ThreadState.Blocked);
          this.#workerBlocked(thread);
          return;
        case Ask.Sleep:
          this.#leave(thread, ThreadState.Waking);
          this.#workerBlocked(thread);
          this.#schedule(thread, thread.sleepUntilNs);
          return;
        case Ask.Spin:
          thread.state = ThreadState.Spinning;
          return;
        case Ask.Chunks:
          this.#schedule(thread, thread.localNs);
          return;
      }
    }
  }

  // ---- CPUs

  #occupy(thread: HostThread, cpu: number, ns: number): void {
    const c = this.#cpus[cpu] as Cpu;
    c.thread = thread;
    thread.cpu = cpu;
    thread.sliceEndNs = ns + this.options.sliceNs;
    if (this.#readyHead < this.#ready.length) this.#arm(c, thread.sliceEndNs);
  }

  #arm(c: Cpu, ns: number): void {
    if (c.armed) return;
    c.armed = true;
    this.#own.push(Math.max(ns, this.nowNs), c.timerSlot);
  }

  /** No CPU is free: to the end of the run queue; whoever has had its slice may now be interrupted. */
  #enqueue(thread: HostThread): void {
    thread.state = ThreadState.Ready;
    thread.cpu = -1;
    this.#ready.push(thread);
    for (const c of this.#cpus) if (!c.armed && c.thread !== null) this.#arm(c, c.thread.sliceEndNs);
  }

  #nextReady(): HostThread | undefined {
    if (this.#readyHead === this.#ready.length) return undefined;
    const thread = this.#ready[this.#readyHead] as HostThread;
    this.#readyHead += 1;
    if (this.#readyHead > 1024 && this.#readyHead * 2 > this.#ready.length) {
      this.#ready.splice(0, this.#readyHead);
      this.#readyHead = 0;
    }
    return thread;
  }

  /** The thread gives its CPU up; the next ready one gets it. */
  #leave(thread: HostThread, state: ThreadState): void {
    thread.state = state;
    const { cpu } = thread;
    if (state === ThreadState.Done) {
      this.#threads -= 1;
      thread.group?.threads.splice(thread.group.threads.indexOf(thread), 1);
    }
    if (cpu >= 0) {
      thread.cpu = -1;
      this.#hand(cpu);
    }
    if (thread.ownedMm !== 0) this.#wakeSpinners(thread.ownedMm);
  }

  #hand(cpu: number): void {
    const next = this.#nextReady();
    if (next === undefined) {
      (this.#cpus[cpu] as Cpu).thread = null;
      this.#idle.push(cpu);
      return;
    }
    const now = this.nowNs;
    this.#occupy(next, cpu, now);
    next.state = ThreadState.Running;
    next.resumed();
    next.localNs = now + next.remainingNs;
    next.remainingNs = 0;
    this.#schedule(next, next.localNs);
  }

  #sliceOver(cpu: number): void {
    const c = this.#cpus[cpu] as Cpu;
    c.armed = false;
    const { thread } = c;
    if (thread === null || this.#readyHead === this.#ready.length) return;
    const now = this.nowNs;
    if (now < thread.sliceEndNs) {
      // Another thread has come to this CPU since the timer was set.
      this.#arm(c, thread.sliceEndNs);
      return;
    }
    if (thread.state === ThreadState.Spinning) {
      // A spinner that is to make room goes to sleep on the lock instead.
      thread.needResched = true;
      this.#stopSpinning(thread, now);
      return;
    }
    thread.leaveChunks(now);
    thread.preempted();
    thread.remainingNs = Math.max(0, thread.localNs - now);
    this.#unschedule(thread);
    thread.cpu = -1;
    this.#hand(cpu);
    this.#enqueue(thread);
    if (thread.ownedMm !== 0) this.#wakeSpinners(thread.ownedMm);
  }

  // ---- waiting

  /**
   * Makes a blocked thread runnable; it runs after the wake-up latency, when it has a CPU. False: it was not blocked.
   */
  wake(thread: HostThread, ns: number): boolean {
    if (thread.state !== ThreadState.Blocked) return false;
    thread.state = ThreadState.Waking;
    this.#schedule(thread, ns + this.options.wakeUpNs);
    return true;
  }

  /** Whether `thread` may spin for mmap_sem of `mm`, whose writer is `owner`: only while that one has a CPU itself. */
  maySpin(thread: HostThread, mm: Ref, owner: HostThread | undefined): boolean {
    const running =
      owner !== undefined && (owner.state === ThreadState.Running || owner.state === ThreadState.Spinning);
    if (!running || thread.needResched) {
      thread.needResched = false;
      thread.spinFirst = false;
      // The next in line sees for itself.
      this.#wakeSpinners(mm);
      return false;
    }
    let list = this.#spinners.get(mm);
    if (list === undefined) this.#spinners.set(mm, (list = []));
    if (thread.spinFirst) list.unshift(thread);
    else list.push(thread);
    thread.ask = Ask.Spin;
    return true;
  }

  /** mmap_sem of `mm` is about to be released by its writer at `ns`: the first spinner sees it a moment later. */
  released(mm: Ref, ns: number): void {
    const first = this.#spinners.get(mm)?.shift();
    if (first === undefined) return;
    first.spinFirst = true;
    first.state = ThreadState.Running;
    this.#schedule(first, ns + this.options.spinNs);
  }

  #wakeSpinners(mm: Ref): void {
    const list = this.#spinners.get(mm);
    if (list === undefined || list.length === 0) return;
    for (const thread of list) {
      thread.state = ThreadState.Running;
      this.#schedule(thread, this.nowNs);
    }
    list.length = 0;
  }

  #stopSpinning(thread: HostThread, ns: number): void {
    for (const list of this.#spinners.values()) {
      const at = list.indexOf(thread);
      if (at >= 0) list.splice(at, 1);
    }
    thread.state = ThreadState.Running;
    this.#schedule(thread, ns);
  }

  /** An invalidation of `ns` asked for at `startNs`: when it is done, behind all the others of this host. */
  invalidate(startNs: number, ns: number): number {
    this.#invalidationFreeNs = Math.max(this.#invalidationFreeNs, startNs) + ns;
    return this.#invalidationFreeNs;
  }

  /** `thread` uses the lock word of `mm` at `ns`: when it has its cache line. */
  lockWord(thread: HostThread, mm: Ref, ns: number): number {
    const { lineNs } = this.options;
    if (lineNs === 0) return ns;
    const line = this.#lines.get(mm);
    if (line === undefined) {
      this.#lines.set(mm, { user: thread, freeNs: ns });
      return ns;
    }
    const atNs = this.lockWordAt(thread, mm, ns);
    if (line.user !== thread) {
      line.user = thread;
      line.freeNs = atNs;
    }
    return atNs;
  }

  /** When `thread` would have the cache line of the lock word of `mm` if it used it at `ns`. */
  lockWordAt(thread: HostThread, mm: Ref, ns: number): number {
    const { lineNs } = this.options;
    const line = lineNs === 0 ? undefined : this.#lines.get(mm);
    return line === undefined || line.user === thread ? ns : Math.max(line.freeNs, ns) + lineNs;
  }

  /** Whether `thread` can use the lock word of `mm` without a transfer. */
  hasLockWord(thread: HostThread, mm: Ref): boolean {
    return this.options.lineNs === 0 || this.#lines.get(mm)?.user === thread;
  }

  /** `pages` pages are cleared from `ns` on: not over before this. */
  memory(ns: number, pages: number): number {
    this.#memoryFreeNs = Math.max(this.#memoryFreeNs, ns) + pages * this.options.memoryNs;
    return this.#memoryFreeNs;
  }

  // ---- the workqueue

  /** schedule_work from CPU (or, with unlimited CPUs, from thread) `pool` at `ns`. */
  queueWork(from: HostThread, item: WorkItem, ns: number): void {
    const id = this.options.cpus === null ? from.slot : from.cpu;
    let pool = this.#pools.get(id);
    if (pool === undefined) this.#pools.set(id, (pool = { items: [], next: 0, running: null, active: 0 }));
    pool.items.push(item);
    if (pool.running === null) this.#startWork(pool, ns + this.options.wakeUpNs);
  }

  #startWork(pool: Pool, ns: number): void {
    if (pool.next === pool.items.length || pool.active >= this.options.workMaxActive) return;
    const { thread, path } = (pool.items[pool.next] as WorkItem)();
    pool.next += 1;
    if (pool.next === pool.items.length) {
      pool.items.length = 0;
      pool.next = 0;
    }
    pool.running = thread;
    pool.active += 1;
    this.#poolOf.set(thread, pool);
    this.add(thread, path, ns);
  }

  /** The pool sees its running worker sleep and starts another, if there is work. */
  #workerBlocked(thread: HostThread): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined || pool.running !== thread) return;
    pool.running = null;
    this.#startWork(pool, this.nowNs + this.options.wakeUpNs);
  }

  #workDone(thread: HostThread): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined) return;
    this.#poolOf.delete(thread);
    pool.active -= 1;
    if (pool.running === thread) pool.running = null;
    // The worker that is done takes the next item without a wake-up.
    if (pool.running === null) this.#startWork(pool, this.nowNs);
  }
}
