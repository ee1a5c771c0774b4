import { performance } from 'node:perf_hooks';
import type { StatsBlock } from '../../metrics/stats.ts';
import type { AddressSpace } from '../../model/address-space/address-space.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import type { Aperture, FaultSite, LockKind, Path, Variant } from '../../model/env.ts';
import { ACTOR, MM } from '../../model/layout.ts';
import type { Oracle } from '../../model/oracle.ts';
import type { Driver } from '../actor.ts';
import type { ActorFaults } from '../actor-faults.ts';
import { ActorTally } from '../actor-tally.ts';
import { APERTURE_48BIT } from '../machine.ts';
import type { WallControl } from './wall-control.ts';

/** How long an actor that found the hand-over ring full waits before it asks again, real ns. */
const RING_RETRY_NS = 50_000;

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
  readonly tally: ActorTally;
  readonly #costNs: Float64Array;
  readonly #real: boolean;
  readonly #stopWord: number;
  /** The actor's own time, model ns. */
  localNs = 0;
  /** Beyond this it must yield. */
  horizonNs = 0;
  blocked = false;
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
    return this.tally.lastHoldNs(kind);
  }

  heldAgain(kind: LockKind, times: number, ns: number): void {
    this.tally.heldAgain(kind, times, ns);
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

  get disturbances(): number {
    return this.tally.disturbances;
  }

  block(_kind: LockKind): void {
    this.blocked = true;
    this.tally.disturbances += 1;
    if (!this.tally.waiting) this.tally.waits(this.startNs());
  }

  unblock(kind: LockKind): void {
    if (!this.tally.waiting) return;
    this.blocked = false;
    const nowNs = this.clockNs();
    this.tally.waited(kind, nowNs);
    if (nowNs > this.localNs) this.localNs = nowNs;
  }

  acquired(kind: LockKind): void {
    this.tally.acquired(kind, this.localNs);
  }

  releasing(kind: LockKind): void {
    this.tally.released(kind, this.localNs);
  }

  wake(actor: Ref): void {
    this.shared.control.post(this.arena, this.arena.get(actor, ACTOR.thread), actor);
  }

  handoffDue(actor: Ref): boolean {
    return this.tally.handoffDue(actor, this.clockNs());
  }

  defer(mm: Ref, npage: number): boolean {
    // One clock for all threads of the process.
    const queuedAtNs = Number(process.hrtime.bigint());
    if (this.shared.control.push(mm, this.arena.get(mm, MM.guest), this.incarnation, npage, queuedAtNs)) return true;
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
