/**
 * The step driver: every step of every actor is a choice. One thread, no time; the caller decides which actor goes
 * next. Explore, replay and the tests stand on it. The order of actors, and so the meaning of a recorded choice,
 * depends on nothing but the choices made.
 */
import type { AddressSpace } from '../../model/address-space/address-space.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import {
  type Aperture,
  type FaultSite,
  type LockKind,
  MODEL_COUNTERS,
  type Path,
  type Variant,
} from '../../model/env.ts';
import type { Oracle } from '../../model/oracle.ts';
import { vfioLockAcctBg } from '../../model/paths/work.ts';
import type { StepId } from '../../model/steps.ts';
import type { Driver } from '../actor.ts';
import { newActor } from '../guest.ts';
import { APERTURE_48BIT } from '../machine.ts';

/** An actor of the step driver. */
export class StepActor implements Driver {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  aperture: Aperture = APERTURE_48BIT;
  readonly pagesPerStep: number;
  path: Path<void>;
  done = false;
  blocked = false;
  /** The step the actor is about to take, and what it touches; -1 before its first. */
  nextStep: StepId = -1;
  nextObject: Ref = 0;
  /** Return values of its operations, in order. */
  readonly results: number[] = [];

  constructor(
    readonly host: Stepper,
    readonly name: string,
    readonly actor: Ref,
    public current: Ref,
    start: (k: StepActor) => Path<void>,
  ) {
    this.arena = host.arena;
    this.variant = host.variant;
    this.oracle = host.oracle;
    this.addressSpace = host.addressSpace;
    this.pagesPerStep = host.pagesPerStep;
    this.path = start(this);
  }

  at(step: StepId, object: Ref): boolean {
    this.nextStep = step;
    this.nextObject = object;
    return true;
  }

  atMany(step: StepId, object: Ref): boolean {
    return this.at(step, object);
  }

  aheadNs(): number {
    return 0;
  }

  readonly exclusive: boolean = false;

  usedNs(): number {
    return 0;
  }

  spend(): void {}

  lastHoldNs(): number {
    return 0;
  }
  heldAgain(): void {}

  disturbances = 0;

  spin(): boolean {
    return false;
  }

  block(_kind: LockKind): void {
    this.blocked = true;
  }

  unblock(_kind: LockKind): void {
    this.blocked = false;
  }

  wake(actor: Ref): void {
    const other = this.host.byRef.get(actor);
    if (other !== undefined) other.blocked = false;
  }

  acquired(): void {}

  releasing(): void {}

  handoffDue(): boolean {
    return false;
  }

  defer(mm: Ref, npage: number): boolean {
    this.host.queueWork(mm, npage);
    return true;
  }

  inject(site: FaultSite): boolean {
    return this.host.inject(site);
  }

  count(counter: number, by: number): void {
    this.host.counters[counter] = (this.host.counters[counter] as number) + by;
  }

  nowNs(): number {
    return 0;
  }

  startNs(): number {
    return 0;
  }

  sleepUntil(): void {}

  stopping(): boolean {
    return false;
  }

  stopGuest(): void {}

  recordOp(_op: number, ret: number): void {
    this.results.push(ret);
  }

  mark(): void {}
}

export interface StepperOptions {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  /** Pages per step: 1 makes each page a step of its own. */
  readonly pagesPerStep?: number;
  /** Decides each injected fault; none by default. */
  readonly inject?: (site: FaultSite) => boolean;
}

/** Thrown when actors are left and all of them are blocked. */
export class DeadlockError extends Error {
  constructor(readonly actors: readonly string[]) {
    super(`deadlock: ${actors.join(', ')} wait for ever`);
    this.name = 'DeadlockError';
  }
}

export class Stepper {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  readonly pagesPerStep: number;
  readonly inject: (site: FaultSite) => boolean;
  readonly actors: StepActor[] = [];
  readonly byRef = new Map<Ref, StepActor>();
  readonly counters = new Float64Array(MODEL_COUNTERS.length);
  #workItems = 0;

  constructor(o: StepperOptions) {
    this.arena = o.arena;
    this.variant = o.variant;
    this.oracle = o.oracle;
    this.addressSpace = o.addressSpace;
    this.pagesPerStep = o.pagesPerStep ?? Number.MAX_SAFE_INTEGER;
    this.inject = o.inject ?? (() => false);
  }

  /** Adds an actor that runs `start` as `task`. */
  add(name: string, task: Ref, start: (k: StepActor) => Path<void>, actor = newActor(this.arena, task, 0)): StepActor {
    const a = new StepActor(this, name, actor, task, start);
    this.actors.push(a);
    this.byRef.set(actor, a);
    return a;
  }

  /** schedule_work: another kworker; a blocked one makes the pool start the next, so each item has its own. */
  queueWork(mm: Ref, npage: number): void {
    this.#workItems += 1;
    this.add(`kworker/${this.#workItems}`, 0, (k) => vfioLockAcctBg(k, mm, npage));
  }

  /** Who can take a step now, in a fixed order. */
  runnable(): StepActor[] {
    return this.actors.filter((a) => !a.done && !a.blocked);
  }

  /** Takes one step of an actor. */
  step(actor: StepActor): void {
    if (actor.path.next().done === true) {
      actor.done = true;
      this.byRef.delete(actor.actor);
      this.arena.free('actor', actor.actor);
    }
  }

  /**
   * Runs until nobody is left; `pick` chooses among the runnable. @throws DeadlockError, or RangeError past `maxSteps`.
   */
  run(pick: (runnable: readonly StepActor[]) => StepActor, maxSteps = 1_000_000): void {
    for (let n = 0; ; n += 1) {
      const runnable = this.runnable();
      if (runnable.length === 0) {
        const left = this.actors.filter((a) => !a.done).map((a) => a.name);
        if (left.length > 0) throw new DeadlockError(left);
        return;
      }
      if (n >= maxSteps) throw new RangeError(`not over after ${maxSteps} steps`);
      this.step(pick(runnable));
    }
  }
}
