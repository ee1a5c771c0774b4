/**
 * The explore driver: executes a case again and again, one step at a time, the next actor being the one the caller
 * picks.
 *
 * Kernel paths are generators and cannot be copied, so going back means starting again: the arena is small and its
 * first state is kept as a template, which makes a fresh start one copy of a few kilobytes. Every actor stands at an
 * announced step at any time, so the footprint of its next step is known before it is taken.
 */
import { EXIT, UserError } from '../../base/errors.ts';
import { Arena, type Capacity, type Ref } from '../../model/arena.ts';
import type { FaultSite, Path, Variant } from '../../model/env.ts';
import { checkAtRest } from '../../model/invariants/index.ts';
import { checkMmOutlives } from '../../model/invariants/mm-outlives-process.ts';
import { CONTAINER, DMA, FILES, MM, PAGES, STRUCT_NAMES, STRUCTS, TASK, USER } from '../../model/layout.ts';
import { lockedVm } from '../../model/locked-vm.ts';
import { taskMm } from '../../model/mm.ts';
import type { InvariantName, Oracle } from '../../model/oracle.ts';
import { orders } from '../../model/orders.ts';
import { filesOf, openGroup } from '../../model/paths/files.ts';
import { KernelBug } from '../../model/paths/notify.ts';
import { countableNodes } from '../../model/pfn-list.ts';
import { S } from '../../model/steps.ts';
import { buildGuest, type BuiltActor, type BuiltGuest } from '../guest.ts';
import type { GuestPlan } from '../plan.ts';
import { capacityOf, guestPlanOf } from './case-guest.ts';
import {
  ATTACHED_GROUP,
  type CaseWorld,
  resultText,
  runActor,
  runOp,
  type Standing,
  standingAtStart,
} from './case-ops.ts';
import type { CaseOp, ExploreCase } from './case.ts';
import { type Footprint, isLocal, Watch, WatchedAddressSpace, WatchedOracle } from './footprint.ts';
import { isAllowed, type Outcome, outcomeText } from './outcome.ts';
import { type StepActor, Stepper } from './stepper.ts';

/** What can be wrong with an execution: an invariant, or one of the faults no accounting invariant names. */
export type FailureKind = InvariantName | 'deadlock' | 'kernel-bug' | 'outcome';

export interface Failure {
  readonly kind: FailureKind;
  readonly detail: string;
  /** Steps taken when it showed. */
  readonly step: number;
}

/** Another world for the actors of a case: the guest and the workloads of a scenario. */
export interface ScenarioWorld {
  readonly guest: GuestPlan;
  readonly capacity: Capacity;
  start(k: StepActor, index: number): Path<void>;
}

export class Execution implements CaseWorld<StepActor> {
  readonly capacity: Capacity;
  readonly arena: Arena;
  readonly watch: Watch;
  stepper: Stepper;
  oracle: Oracle;
  /** By actor id, for the actors of the case. */
  standings: Standing[] = [];
  /** Actor ids in the order they stepped, and the answers to faults in the order they were asked. */
  choices: number[] = [];
  faults: boolean[] = [];
  failures: Failure[] = [];
  /** Who took the last step; -1 at the start. */
  current = -1;
  preemptions = 0;
  /** Of the last step. */
  woken: number[] = [];
  created: number[] = [];
  /** The execution cannot go on. */
  dead = false;

  readonly #template: Int32Array;
  readonly addressSpace: WatchedAddressSpace;
  readonly #guest: BuiltGuest;
  readonly #world: ScenarioWorld | null;
  #faultsLeft = new Map<FaultSite, number>();
  #decideFault: (site: FaultSite) => boolean = () => false;
  /** Ids of the actors that are not done, ascending. */
  #live: number[] = [];

  constructor(
    readonly plan: ExploreCase,
    readonly variant: Variant,
    /** Null: the actors run the operations of the case. */
    world: ScenarioWorld | null = null,
    /** Several threads will work on it. */
    shared = false,
  ) {
    this.#world = world;
    this.capacity = world?.capacity ?? capacityOf(plan);
    this.arena = Arena.create(this.capacity, shared);
    this.watch = new Watch(this.arena);
    this.addressSpace = new WatchedAddressSpace(this.watch, variant);
    this.#guest = buildGuest(this.arena, this.addressSpace, world?.guest ?? guestPlanOf(plan), () => 0);
    this.#openGroups();
    this.oracle = this.#newOracle();
    this.stepper = this.#newStepper();
    this.#setUp();
    this.#template = this.arena.i32.slice();
  }

  get depth(): number {
    return this.choices.length;
  }

  get actors(): readonly StepActor[] {
    return this.stepper.actors;
  }

  get built(): readonly BuiltActor[] {
    return this.#guest.actors;
  }

  /** Back to the start, with nobody about: for a driver that runs the actors itself and then asks for `finish`. */
  rewind(): void {
    this.arena.i32.set(this.#template);
    this.oracle = this.#newOracle();
    this.failures = [];
    this.dead = false;
    this.#live = [];
    this.standings = this.plan.actors.map(standingAtStart);
  }

  /** Back to the start. */
  reset(): void {
    this.rewind();
    this.stepper = this.#newStepper();
    this.#faultsLeft = new Map(Object.entries(this.plan.faults) as [FaultSite, number][]);
    this.choices = [];
    this.faults = [];
    this.current = -1;
    this.preemptions = 0;
    for (const [id, { name }] of this.plan.actors.entries()) {
      const built = this.#guest.actors[id];
      if (built === undefined) throw new Error(`actor ${name} was not built`);
      const start = (k: StepActor): Path<void> =>
        this.#world === null ? runActor(k, this, id, this.standings[id] as Standing) : this.#world.start(k, id);
      this.stepper.add(name, built.task, start, built.actor);
      this.#start(id);
    }
  }

  /** Ids of the actors that can take a step, ascending. */
  enabled(): number[] {
    if (this.dead) return [];
    const { actors } = this.stepper;
    return this.#live.filter((id) => !(actors[id] as StepActor).blocked);
  }

  /** Whether nobody else can tell when the actor's next step happens. */
  nextIsLocal(id: number): boolean {
    return isLocal((this.stepper.actors[id] as StepActor).nextStep) && !(this.standings[id]?.ending ?? false);
  }

  /**
   * Takes one step of an actor; `decideFault` answers where a fault may be injected. The footprint is then in `watch`.
   */
  take(id: number, decideFault: (site: FaultSite) => boolean): Readonly<Footprint> {
    const { actors } = this.stepper;
    const actor = actors[id] as StepActor;
    const before = actors.length;
    const blocked = this.#live.filter((n) => (actors[n] as StepActor).blocked);
    const standing = this.standings[id];
    this.#decideFault = decideFault;
    if (id !== this.current && this.current >= 0) {
      const last = actors[this.current] as StepActor;
      if (!last.done && !last.blocked && !(this.standings[this.current]?.parked ?? false)) this.preemptions += 1;
    }
    this.choices.push(id);
    this.current = id;
    if (standing !== undefined) standing.opSteps += 1;
    this.watch.begin(actor.nextStep, actor.nextObject, standing?.ending ?? false);
    try {
      this.stepper.step(actor);
    } catch (error) {
      if (!(error instanceof KernelBug)) throw error;
      this.fail('kernel-bug', error.message);
      this.dead = true;
    }
    this.created = [];
    for (let n = before; n < actors.length; n += 1) {
      this.created.push(n);
      this.#start(n);
    }
    this.woken = blocked.filter((n) => n !== id && !(actors[n] as StepActor).blocked);
    // An address space without tasks: only a step that ends a task or moves an mm reference can leave one behind.
    if (this.watch.touchedUsers) for (const mm of this.#all('mm')) checkMmOutlives(this.arena, this.oracle, mm);
    if (actor.done) this.#live.splice(this.#live.indexOf(id), 1);
    if (this.#atRest(actor)) checkAtRest(this.arena, this.oracle, this.#all('mm'), this.#all('container'));
    return this.watch;
  }

  /** The step has ended an operation, and nobody else is in one: no update is on its way, the account must be right. */
  #atRest(actor: StepActor): boolean {
    if (!actor.done && actor.nextStep !== S.Syscall) return false;
    return this.#live.every((n) => this.standings[n]?.parked || this.actors[n]?.nextStep === S.Syscall);
  }

  /** The execution is over: what must hold at rest. */
  finish(): void {
    if (this.dead) return;
    const waiting = this.#live.filter((id) => !(this.standings[id]?.parked ?? false));
    if (waiting.length > 0) {
      this.fail('deadlock', `${waiting.map((id) => this.actors[id]?.name).join(', ')} wait for ever`);
      return;
    }
    const containers = this.#all('container');
    checkAtRest(this.arena, this.oracle, this.#all('mm'), containers);
    const { outcomes } = this.plan;
    if (outcomes.length > 0) {
      const found = this.outcome();
      if (!outcomes.some((allowed) => isAllowed(found, allowed))) {
        this.fail('outcome', `not an allowed outcome: ${outcomeText(found)}`);
      }
    }
  }

  fail(kind: FailureKind, detail: string): void {
    if (this.failures.some((f) => f.kind === kind)) return;
    this.failures.push({ kind, detail, step: this.depth });
  }

  outcome(): Outcome {
    const a = this.arena;
    const index = orders(a).dma;
    let pinnedPages = 0;
    for (const c of this.#all('container')) {
      const root = c + CONTAINER.dmaRoot;
      for (let dma = index.first(root); dma !== 0; dma = index.next(root, dma)) {
        pinnedPages += a.get(dma, DMA.ledgerPinned);
        pinnedPages += [...countableNodes(a, dma)].length;
      }
    }
    for (const object of this.#all('pages')) pinnedPages += a.get(object, PAGES.npinned);
    const task = this.#guest.actors[0]?.task as Ref;
    const mm = a.get(task, TASK.exited) === 1 ? 0 : taskMm(a, task);
    return {
      results: Object.fromEntries(this.plan.actors.map(({ name }, id) => [name, this.standings[id]?.results ?? []])),
      lockedVmPages: mm === 0 ? null : lockedVm(a, mm),
      pinnedPages,
      userLockedVmPages: this.variant.iommufd?.account === 'creator' ? this.#userLockedVm() : null,
    };
  }

  /** locked_vm of the address space an actor runs in, or of the first actor's for a kworker. */
  lockedVmOf(id: number): bigint | null {
    const task = this.#guest.actors[id]?.task ?? this.#guest.actors[0]?.task ?? 0;
    if (this.arena.get(task, TASK.exited) === 1) return null;
    const mm = taskMm(this.arena, task);
    return mm === 0 ? null : lockedVm(this.arena, mm);
  }

  /**
   * A number for the state as far as it can be seen: the model's memory, where each actor stands and what it got.
   * Locals of the paths are not part of it, so it serves for counting only.
   */
  stateHash(): number {
    const a = this.arena;
    let h1 = 0x811c_9dc5;
    let h2 = 0x1234567;
    const mix = (x: number): void => {
      h1 = Math.imul(h1 ^ x, 0x0100_0193);
      h2 = Math.imul((h2 << 5) ^ (h2 >>> 27) ^ x, 0x9e3779b1);
    };
    for (const kind of STRUCT_NAMES) {
      const n = a.highWater(kind);
      if (n === 0) continue;
      const from = a.refAt(kind, 0);
      const to = from + n * STRUCTS[kind].WORDS;
      const words = a.i32;
      for (let w = from; w < to; w += 1) {
        const x = words[w] as number;
        if (x !== 0) {
          mix(w);
          mix(x);
        }
      }
    }
    for (const [id, actor] of this.stepper.actors.entries()) {
      const s = this.standings[id];
      mix(actor.nextStep | (actor.blocked ? 256 : 0) | (actor.done ? 512 : 0));
      mix(actor.nextObject);
      if (s !== undefined) mix(s.opSteps + (s.op << 16));
    }
    return (h1 >>> 0) * 0x20_0000 + (h2 >>> 11);
  }

  park(k: StepActor): boolean {
    k.blocked = true;
    return true;
  }

  /** Brings a new actor to its first announced step. */
  #start(id: number): void {
    const actor = this.stepper.actors[id] as StepActor;
    this.stepper.step(actor);
    if (!actor.done) this.#live.push(id);
  }

  #newOracle(): Oracle {
    const oracle = new WatchedOracle(this.watch);
    oracle.onViolation = (v) => this.fail(v.invariant, v.detail);
    return oracle;
  }

  #newStepper(): Stepper {
    return new Stepper({
      arena: this.arena,
      variant: this.variant,
      oracle: this.oracle,
      addressSpace: this.addressSpace,
      pagesPerStep: 1,
      inject: (site) => this.#inject(site),
    });
  }

  #inject(site: FaultSite): boolean {
    const left = this.#faultsLeft.get(site) ?? 0;
    if (this.plan.faults[site] !== undefined) this.watch.fault();
    if (left === 0) return false;
    const happens = this.#decideFault(site);
    this.faults.push(happens);
    if (happens) this.#faultsLeft.set(site, left - 1);
    return happens;
  }

  /** A group for every process that attaches one. */
  #openGroups(): void {
    const a = this.arena;
    for (const [id, actor] of this.plan.actors.entries()) {
      const attaches = [...actor.ops, ...this.plan.setup.filter((s) => s.actor === actor.name).map((s) => s.op)];
      if (!attaches.some((o) => o.op === 'attach')) continue;
      const files = filesOf(a, this.#guest.actors[id]?.task as Ref);
      if (a.get(files, FILES.group0 + ATTACHED_GROUP) === 0) openGroup(a, files, { index: ATTACHED_GROUP });
    }
  }

  /** The operations before exploration begins, one after the other, with nobody else about. */
  #setUp(): void {
    for (const { actor, op } of this.plan.setup) {
      const built = this.#guest.actors[this.plan.actors.findIndex((a) => a.name === actor)];
      if (built === undefined) throw new Error(`setup names the unknown actor ${actor}`);
      const results: number[] = [];
      const runner = this.stepper.add('setup', built.task, (k) => this.#once(k, op, results));
      this.stepper.run((runnable) => runnable[0] as StepActor);
      this.arena.set(built.task, TASK.actor, built.actor);
      if (runner.blocked || (results[0] ?? 0) < 0) {
        throw new UserError(
          EXIT.invalid,
          `setup: ${op.op} of ${actor} failed: ${resultText(op, results[0] ?? 0)}`,
          'every operation of setup must succeed: correct it, or let an actor perform it',
        );
      }
    }
  }

  *#once(k: StepActor, op: CaseOp, results: number[]): Path<void> {
    results.push(yield* runOp(k, this, op));
  }

  #userLockedVm(): bigint {
    const a = this.arena;
    const user = a.get(this.#guest.mms[0] as Ref, MM.user);
    return user === 0 ? 0n : a.getU64(user, USER.lockedVm);
  }

  #all(kind: 'mm' | 'container' | 'pages'): Ref[] {
    const refs: Ref[] = [];
    for (let n = 0; n < this.arena.highWater(kind); n += 1) refs.push(this.arena.refAt(kind, n));
    return refs;
  }
}
