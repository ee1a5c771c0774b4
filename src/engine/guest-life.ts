/**
 * One life of a guest, the same on both clocks. It is *running* until all its actors are at rest, *settling* until its
 * last deferred update has been applied, as the kernel's mm waits for its work items, and *exiting* once its account
 * has been judged. When its processes are gone it is taken down.
 */
import type { Arena, Ref } from '../model/arena.ts';
import { checkAtRest } from '../model/invariants/index.ts';
import { checkMmOutlives } from '../model/invariants/mm-outlives-process.ts';
import { lockedVm } from '../model/locked-vm.ts';
import type { Oracle } from '../model/oracle.ts';
import { type BuiltGuest, containersOf, freeGuest } from './guest.ts';
import type { GuestPlan } from './plan.ts';

/** What guests do while a run goes on. */
export const GUEST_STATES = ['pending', 'running', 'finished', 'stopped', 'failed'] as const;
export type GuestStates = Readonly<Record<(typeof GUEST_STATES)[number], number>>;

/** How a guest ended. */
export const GUEST_ENDS = ['completed', 'stopped', 'failed'] as const;
export type GuestEnd = (typeof GUEST_ENDS)[number];

export class LiveGuest {
  stage: 'running' | 'settling' | 'exiting' = 'running';
  /** Actors that are not at rest (running) or have not exited (exiting). */
  left: number;
  /** The first error of its workloads. */
  error: string | null = null;
  /** When its actors were at rest, and its updates applied, ns on the clock of its driver. */
  restNs = 0;
  settledNs = 0;
  /** After its last update. */
  lockedVmAfter = 0n;
  readonly containers: readonly Ref[];

  constructor(
    a: Arena,
    readonly plan: GuestPlan,
    readonly built: BuiltGuest,
  ) {
    this.left = built.actors.length;
    this.containers = containersOf(a, built);
  }
}

/** What the driver of a clock does at the turns of a life. */
export interface LifeDriver<G extends LiveGuest> {
  /** The guest's clock, ns. */
  nowNs(guest: G): number;
  /** All actors are at rest: calls `settle`, now or later. */
  atRest(guest: G): void;
  /** Whether no deferred update of the guest is under way. */
  isQuiet(guest: G): boolean;
  /** Has every actor exit. */
  exit(guest: G): void;
  /** All processes are gone: calls `end`, now or later. */
  gone(guest: G, atNs: number): void;
  /** The guest is about to be taken down. */
  ended(guest: G, state: GuestEnd, endNs: number): void;
}

export class GuestLives<G extends LiveGuest> {
  /** By the guest's index in the plan. */
  readonly live = new Map<number, G>();
  readonly ended: Record<GuestEnd, number> = { completed: 0, stopped: 0, failed: 0 };
  /** Address spaces judged. */
  checked = 0;
  /** Guests that end from now on are cut off, not completed. */
  stopped = false;
  readonly #byMm = new Map<Ref, G>();

  constructor(
    private readonly arena: Arena,
    private readonly oracle: Oracle,
    private readonly driver: LifeDriver<G>,
  ) {}

  begin(guest: G): void {
    this.live.set(guest.plan.index, guest);
    for (const mm of guest.built.mms) this.#byMm.set(mm, guest);
  }

  /** One of the guest's actors is at rest, or has exited. */
  actorEnded(guest: G, atNs: number): void {
    guest.left -= 1;
    if (guest.left > 0) return;
    if (guest.stage === 'running') {
      guest.stage = 'settling';
      guest.restNs = atNs;
      this.driver.atRest(guest);
    } else {
      this.driver.gone(guest, atNs);
    }
  }

  /** The guest that waits for the updates of an address space. */
  settling(mm: Ref): G | undefined {
    const guest = this.#byMm.get(mm);
    return guest?.stage === 'settling' ? guest : undefined;
  }

  /** Judges the account of a guest whose last deferred update has been applied, and has its processes exit. */
  settle(guest: G): void {
    if (guest.stage !== 'settling' || !this.driver.isQuiet(guest)) return;
    const { mms, actors } = guest.built;
    checkAtRest(this.arena, this.oracle, mms, guest.containers);
    this.checked += mms.length;
    guest.stage = 'exiting';
    guest.settledNs = Math.max(guest.restNs, this.driver.nowNs(guest));
    guest.lockedVmAfter = lockedVm(this.arena, mms[0] as Ref);
    guest.left = actors.length;
    this.driver.exit(guest);
  }

  /** Takes a guest down whose processes are gone. */
  end(guest: G, endNs: number): void {
    const state = guest.error !== null ? 'failed' : this.stopped ? 'stopped' : 'completed';
    for (const mm of guest.built.mms) {
      checkMmOutlives(this.arena, this.oracle, mm);
      this.#byMm.delete(mm);
    }
    this.live.delete(guest.plan.index);
    this.ended[state] += 1;
    this.driver.ended(guest, state, Math.max(guest.settledNs, endNs));
    freeGuest(this.arena, guest.built);
  }

  /** Guests by state; `pending` have not begun. */
  states(pending: number): GuestStates {
    const { completed, stopped, failed } = this.ended;
    return { pending, running: this.live.size, finished: completed, stopped, failed };
  }
}
