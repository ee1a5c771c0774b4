/**
 * The direct driver: one operation after the other, each run to its end. No time, no second CPU; a path that would have
 * to wait for a lock is an error, because nobody could ever release it. For replaying recordings and for tests.
 */
import { AddressSpace } from '../model/address-space/address-space.ts';
import type { Arena, Ref } from '../model/arena.ts';
import {
  type Aperture,
  type Ctx,
  type FaultSite,
  MODEL_COUNTERS,
  type ModelCounter,
  type Path,
  type Variant,
} from '../model/env.ts';
import { TASK } from '../model/layout.ts';
import { Oracle } from '../model/oracle.ts';
import { vfioLockAcctBg } from '../model/paths/work.ts';
import type { StepId } from '../model/steps.ts';
import { newActor } from './guest.ts';
import { APERTURE_48BIT } from './machine.ts';

/** A path yielded: it waits for a lock that nobody will release. */
export class DirectBlockedError extends Error {
  override readonly name = 'DirectBlockedError';
}

export interface DirectOptions {
  readonly aperture?: Aperture;
  /** Whether the fault at this site happens now. Default: never. */
  readonly inject?: (site: FaultSite) => boolean;
  /** Told of each step, and how often it is taken in one go. */
  readonly observe?: (step: StepId, count: number) => void;
}

export class Direct {
  readonly addressSpace: AddressSpace;
  readonly oracle: Oracle;
  /** Counters of the model since the start, or since they were last cleared. */
  readonly counters: Record<ModelCounter, number>;
  /** Deferred updates (A to D) that no worker has applied yet, oldest first. */
  readonly deferred: { readonly mm: Ref; readonly npage: number }[] = [];

  constructor(
    readonly arena: Arena,
    readonly variant: Variant,
    readonly options: DirectOptions = {},
  ) {
    this.addressSpace = new AddressSpace(arena, variant.gup);
    this.oracle = new Oracle(arena);
    this.counters = Object.fromEntries(MODEL_COUNTERS.map((name) => [name, 0])) as Record<ModelCounter, number>;
  }

  /** The context of a task; its actor is made on first use. */
  as(task: Ref): Ctx {
    const known = this.arena.get(task, TASK.actor);
    return new DirectCtx(this, known === 0 ? newActor(this.arena, task, 0) : known, task);
  }

  /** Runs a path to its end. @throws DirectBlockedError if it would wait. */
  run<T>(path: Path<T>): T {
    const step = path.next();
    if (step.done !== true) throw new DirectBlockedError('a path had to wait for a lock while nothing else runs');
    return step.value;
  }

  /** Lets the workqueue catch up: applies every deferred update, in order. */
  settle(): void {
    for (let work = this.deferred.shift(); work !== undefined; work = this.deferred.shift()) {
      const worker = new DirectCtx(this, newActor(this.arena, 0, 0), 0);
      this.run(vfioLockAcctBg(worker, work.mm, work.npage));
      this.arena.free('actor', worker.actor);
    }
  }
}

class DirectCtx implements Ctx {
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  readonly aperture: Aperture;
  readonly pagesPerStep = Number.MAX_SAFE_INTEGER;

  constructor(
    private readonly driver: Direct,
    readonly actor: Ref,
    public current: Ref,
  ) {
    this.arena = driver.arena;
    this.variant = driver.variant;
    this.oracle = driver.oracle;
    this.addressSpace = driver.addressSpace;
    this.aperture = driver.options.aperture ?? APERTURE_48BIT;
  }

  at(step: StepId): boolean {
    this.driver.options.observe?.(step, 1);
    return false;
  }
  atMany(step: StepId, _object: Ref, count: number): boolean {
    this.driver.options.observe?.(step, count);
    return false;
  }
  aheadNs(): number {
    return 0;
  }
  readonly exclusive = false;

  usedNs(): number {
    return 0;
  }
  spend(): void {}
  lastHoldNs(): number {
    return 0;
  }
  heldAgain(): void {}
  readonly disturbances = 0;
  spin(): boolean {
    return false;
  }

  block(): void {}
  unblock(): void {}
  wake(): void {}
  acquired(): void {}
  releasing(): void {}
  handoffDue(): boolean {
    return false;
  }
  defer(mm: Ref, npage: number): boolean {
    this.driver.deferred.push({ mm, npage });
    return true;
  }
  inject(site: FaultSite): boolean {
    return this.driver.options.inject?.(site) ?? false;
  }
  count(counter: number, by: number): void {
    const name = MODEL_COUNTERS[counter];
    if (name !== undefined) this.driver.counters[name] += by;
  }
}
