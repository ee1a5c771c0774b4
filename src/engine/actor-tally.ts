/**
 * What an actor that lives in time counts and measures, the same on both clocks: its operations, what disturbed it, how
 * long it waited for locks and held them. The driver says when, on its own clock.
 */
import { lockHoldSeries, lockWaitSeries, outcomeOf, SCHEDULE_LAG } from '../metrics/ops.ts';
import type { StatsBlock } from '../metrics/stats.ts';
import type { Arena, Ref } from '../model/arena.ts';
import { C, type LockKind } from '../model/env.ts';
import { ACTOR } from '../model/layout.ts';

const LOCK_KINDS = 4;

/** How long a waiter leaves the lock to those who steal it: RWSEM_WAIT_TIMEOUT, kernel/locking/rwsem.c, since 5.2. */
const HANDOFF_NS = 4e6;

export class ActorTally {
  operations = 0;
  failedOperations = 0;
  /** Times that another actor got in its way. */
  disturbances = 0;
  waiting = false;
  #waitStartNs = 0;
  readonly #acquiredNs = new Float64Array(LOCK_KINDS);
  readonly #lastHoldNs = new Float64Array(LOCK_KINDS);
  readonly #arena: Arena;
  readonly #actor: Ref;
  readonly #stats: StatsBlock;

  constructor(arena: Arena, actor: Ref, stats: StatsBlock) {
    this.#arena = arena;
    this.#actor = actor;
    this.#stats = stats;
  }

  waits(nowNs: number): void {
    this.waiting = true;
    this.#waitStartNs = nowNs;
    this.#arena.set(this.#actor, ACTOR.waitSince, nowNs);
  }

  waited(kind: LockKind, nowNs: number): void {
    this.waiting = false;
    this.#stats.record(lockWaitSeries(kind), Math.max(0, nowNs - this.#waitStartNs), 1);
  }

  /** Whether a waiter has waited so long that the lock is handed to it. */
  handoffDue(waiter: Ref, nowNs: number): boolean {
    return nowNs - this.#arena.get(waiter, ACTOR.waitSince) > HANDOFF_NS;
  }

  acquired(kind: LockKind, nowNs: number): void {
    this.#acquiredNs[kind] = nowNs;
  }

  released(kind: LockKind, nowNs: number): void {
    const heldNs = Math.max(0, nowNs - (this.#acquiredNs[kind] as number));
    this.#lastHoldNs[kind] = heldNs;
    this.#stats.record(lockHoldSeries(kind), heldNs, 1);
  }

  heldAgain(kind: LockKind, times: number, heldNs: number): void {
    this.#stats.record(lockHoldSeries(kind), heldNs, times);
  }

  lastHoldNs(kind: LockKind): number {
    return this.#lastHoldNs[kind] as number;
  }

  count(counter: number, by: number): void {
    this.#stats.count(counter, by);
    if (counter === C.trylock_failures) this.disturbances += by;
  }

  /** An operation is over that took `actualNs` and began `lagNs` late. */
  operation(op: number, ret: number, actualNs: number, lagNs: number): void {
    this.operations += 1;
    if (ret < 0) this.failedOperations += 1;
    this.#stats.recordOp(op, outcomeOf(ret), actualNs, actualNs + lagNs);
    this.#stats.record(SCHEDULE_LAG, lagNs, 1);
  }
}
