/**
 * The wall driver: one thread's real-time event loop over many actors. Model time is real time times the pace; an actor
 * whose path has used up its modelled time sleeps in a heap until the clock has caught up, so costs are waited for, not
 * burned, and a blocked or sleeping actor never holds up the others of its thread.
 *
 * Steps are cheaper than a clock read, so an actor runs ahead of the clock by at most the tolerance before it is put to
 * sleep, and after an oversleep it catches up by at most a slice at a time. Where the next actor is due sooner than the
 * operating system's timer can tell, the thread polls; otherwise it sleeps on its doorbell.
 *
 * At pace 0 costs are not waited for at all and latencies are measured on the real clock.
 */
import { performance } from 'node:perf_hooks';
import FlatQueue from 'flatqueue';
import { LATENESS } from '../../metrics/ops.ts';
import type { Ref } from '../../model/arena.ts';
import type { Path } from '../../model/env.ts';
import type { WallActor, WallShared } from './wall-actor.ts';

/** How far an actor may run ahead of the clock, real ns. */
const TOLERANCE_NS = 5_000;

/** How much modelled time an actor that is behind may catch up before others get their turn, real ns. */
const SLICE_NS = 50_000;

/** Below this the operating system's timer is too coarse: poll. Real ns. */
const POLL_NS = 70_000;

/** One thread's loop. */
export class WallLoop {
  readonly #due = new FlatQueue<number>();
  readonly #slots: (WallActor | null)[] = [];
  readonly #free: number[] = [];
  readonly #bySlot = new Map<Ref, number>();
  readonly #scale: number;

  constructor(
    readonly shared: WallShared,
    /** Called when an actor's path has ended. */
    private readonly onEnd: (actor: WallActor) => void,
  ) {
    this.#scale = shared.pace === 0 ? 1 : shared.pace;
  }

  get actors(): number {
    return this.#bySlot.size;
  }

  /** Starts `path` as the work of `actor` at model time `startNs`. */
  add(actor: WallActor, path: Path<void>, startNs: number): void {
    actor.path = path;
    actor.localNs = this.shared.pace === 0 ? 0 : startNs;
    const slot = this.#free.pop() ?? this.#slots.length;
    this.#slots[slot] = actor;
    this.#bySlot.set(actor.actor, slot);
    this.#due.push(slot, actor.localNs);
  }

  /** The actors in the loop, for stop requests. */
  *all(): Iterable<WallActor> {
    for (const a of this.#slots) if (a !== null) yield a;
  }

  /** Takes the wake-ups of the mailbox. */
  collect(): void {
    const { shared } = this;
    shared.control.collect(shared.arena, shared.thread, (ref) => {
      const slot = this.#bySlot.get(ref);
      const actor = slot === undefined ? null : this.#slots[slot];
      // A wake-up can be late for a wait that is over: whoever is not blocked is already on its way.
      if (slot === undefined || actor === null || actor === undefined || !actor.blocked) return;
      actor.blocked = false;
      this.#due.push(slot, shared.pace === 0 ? 0 : Math.max(actor.localNs, this.#clock()));
    });
  }

  /**
   * Runs every actor that is due. Returns how long nothing will be due, in real ns: 0 = at once, Infinity = until
   * woken.
   */
  turn(): number {
    const { shared } = this;
    const scale = this.#scale;
    this.collect();
    let nowNs = this.#clock();
    // Bounded, so that the mailbox and the stop flag are seen even when somebody is always due.
    for (let n = 0; n < 64; n += 1) {
      const slot = this.#due.peek();
      if (slot === undefined) return Infinity;
      const dueNs = this.#due.peekValue() as number;
      if (dueNs > nowNs && shared.pace !== 0) {
        nowNs = this.#clock();
        if (dueNs > nowNs) return (dueNs - nowNs) / scale;
      }
      this.#due.pop();
      const actor = this.#slots[slot] as WallActor;
      if (shared.pace !== 0) {
        // The key in the heap says whose turn it is; how late the actor is its own time says.
        const lateNs = nowNs - actor.localNs;
        if (lateNs > 0) shared.stats.record(LATENESS, lateNs / scale, 1);
        actor.horizonNs = Math.min(nowNs + TOLERANCE_NS * scale, actor.localNs + SLICE_NS * scale);
      } else {
        actor.horizonNs = actor.localNs + SLICE_NS;
      }
      if ((actor.path as Path<void>).next().done === true) {
        this.#slots[slot] = null;
        this.#bySlot.delete(actor.actor);
        this.#free.push(slot);
        this.onEnd(actor);
      } else if (!actor.blocked) {
        // Whoever is behind the clock goes to the end of the line, so that it cannot starve a lock holder that is on
        // time.
        this.#due.push(slot, shared.pace === 0 ? nowNs : Math.max(actor.localNs, nowNs));
      }
      nowNs = this.#clock();
    }
    return 0;
  }

  #clock(): number {
    return (performance.now() - this.shared.epochMs) * 1e6 * this.#scale;
  }

  /** Waits as `turn` said. `idleMs` bounds the sleep. */
  wait(restNs: number, idleMs: number): void {
    if (restNs <= 0) return;
    const beforeMs = performance.now();
    this.#wait(restNs, idleMs);
    const { stats } = this.shared;
    stats.count(stats.layout.counter('thread_idle_ns'), Math.round((performance.now() - beforeMs) * 1e6));
  }

  #wait(restNs: number, idleMs: number): void {
    const { control, thread } = this.shared;
    const bell = control.bell(thread);
    if (restNs > POLL_NS) {
      // Mail that came before the bell was read must not be slept on.
      this.collect();
      if (this.#ready()) return;
      control.sleep(thread, bell, Math.min((restNs - POLL_NS / 2) / 1e6, idleMs));
      return;
    }
    const until = performance.now() + restNs / 1e6;
    while (performance.now() < until && control.bell(thread) === bell);
  }

  #ready(): boolean {
    const value = this.#due.peekValue();
    return value !== undefined && (this.shared.pace === 0 || value <= this.#clock());
  }
}
