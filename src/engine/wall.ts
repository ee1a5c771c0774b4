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
import FlatQueue from 'flatqueue';
import { performance } from 'node:perf_hooks';
import { LATENESS, lockHoldSeries, lockWaitSeries, outcomeOf, SCHEDULE_LAG } from '../metrics/ops.ts';
import type { StatsBlock } from '../metrics/stats.ts';
import type { AddressSpace } from '../model/address-space.ts';
import type { Arena, Ref } from '../model/arena.ts';
import { C, type FaultSite, type LockKind, type Path } from '../model/env.ts';
import type { Variant } from '../model/kernels/variant.ts';
import { ACTOR, MM } from '../model/layout.ts';
import type { Oracle } from '../model/oracle.ts';
import type { Aperture } from '../model/paths/map.ts';
import type { Prng } from '../base/prng.ts';
import type { Driver } from './actor.ts';
import { APERTURE_48BIT } from './machine.ts';
import type { WallControl } from './wall-control.ts';

/** How far an actor may run ahead of the clock, real ns. */
const TOLERANCE_NS = 5_000;
/** How much modelled time an actor that is behind may catch up before others get their turn, real ns. */
const SLICE_NS = 50_000;
/** Below this the operating system's timer is too coarse: poll. Real ns. */
const POLL_NS = 70_000;
/** How long an actor that found the hand-over ring full waits before it asks again, real ns. */
const RING_RETRY_NS = 50_000;
/** The rwsem's hand-off time, 4 ms since 5.2 (kernel/locking/rwsem.c). */
const HANDOFF_NS = 4e6;
const LOCK_KINDS = 4;

/** What the actors of a thread share. */
export interface WallShared {
  readonly arena: Arena;
  readonly control: WallControl;
  readonly thread: number;
  readonly stats: StatsBlock;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  /** Cost per step id, ns. */
  readonly costNs: Float64Array;
  readonly pace: number;
  /** performance.now() of this thread at the start of the run, ms. */
  epochMs: number;
  onMark(guest: number, incarnation: number, label: string, value: string): void;
}

/** An actor on the wall clock: the model's context and its workload's driver in one. */
export class WallActor implements Driver {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  readonly aperture: Aperture = APERTURE_48BIT;
  readonly pagesPerStep = Number.MAX_SAFE_INTEGER;
  readonly #stats: StatsBlock;
  readonly #costNs: Float64Array;
  readonly #real: boolean;
  readonly #stopWord: number;
  /** The actor's own time, model ns. */
  localNs = 0;
  /** Beyond this it must yield. */
  horizonNs = 0;
  operations = 0;
  failedOperations = 0;
  blocked = false;
  path: Path<void> | null = null;
  readonly #acquiredNs = new Float64Array(LOCK_KINDS);
  readonly #lastHoldNs = new Float64Array(LOCK_KINDS);
  disturbances = 0;
  #waiting = false;
  #waitStartNs = 0;

  constructor(
    readonly shared: WallShared,
    readonly actor: Ref,
    public current: Ref,
    readonly guest: number,
    readonly incarnation: number,
    /** The guest's first address space: carries its stop request. */
    guestMm: Ref,
    private readonly faults: { readonly rate: ReadonlyMap<FaultSite, number>; readonly random: Prng } | null,
  ) {
    this.arena = shared.arena;
    this.variant = shared.variant;
    this.oracle = shared.oracle;
    this.addressSpace = shared.addressSpace;
    this.#stats = shared.stats;
    this.#costNs = shared.costNs;
    this.#real = shared.pace === 0;
    this.#stopWord = guestMm + MM.stop;
  }

  at(step: number): boolean {
    this.localNs += this.#costNs[step] as number;
    return this.localNs > this.horizonNs;
  }

  atMany(step: number, _object: Ref, count: number): boolean {
    this.localNs += (this.#costNs[step] as number) * count;
    return this.localNs > this.horizonNs;
  }

  aheadNs(): number {
    // Injected faults are drawn step by step.
    return this.faults === null ? Math.max(0, this.horizonNs - this.localNs) : 0;
  }

  // Another thread writes to the same arena at any time.
  readonly exclusive = false;

  usedNs(): number {
    return this.localNs;
  }

  spend(ns: number): void {
    this.localNs += ns;
  }

  lastHoldNs(kind: LockKind): number {
    return this.#lastHoldNs[kind] as number;
  }

  heldAgain(kind: LockKind, times: number, ns: number): void {
    this.#stats.record(lockHoldSeries(kind), ns, times);
  }

  /** Model ns since the start of the run, on the real clock. */
  clockNs(): number {
    const realNs = (performance.now() - this.shared.epochMs) * 1e6;
    return this.#real ? realNs : realNs * this.shared.pace;
  }

  spin(): boolean {
    // A spinner would burn the thread its owner may need.
    return false;
  }

  block(_kind: LockKind): void {
    this.blocked = true;
    this.disturbances += 1;
    if (this.#waiting) return;
    this.#waiting = true;
    this.#waitStartNs = Math.max(this.localNs, this.clockNs());
    this.arena.f64[(this.actor + ACTOR.waitSince) >> 1] = this.#waitStartNs;
  }

  unblock(kind: LockKind): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.blocked = false;
    const now = this.clockNs();
    this.#stats.record(lockWaitSeries(kind), Math.max(0, now - this.#waitStartNs), 1);
    if (now > this.localNs) this.localNs = now;
  }

  acquired(kind: LockKind): void {
    this.#acquiredNs[kind] = this.localNs;
  }

  releasing(kind: LockKind): void {
    const held = Math.max(0, this.localNs - (this.#acquiredNs[kind] as number));
    this.#lastHoldNs[kind] = held;
    this.#stats.record(lockHoldSeries(kind), held, 1);
  }

  wake(actor: Ref): void {
    this.shared.control.post(this.arena, this.arena.i32[actor + ACTOR.thread] as number, actor);
  }

  handoffDue(actor: Ref): boolean {
    return this.clockNs() - (this.arena.f64[(actor + ACTOR.waitSince) >> 1] as number) > HANDOFF_NS;
  }

  defer(mm: Ref, npage: number): boolean {
    // One clock for all threads of the process.
    const queuedAtNs = Number(process.hrtime.bigint());
    if (this.shared.control.push(mm, this.arena.i32[mm + MM.guest] as number, this.incarnation, npage, queuedAtNs))
      return true;
    this.localNs = Math.max(this.localNs, this.clockNs()) + RING_RETRY_NS * (this.shared.pace || 1);
    return false;
  }

  inject(site: FaultSite): boolean {
    const rate = this.faults?.rate.get(site);
    return rate !== undefined && this.faults !== null && this.faults.random.float() < rate;
  }

  count(counter: number, by: number): void {
    this.#stats.count(counter, by);
    if (counter === C.trylock_failures) this.disturbances += by;
  }

  nowNs(): number {
    if (this.#real) this.localNs = this.clockNs();
    return this.localNs;
  }

  startNs(): number {
    return Math.max(this.localNs, this.clockNs());
  }

  sleepUntil(ns: number): void {
    // At pace 0 nothing is waited for, but others get their turn.
    if (!this.#real) this.localNs = Math.max(this.localNs, ns);
  }

  stopping(): boolean {
    return this.shared.control.stopping || Atomics.load(this.arena.i32, this.#stopWord) !== 0;
  }

  stopGuest(): void {
    Atomics.store(this.arena.i32, this.#stopWord, 1);
  }

  recordOp(op: number, ret: number, actualNs: number, lagNs: number): void {
    this.operations += 1;
    if (ret < 0) this.failedOperations += 1;
    this.#stats.recordOp(op, outcomeOf(ret), actualNs, actualNs + lagNs);
    this.#stats.record(SCHEDULE_LAG, lagNs, 1);
  }

  mark(label: string, value: string): void {
    this.shared.onMark(this.guest, this.incarnation, label, value);
  }
}

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
   * Runs every actor that is due. Returns how long nothing will be due, in real ns: 0 = at once, Infinity = until woken.
   */
  turn(): number {
    const { shared } = this;
    const scale = this.#scale;
    this.collect();
    let nowNs = this.#clock();
    // Bounded, so that the mailbox and the stop flag are seen even when somebody is always due.
    for (let n = 0; n < 64; n += 1) {
      const slot = this.#due.peek();
      if (slot === undefined) return Number.POSITIVE_INFINITY;
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
        // Whoever is behind the clock goes to the end of the line, so that it cannot starve a lock holder that is on time.
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
