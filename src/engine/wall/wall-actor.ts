import { performance } from 'node:perf_hooks';
import type { Prng } from '../../base/prng.ts';
import { lockHoldSeries, lockWaitSeries, outcomeOf, SCHEDULE_LAG } from '../../metrics/ops.ts';
import type { StatsBlock } from '../../metrics/stats.ts';
import type { AddressSpace } from '../../model/address-space/address-space.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import { type Aperture, C, type FaultSite, type LockKind, type Path, type Variant } from '../../model/env.ts';
import { ACTOR, MM } from '../../model/layout.ts';
import type { Oracle } from '../../model/oracle.ts';
import type { Driver } from '../actor.ts';
import { APERTURE_48BIT } from '../machine.ts';
import type { WallControl } from './wall-control.ts';

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
    this.arena.set(this.actor, ACTOR.waitSince, this.#waitStartNs);
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
    this.shared.control.post(this.arena, this.arena.get(actor, ACTOR.thread), actor);
  }

  handoffDue(actor: Ref): boolean {
    return this.clockNs() - this.arena.get(actor, ACTOR.waitSince) > HANDOFF_NS;
  }

  defer(mm: Ref, npage: number): boolean {
    // One clock for all threads of the process.
    const queuedAtNs = Number(process.hrtime.bigint());
    if (this.shared.control.push(mm, this.arena.get(mm, MM.guest), this.incarnation, npage, queuedAtNs)) return true;
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
