/**
 * The CPUs of an emulated host: one run queue for all of them, round robin, with time slices.
 *
 * Whoever waits for a lock or a timer leaves its CPU; whoever has used up its slice while others are ready goes to the
 * end of the run queue, with whatever locks it holds.
 *
 * differs: one run queue for all CPUs, round robin, where the kernel has one per CPU and balances them; a long step
 * (clearing a huge page) can be interrupted at any point.
 */
import { type Spinners, ThreadState } from '../spinners.ts';
import type { HostThread } from './host-thread.ts';
import type { Timeline } from './timeline.ts';

interface Cpu {
  thread: HostThread | null;
  armed: boolean;
  timerSlot: number;
}

export class Cpus {
  readonly #timeline: Timeline;
  readonly #spinners: Spinners<HostThread>;
  readonly #sliceNs: number;
  readonly #cpus: Cpu[];
  readonly #idle: number[] = [];
  readonly #ready: HostThread[] = [];
  #readyHead = 0;

  constructor(timeline: Timeline, spinners: Spinners<HostThread>, count: number, sliceNs: number) {
    this.#timeline = timeline;
    this.#spinners = spinners;
    this.#sliceNs = sliceNs;
    this.#cpus = Array.from({ length: count }, (_, cpu) => ({
      thread: null,
      armed: false,
      timerSlot: timeline.slot(() => this.#sliceOver(cpu)),
    }));
    for (let cpu = count - 1; cpu >= 0; cpu -= 1) this.#idle.push(cpu);
  }

  /** A thread that has been woken gets an idle CPU. False: there is none, it goes to the end of the run queue. */
  take(thread: HostThread): boolean {
    const cpu = this.#idle.pop();
    if (cpu === undefined) {
      this.#enqueue(thread);
      return false;
    }
    this.#occupy(thread, cpu, this.#timeline.nowNs);
    return true;
  }

  /** The thread gives its CPU up, if it has one; the next ready one gets it. */
  leave(thread: HostThread): void {
    const { cpu } = thread;
    if (cpu < 0) return;
    thread.cpu = -1;
    this.#hand(cpu);
  }

  #occupy(thread: HostThread, cpu: number, ns: number): void {
    const c = this.#cpus[cpu] as Cpu;
    c.thread = thread;
    thread.cpu = cpu;
    thread.sliceEndNs = ns + this.#sliceNs;
    if (this.#readyHead < this.#ready.length) this.#arm(c, thread.sliceEndNs);
  }

  #arm(c: Cpu, ns: number): void {
    if (c.armed) return;
    c.armed = true;
    this.#timeline.call(c.timerSlot, ns);
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

  #hand(cpu: number): void {
    const next = this.#nextReady();
    if (next === undefined) {
      (this.#cpus[cpu] as Cpu).thread = null;
      this.#idle.push(cpu);
      return;
    }
    const now = this.#timeline.nowNs;
    this.#occupy(next, cpu, now);
    next.state = ThreadState.Running;
    next.resumed();
    next.localNs = now + next.remainingNs;
    next.remainingNs = 0;
    this.#timeline.schedule(next, next.localNs);
  }

  #sliceOver(cpu: number): void {
    const c = this.#cpus[cpu] as Cpu;
    c.armed = false;
    const { thread } = c;
    if (thread === null || this.#readyHead === this.#ready.length) return;
    const now = this.#timeline.nowNs;
    if (now < thread.sliceEndNs) {
      // Another thread has come to this CPU since the timer was set.
      this.#arm(c, thread.sliceEndNs);
      return;
    }
    if (thread.state === ThreadState.Spinning) {
      // A spinner that is to make room goes to sleep on the lock instead.
      thread.needResched = true;
      this.#spinners.stop(thread, now);
      return;
    }
    thread.leaveChunks(now);
    thread.preempted();
    thread.remainingNs = Math.max(0, thread.localNs - now);
    this.#timeline.unschedule(thread);
    thread.cpu = -1;
    this.#hand(cpu);
    this.#enqueue(thread);
    this.#spinners.ownerLeft(thread);
  }
}
