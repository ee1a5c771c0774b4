/**
 * The wall driver: one thread's real-time event loop over many actors. Model time is real time times the pace. An actor
 * whose path has used up its modelled time waits in a heap until the clock has caught up, so costs are waited for, not
 * burned, and a blocked or sleeping actor never holds up the others of its thread.
 *
 * Contention happens in model time: all actors of a guest are on one thread, the actor with the least model time goes
 * first, and it touches no lock after the instant at which the next one of its guest goes on. So it finds a lock as all
 * before it have left it, however late the thread is, and may run ahead of the clock, up to the tolerance. One that is
 * behind catches up a slice at a time, in turn with the others that are behind. A thread with nothing due sleeps on its
 * doorbell. docs/decisions/0007-contention-in-model-time.md says why.
 *
 * At pace 0 costs are not waited for at all, latencies are measured on the real clock, and threads race.
 */
import FlatQueue from 'flatqueue';
import { LATENESS } from '../../metrics/ops.ts';
import type { Ref } from '../../model/arena.ts';
import type { Path } from '../../model/env.ts';
import { ACTOR } from '../../model/layout.ts';
import { Ask, Spinners, ThreadState } from '../spinners.ts';
import { WORK_MAX_ACTIVE, type WorkItem, Workqueue } from '../workqueue.ts';
import type { WallActor, WallShared } from './wall-actor.ts';

export interface Granularity {
  /** How far an actor may run ahead of the clock, real ns. */
  readonly aheadNs: number;
  /** How much modelled time an actor that is behind may catch up before others get their turn, real ns. */
  readonly sliceNs: number;
}

export const GRANULARITY: Granularity = { aheadNs: 100_000, sliceNs: 200_000 };

/** Below this the operating system's timer is too coarse: poll. Real ns. */
const POLL_NS = 10_000;

/** Actors resumed before the mailbox and the stop flag are looked at again. */
const RESUMED_MAX = 64;

/** One thread's loop. */
export class WallLoop {
  readonly #due = new FlatQueue<WallActor>();
  readonly #byRef = new Map<Ref, WallActor>();
  /** By guest: who may come to the same locks. */
  readonly #guests = new Map<number, WallActor[]>();
  readonly #spinners: Spinners<WallActor>;
  readonly #workqueue: Workqueue<WallActor>;
  #current: WallActor | null = null;
  readonly #pace: number;
  readonly #aheadNs: number;
  readonly #sliceNs: number;

  constructor(
    readonly shared: WallShared,
    /** Called when an actor's path has ended. */
    private readonly onEnd: (actor: WallActor) => void,
    { aheadNs, sliceNs }: Granularity = GRANULARITY,
  ) {
    this.#pace = shared.pace === 0 ? 1 : shared.pace;
    this.#aheadNs = aheadNs * this.#pace;
    this.#sliceNs = sliceNs * this.#pace;
    this.#spinners = new Spinners(this, shared.spinNs);
    const { wakeUpNs } = shared;
    this.#workqueue = new Workqueue(this, { wakeUpNs, workMaxActive: WORK_MAX_ACTIVE }, (kworker, path, startNs) =>
      this.add(kworker, path, startNs),
    );
  }

  get actors(): number {
    return this.#byRef.size;
  }

  /** Model time of the actor that runs; while none does, of the clock, ns. */
  get nowNs(): number {
    return this.#current?.localNs ?? this.#clock();
  }

  /** Starts `path` as the work of `actor` at model time `startNs`. */
  add(actor: WallActor, path: Path<void>, startNs: number): void {
    actor.path = path;
    actor.loop = this;
    actor.state = ThreadState.Running;
    this.#byRef.set(actor.actor, actor);
    const guest = this.#guests.get(actor.guest);
    if (guest === undefined) this.#guests.set(actor.guest, [actor]);
    else guest.push(actor);
    actor.localNs = this.shared.pace === 0 ? 0 : startNs;
    this.schedule(actor, actor.localNs);
  }

  /**
   * Queues work of the guest that comes from outside, into the pool of the CPU that `from` has for itself: now, but not
   * after what is still to happen in the guest.
   */
  queueWork(guest: number, from: Ref, item: WorkItem<WallActor>): void {
    this.#workqueue.queue(from, item, Math.min(this.#clock(), this.#nextOf(guest, null)));
  }

  #remove(actor: WallActor): void {
    actor.loop = null;
    actor.state = ThreadState.Done;
    this.#byRef.delete(actor.actor);
    const guest = this.#guests.get(actor.guest) as WallActor[];
    guest.splice(guest.indexOf(actor), 1);
    if (guest.length === 0) this.#guests.delete(actor.guest);
  }

  /** The actor goes on at model time `ns`; whoever of its guest runs goes no further. */
  schedule(actor: WallActor, ns: number): void {
    actor.dueNs = ns;
    this.#due.push(actor, ns);
    const current = this.#current;
    if (current !== null && current.guest === actor.guest && ns < current.horizonNs) current.horizonNs = ns;
  }

  /** Takes the wake-ups of the mailbox. */
  collect(): void {
    const { arena, control, thread, pace } = this.shared;
    control.collect(arena, thread, (ref) => {
      const actor = this.#byRef.get(ref);
      // A wake-up can be late for a wait that is over: an actor that is not blocked is already on its way.
      if (actor === undefined || actor.state !== ThreadState.Blocked) return;
      actor.state = ThreadState.Running;
      this.schedule(actor, pace === 0 ? 0 : Math.max(actor.localNs, arena.get(ref, ACTOR.wokenAt)));
    });
  }

  /** Wakes a blocked actor of this thread at model time `ns`. False: it is not one of them. */
  wake(ref: Ref, ns: number): boolean {
    const actor = this.shared.pace === 0 ? undefined : this.#byRef.get(ref);
    if (actor === undefined) return false;
    if (actor.state !== ThreadState.Blocked) return true;
    actor.state = ThreadState.Running;
    // Nobody needs to wake it again; if it is in the mailbox already, collecting that is what lets others do so.
    const { i32 } = this.shared.arena;
    actor.wakePending = Atomics.compareExchange(i32, ref + ACTOR.wakePending, 0, 1) === 0;
    this.schedule(actor, Math.max(actor.localNs, ns));
    return true;
  }

  /** Whether the actor may spin for mmap_sem of `mm`, whose writer is `owner`. */
  maySpin(actor: WallActor, mm: Ref, owner: Ref): boolean {
    return this.shared.pace !== 0 && this.#spinners.maySpin(actor, mm, this.#byRef.get(owner));
  }

  /** mmap_sem of `mm` is about to be released by its writer. */
  released(mm: Ref, ns: number): void {
    this.#spinners.released(mm, ns);
  }

  /**
   * Runs every actor that is due. Returns how long nothing will be due, in real ns: 0 = at once, Infinity = until
   * woken.
   */
  turn(): number {
    const { pace } = this.shared;
    this.collect();
    let clockNs = this.#clock();
    for (let n = 0; n < RESUMED_MAX; n += 1) {
      const dueNs = this.#due.peekValue();
      if (dueNs === undefined) return Infinity;
      if (dueNs > clockNs && pace !== 0) {
        clockNs = this.#clock();
        if (dueNs > clockNs) return (dueNs - clockNs) / this.#pace;
      }
      this.#resume(this.#due.pop() as WallActor, clockNs);
      clockNs = this.#clock();
    }
    return 0;
  }

  #resume(actor: WallActor, clockNs: number): void {
    const { arena, pace, stats } = this.shared;
    if (pace === 0) {
      actor.limitNs = actor.localNs + this.#sliceNs;
      actor.horizonNs = actor.limitNs;
    } else {
      if (actor.dueNs > actor.localNs) actor.localNs = actor.dueNs;
      const lateNs = clockNs - actor.localNs;
      if (lateNs > 0) stats.record(LATENESS, lateNs / this.#pace, 1);
      actor.limitNs = Math.min(clockNs + this.#aheadNs, actor.localNs + this.#sliceNs);
      actor.horizonNs = Math.min(actor.limitNs, this.#nextOf(actor.guest, actor));
    }
    if (actor.wakePending) {
      actor.wakePending = false;
      Atomics.store(arena.i32, actor.actor + ACTOR.wakePending, 0);
    }
    actor.ask = Ask.Time;
    this.#current = actor;
    const { done } = (actor.path as Path<void>).next();
    if (done === true) {
      this.#remove(actor);
      this.#workqueue.done(actor);
    } else this.#asked(actor, clockNs);
    this.#current = null;
    if (done === true) this.onEnd(actor);
  }

  #asked(actor: WallActor, clockNs: number): void {
    switch (actor.ask) {
      case Ask.Block:
        actor.state = ThreadState.Blocked;
        actor.dueNs = Infinity;
        this.#spinners.ownerLeft(actor);
        this.#workqueue.blocked(actor);
        return;
      case Ask.Spin:
        actor.state = ThreadState.Spinning;
        actor.dueNs = Infinity;
        return;
      default:
        // At pace 0 an actor that has had its turn goes to the end of the line.
        this.schedule(actor, this.shared.pace === 0 ? Math.max(actor.localNs, clockNs) : actor.localNs);
    }
  }

  /** When the first actor of the guest but `except` goes on. */
  #nextOf(guest: number, except: WallActor | null): number {
    let ns = Infinity;
    for (const actor of this.#guests.get(guest) ?? []) if (actor !== except && actor.dueNs < ns) ns = actor.dueNs;
    return ns;
  }

  #clock(): number {
    return (this.shared.clockMs() - this.shared.epochMs) * 1e6 * this.#pace;
  }

  /** Waits as `turn` said. `idleMs` bounds the sleep. */
  wait(restNs: number, idleMs: number): void {
    if (restNs <= 0) return;
    const { clockMs, stats } = this.shared;
    const beforeMs = clockMs();
    this.#wait(restNs, idleMs);
    stats.count(stats.layout.counter('thread_idle_ns'), Math.round((clockMs() - beforeMs) * 1e6));
  }

  #wait(restNs: number, idleMs: number): void {
    const { control, thread, clockMs } = this.shared;
    const bell = control.bell(thread);
    if (restNs > POLL_NS) {
      // Mail that came before the bell was read must not be slept on.
      this.collect();
      if (this.#ready()) return;
      control.sleep(thread, bell, Math.min((restNs - POLL_NS / 2) / 1e6, idleMs));
      return;
    }
    const until = clockMs() + restNs / 1e6;
    while (clockMs() < until && control.bell(thread) === bell);
  }

  #ready(): boolean {
    const value = this.#due.peekValue();
    return value !== undefined && (this.shared.pace === 0 || value <= this.#clock());
  }
}
