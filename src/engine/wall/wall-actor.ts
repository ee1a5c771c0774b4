import type { StatsBlock } from '../../metrics/stats.ts';
import type { AddressSpace } from '../../model/address-space/address-space.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import { type Aperture, type FaultSite, LockKind, type Path, type Variant } from '../../model/env.ts';
import { ACTOR, MM } from '../../model/layout.ts';
import type { Oracle } from '../../model/oracle.ts';
import { RWSEM_STEPS, S, stepSet } from '../../model/steps.ts';
import type { Driver } from '../actor.ts';
import type { ActorFaults } from '../actor-faults.ts';
import { ActorTally } from '../actor-tally.ts';
import { APERTURE_48BIT } from '../machine.ts';
import { Ask, type SpinThread, ThreadState } from '../spinners.ts';
import type { WallControl } from './wall-control.ts';

/** How long an actor that found the hand-over ring full waits before it asks again, real ns. */
const RING_RETRY_NS = 50_000;

/** Steps whose order decides what the actors of a guest find at a lock. */
const isLockStep = stepSet([S.MutexLock, S.MutexUnlock, ...RWSEM_STEPS]);

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
  /** From being woken to running again, and from the release of a lock to a spinning waiter's next try, model ns. */
  readonly wakeUpNs: number;
  readonly spinNs: number;
  readonly pace: number;
  /** This machine's clock, ms. */
  readonly clockMs: () => number;
  /** What it says at the start of the run. */
  epochMs: number;
  onMark(guest: number, incarnation: number, label: string, value: string): void;
}

/** The loop of an actor's thread, as the actor sees it. */
interface Loop {
  wake(actor: Ref, ns: number): boolean;
  maySpin(actor: WallActor, mm: Ref, owner: Ref): boolean;
  released(mm: Ref, ns: number): void;
}

/** An actor on the wall clock: the model's context and its workload's driver in one. */
export class WallActor implements Driver, SpinThread {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  readonly aperture: Aperture = APERTURE_48BIT;
  readonly pagesPerStep = Number.MAX_SAFE_INTEGER;
  readonly tally: ActorTally;
  readonly #costNs: Float64Array;
  readonly #real: boolean;
  readonly #stopWord: number;
  /** The actor's own time, model ns. */
  localNs = 0;
  /** From this instant on it must yield before it touches a lock: another actor of its guest comes first. */
  horizonNs = 0;
  /** From this instant on it must yield before any step. */
  limitNs = 0;
  /** When it goes on; Infinity: when it is woken. */
  dueNs = Infinity;
  state: ThreadState = ThreadState.Blocked;
  ask: Ask = Ask.Time;
  ownedMm: Ref = 0;
  needResched = false;
  spinFirst = false;
  /** Its own thread has woken it, and it has not gone on yet. */
  wakePending = false;
  /** Null for one that no loop runs. */
  loop: Loop | null = null;
  /** What the last announced step touches. */
  #object: Ref = 0;
  path: Path<void> | null = null;

  constructor(
    readonly shared: WallShared,
    readonly actor: Ref,
    public current: Ref,
    readonly guest: number,
    readonly incarnation: number,
    /** The guest's first address space: carries its stop request. */
    guestMm: Ref,
    private readonly faults: ActorFaults | null,
  ) {
    this.arena = shared.arena;
    this.variant = shared.variant;
    this.oracle = shared.oracle;
    this.addressSpace = shared.addressSpace;
    this.tally = new ActorTally(shared.arena, actor, shared.stats);
    this.#costNs = shared.costNs;
    this.#real = shared.pace === 0;
    this.#stopWord = guestMm + MM.stop;
  }

  at(step: number, object: Ref): boolean {
    this.#object = object;
    this.localNs += this.#costNs[step] as number;
    return this.localNs >= this.horizonNs && (isLockStep[step] === 1 || this.localNs >= this.limitNs);
  }

  atMany(step: number, object: Ref, count: number): boolean {
    this.#object = object;
    this.localNs += (this.#costNs[step] as number) * count;
    return this.localNs >= this.horizonNs && (isLockStep[step] === 1 || this.localNs >= this.limitNs);
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
    return this.tally.lastHoldNs(kind);
  }

  heldAgain(kind: LockKind, times: number, ns: number): void {
    this.tally.heldAgain(kind, times, ns);
  }

  /** Model ns since the start of the run, on the real clock. */
  clockNs(): number {
    const realNs = (this.shared.clockMs() - this.shared.epochMs) * 1e6;
    return this.#real ? realNs : realNs * this.shared.pace;
  }

  spin(mm: Ref): boolean {
    if (this.loop?.maySpin(this, mm, this.arena.get(mm, MM.semOwner) as Ref) !== true) return false;
    this.#wait();
    return true;
  }

  get disturbances(): number {
    return this.tally.disturbances;
  }

  block(): void {
    this.ask = Ask.Block;
    this.#wait();
  }

  #wait(): void {
    this.tally.disturbances += 1;
    if (!this.tally.waiting) this.tally.waits(this.#lockNs());
  }

  unblock(kind: LockKind): void {
    if (this.tally.waiting) this.tally.waited(kind, this.#lockNs());
  }

  /** Waits for locks are on the actor's own clock; at pace 0 that is the real one, and never runs back. */
  #lockNs(): number {
    if (this.#real) this.localNs = this.startNs();
    return this.localNs;
  }

  acquired(kind: LockKind): void {
    this.tally.acquired(kind, this.localNs);
    if (kind !== LockKind.MmapWrite) return;
    this.ownedMm = this.#object;
    this.spinFirst = false;
  }

  releasing(kind: LockKind): void {
    this.tally.released(kind, this.localNs);
    if (kind !== LockKind.MmapWrite) return;
    this.ownedMm = 0;
    this.loop?.released(this.#object, this.localNs);
  }

  wake(actor: Ref): void {
    const atNs = this.localNs + this.shared.wakeUpNs;
    if (this.loop?.wake(actor, atNs) === true) return;
    this.arena.set(actor, ACTOR.wokenAt, atNs);
    this.shared.control.post(this.arena, this.arena.get(actor, ACTOR.thread), actor);
  }

  handoffDue(actor: Ref): boolean {
    return this.tally.handoffDue(actor, this.#lockNs());
  }

  defer(mm: Ref, npage: number): boolean {
    // One clock for all threads of the process.
    const queuedAtNs = Number(process.hrtime.bigint());
    const guest = this.arena.get(mm, MM.guest);
    const { incarnation, actor: from } = this;
    if (this.shared.control.push({ mm, guest, incarnation, npage, queuedAtNs, from })) return true;
    this.localNs = Math.max(this.localNs, this.clockNs()) + RING_RETRY_NS * (this.shared.pace || 1);
    return false;
  }

  inject(site: FaultSite): boolean {
    return this.faults !== null && this.faults.happens(site);
  }

  count(counter: number, by: number): void {
    this.tally.count(counter, by);
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
    this.tally.operation(op, ret, actualNs, lagNs);
  }

  mark(label: string, value: string): void {
    this.shared.onMark(this.guest, this.incarnation, label, value);
  }
}
