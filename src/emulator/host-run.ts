/**
 * Runs guests in virtual time: one emulated host after the other or side by side on threads. What comes out depends on
 * the plan alone: hosts share nothing, and their results are merged in the order of their numbers.
 */
import { actorFaults } from '../engine/actor-faults.ts';
import { type GuestEnd, GuestLives, type LifeDriver, LiveGuest } from '../engine/guest-life.ts';
import { buildGuest, type BuiltGuest } from '../engine/guest.ts';
import { MarkTally } from '../engine/mark-tally.ts';
import type { GuestPlan } from '../engine/plan.ts';
import { machineCost, stepCosts } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { WORK_MAX_ACTIVE } from '../engine/workqueue.ts';
import { exactCosts } from '../engine/virtual/step-costs.ts';
import { VirtualActor, VirtualHost } from '../engine/virtual/virtual-actor.ts';
import { encodeSnapshot, Snapshot } from '../metrics/snapshot.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Ref } from '../model/arena.ts';
import type { FaultSite, Path } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { CONTAINER, type Field, MM } from '../model/layout.ts';
import { lockedVm } from '../model/locked-vm.ts';
import { INVARIANTS, Oracle } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';
import { actorPath, faultRates, nothing } from './actor-path.ts';
import { planCapacity } from './capacity.ts';
import type {
  GridLine,
  HostControl,
  HostInterval,
  HostResult,
  HostTask,
  VirtualGuest,
  VirtualMark,
  VirtualViolation,
} from './host-result.ts';

/** Blocked kworkers an emulated host has room for. */
const KWORKERS = 16_384;

/** How often a host checks whether to stop, ns of simulated time: a part of the shortest usual interval. */
const LOOK_NS = 1e6;

/**
 * How often a host that is told to stop may be asked again before it is left as it is, in the middle of operations: a
 * few tenths of a second of work.
 */
const ASKED_MAX = 3000;

/** Violations and marks kept whole per host. */
const KEPT = 64;

/** The first instant of a grid after `ns`; Infinity if there is none. */
function nextOnGrid(grid: readonly GridLine[], ns: number): number {
  let next = Infinity;
  for (const { fromNs, everyNs, toNs } of grid) {
    const at = ns < fromNs ? fromNs : fromNs + (Math.floor((ns - fromNs) / everyNs) + 1) * everyNs;
    if (at <= toNs && at < next) next = at;
  }
  return next;
}

/** Simulates one emulated host to its end. */
export function simulateHost(task: HostTask): HostResult {
  return new HostRun(task).run();
}

class HostRun {
  readonly #task: HostTask;
  readonly #arena: Arena;
  readonly #addressSpace: AddressSpace;
  readonly #oracle: Oracle;
  readonly #stats: StatsBlock;
  readonly #virtual: VirtualHost;
  readonly #lives: GuestLives<LiveGuest>;
  readonly #rates: ReadonlyMap<FaultSite, number>;
  readonly #marks: VirtualMark[] = [];
  readonly #markTally = new MarkTally();
  readonly #ended: VirtualGuest[] = [];
  readonly #violations: VirtualViolation[] = [];
  readonly #intervals: HostInterval[] = [];
  #taken: Snapshot;
  /** Guests that have not started, and those whose actors are at work. */
  #pending: number;
  #working = 0;
  #stoppedAtNs: number | null = null;
  /** How often it has been asked to stop. */
  #asked = 0;
  #endNs = 0;
  #error: string | null = null;
  #driftPages = 0;
  #mappingsMax = 0;

  constructor(task: HostTask) {
    this.#task = task;
    const { plan } = task;
    const variant = resolveVariant(plan.variant);
    this.#arena = Arena.create(planCapacity(task.guests, KWORKERS, variant), false);
    this.#addressSpace = new AddressSpace(this.#arena, variant.gup);
    this.#oracle = new Oracle(this.#arena, 0);
    this.#oracle.onViolation = ({ invariant, guest, detail }) => {
      if (this.#violations.length < KEPT)
        this.#violations.push({ invariant, guest, atNs: this.#virtual.host.nowNs, detail });
    };
    this.#lives = new GuestLives(this.#arena, this.#oracle, this.#driver());
    const layout = statsLayout(plan);
    this.#stats = new StatsBlock(layout, new ArrayBuffer(layout.bytes));
    this.#taken = new Snapshot(layout);
    this.#pending = task.guests.length;
    const cost = (name: Parameters<typeof machineCost>[1]): number => machineCost(plan.profile.costNs, name);
    this.#virtual = new VirtualHost({
      arena: this.#arena,
      stats: this.#stats,
      variant,
      oracle: this.#oracle,
      addressSpace: this.#addressSpace,
      costNs: exactCosts(stepCosts(plan.profile.costNs)),
      host: {
        cpus: plan.host.cpus,
        sliceNs: cost('time_slice'),
        wakeUpNs: cost('wake_up'),
        spinNs: cost('spin_handover'),
        lineNs: cost('line_transfer'),
        memoryNs: cost('memory_4k'),
        workMaxActive: WORK_MAX_ACTIVE,
        halt: task.control === undefined ? undefined : () => this.#halts(),
        stepByStep: task.stepByStep ?? false,
      },
      onMark: (guest, atNs, label, value) => {
        this.#markTally.add(guest, label, value);
        if (this.#marks.length < KEPT) this.#marks.push({ guest, atNs, label, value });
      },
      onMapped: (guest) => {
        for (const c of this.#lives.live.get(guest)?.containers ?? []) {
          this.#mappingsMax = Math.max(this.#mappingsMax, this.#arena.get(c, CONTAINER.dmaCount));
        }
      },
      onEnd: (actor) => this.#actorEnded(actor),
      onSettled: (mm) => {
        const guest = this.#lives.settling(mm);
        if (guest !== undefined) this.#lives.settle(guest);
      },
    });
    this.#rates = faultRates(plan.faults);
  }

  run(): HostResult {
    const { host } = this.#virtual;
    const endNs = this.#task.plan.durationNs ?? Infinity;
    for (const guest of this.#task.guests) host.at(Math.min(guest.startNs, endNs), () => this.#start(guest));
    this.#nextInterval(0);
    if (this.#task.control !== undefined) this.#look(this.#task.control, 0);
    if (this.#task.stopAtNs !== undefined) host.at(this.#task.stopAtNs, () => this.#stopGuests());
    host.run();
    if (host.halted) this.#leave();
    else this.#judgeStuck();
    if (this.#task.grid !== undefined) this.#takeInterval(null);
    const violationCounts: Record<string, number> = {};
    for (const name of INVARIANTS) {
      if (this.#oracle.counts[name] > 0) violationCounts[name] = this.#oracle.counts[name];
    }
    return {
      snapshot: encodeSnapshot(Snapshot.take(this.#stats.layout, [this.#stats])),
      intervals: this.#intervals,
      endNs: this.#endNs,
      events: host.events,
      stoppedAtNs: this.#stoppedAtNs,
      guestsFinished: this.#lives.ended.completed,
      guestsFailed: this.#lives.ended.failed,
      error: this.#error,
      checked: this.#lives.checked,
      violationCounts,
      violations: this.#violations,
      driftPages: this.#driftPages,
      deferredBacklogMax: this.#virtual.deferred.backlogMax,
      mappingsMax: this.#mappingsMax,
      marks: this.#marks,
      markCounts: this.#markTally.counts(),
      guests: this.#ended,
    };
  }

  /** Reports how far the host is and checks whether to stop, from now on until nobody is at work. */
  #look(control: HostControl, ns: number): void {
    control.simulatedNs[0] = ns;
    if (this.#isToStop()) return;
    // The longer it has run, the more seldom, down to every fiftieth of the way: no closed form reaches across such an
    // instant.
    const at = ns + Math.max(LOOK_NS, ns / 50);
    this.#virtual.host.at(at, () => {
      if (this.#pending + this.#working > 0 && !this.#virtual.host.idle) this.#look(control, at);
    });
  }

  /** Whether it is to stop; the first time it is, guests are told. */
  #isToStop(): boolean {
    const { control } = this.#task;
    if (control === undefined || Atomics.load(control.stop, 0) === 0) return false;
    if (this.#stoppedAtNs === null) {
      this.#stoppedAtNs = this.#virtual.host.nowNs;
      this.#stopGuests();
    }
    return true;
  }

  /** Whether it has had long enough to stop. */
  #halts(): boolean {
    if (!this.#isToStop()) return false;
    this.#asked += 1;
    return this.#asked > ASKED_MAX;
  }

  /** The host is left as it is: guests in the middle of operations, updates that are queued. */
  #leave(): void {
    this.#virtual.settle();
    this.#endNs = Math.max(this.#endNs, this.#virtual.host.nowNs);
    const { layout } = this.#stats;
    this.#stats.count(layout.counter('deferred_discarded'), this.#virtual.deferred.backlog);
    for (const { plan, built, error } of this.#lives.live.values()) {
      const lockedVmAfterPages = String(lockedVm(this.#arena, built.mms[0] as Ref));
      const times = { restNs: null, settledNs: null, endNs: null };
      this.#ended.push({
        guest: plan.index,
        state: 'stopped',
        ...times,
        ...this.#done(built),
        lockedVmAfterPages,
        error,
      });
    }
  }

  /** Operations of a guest so far. */
  #done(built: BuiltGuest): { operations: number; failedOperations: number } {
    const actors = built.actors.flatMap(({ actor }) => this.#virtual.actor(actor) ?? []);
    return {
      operations: actors.reduce((sum, { tally }) => sum + tally.operations, 0),
      failedOperations: actors.reduce((sum, { tally }) => sum + tally.failedOperations, 0),
    };
  }

  #stopGuests(): void {
    this.#lives.stopped = true;
    for (const { built } of this.#lives.live.values()) this.#arena.set(built.mms[0] as Ref, MM.stop, 1);
  }

  /** The next instant at which statistics are taken after `ns`; none once nobody is at work. */
  #nextInterval(ns: number): void {
    const { grid } = this.#task;
    const at = grid === undefined ? Infinity : nextOnGrid(grid, ns);
    if (at === Infinity) return;
    this.#virtual.host.at(at, () => {
      if ((this.#lives.stopped ? 0 : this.#pending) + this.#working === 0 || this.#virtual.host.idle) return;
      this.#takeInterval(at);
      this.#nextInterval(at);
    });
  }

  #takeInterval(endNs: number | null): void {
    this.#virtual.settle();
    const now = Snapshot.take(this.#stats.layout, [this.#stats]);
    let driftPages = this.#driftPages;
    for (const { built, stage } of this.#lives.live.values()) {
      // Of those that exit it is in the sum already.
      if (stage !== 'exiting') for (const mm of built.mms) driftPages += this.#drift(mm);
    }
    this.#intervals.push({
      endNs,
      delta: encodeSnapshot(now.since(this.#taken)),
      backlog: this.#virtual.deferred.backlog,
      driftPages,
      guests: {
        pending: this.#pending,
        running: this.#lives.live.size,
        finished: this.#lives.ended.completed,
        stopped: this.#lives.ended.stopped,
        failed: this.#lives.ended.failed,
      },
    });
    this.#taken = now;
  }

  /**
   * How far locked_vm, with the updates that are on their way, is from what is held, pages; what operations under way
   * may or may not hold is allowed for. 0 for an address space that is gone.
   */
  #drift(mm: Ref): number {
    const a = this.#arena;
    if (a.get(mm, MM.mmUsers) === 0) return 0;
    const ledger = (field: Field): number => a.get(mm, field);
    const held = BigInt(ledger(MM.ledgerCommitted)) + a.getU64(mm, MM.mlockedPages);
    const due = ledger(MM.deferredQueuedPages) - ledger(MM.deferredAppliedPages);
    const over = Number(BigInt.asIntN(64, lockedVm(a, mm)) - held) + due;
    return over < 0 ? over : Math.max(0, over - ledger(MM.ledgerInFlight));
  }

  #start(plan: GuestPlan): void {
    if (this.#lives.stopped) return;
    this.#pending -= 1;
    this.#working += 1;
    const a = this.#arena;
    const built = buildGuest(a, this.#addressSpace, plan, () => 0);
    const guest = new LiveGuest(a, plan, built);
    this.#lives.begin(guest);
    built.actors.forEach(({ actor, task }, index) => {
      const faults = actorFaults(this.#rates, plan.seed, index);
      const driver = new VirtualActor(this.#virtual, actor, task, plan.index, built.mms[0] as Ref, faults);
      const work = actorPath(driver, plan, index, this.#task.plan.durationNs, built);
      if (work === null)
        this.#virtual.add(driver, nothing(), Math.min(plan.startNs, this.#task.plan.durationNs ?? Infinity));
      else this.#virtual.add(driver, this.#guarded(guest, work.path), work.startNs);
    });
  }

  /** A workload's exception ends its actor, not the run. */
  *#guarded(guest: LiveGuest, path: Path<void>): Path<void> {
    try {
      yield* path;
    } catch (error) {
      guest.error ??= error instanceof Error ? error.message : String(error);
    }
  }

  #actorEnded(actor: VirtualActor): void {
    const guest = this.#lives.live.get(actor.guest);
    if (guest === undefined) return;
    this.#lives.actorEnded(guest, actor.localNs);
  }

  #driver(): LifeDriver<LiveGuest> {
    return {
      nowNs: () => this.#virtual.host.nowNs,
      atRest: (guest) => {
        this.#working -= 1;
        this.#endNs = Math.max(this.#endNs, guest.restNs);
        this.#lives.settle(guest);
      },
      isQuiet: ({ built }) => built.mms.every((mm) => this.#virtual.deferred.of(mm) === 0),
      exit: (guest) => this.#exit(guest),
      gone: (guest, atNs) => this.#lives.end(guest, atNs),
      ended: (guest, state, endNs) => this.#tell(guest, state, endNs),
    };
  }

  /** The account has been judged: what is left of it counts, and the processes exit. */
  #exit(guest: LiveGuest): void {
    for (const mm of guest.built.mms) this.#driftPages += this.#drift(mm);
    for (const { actor } of guest.built.actors) {
      const driver = this.#virtual.actor(actor);
      if (driver === undefined) throw new Error('a guest has an actor that never ran');
      this.#virtual.add(driver, this.#guarded(guest, doExit(driver)), this.#virtual.host.nowNs);
    }
  }

  #tell(guest: LiveGuest, state: GuestEnd, endNs: number): void {
    const { plan, built, restNs, settledNs, error } = guest;
    const lockedVmAfterPages = String(guest.lockedVmAfter);
    this.#ended.push({
      guest: plan.index,
      state,
      restNs,
      settledNs,
      endNs,
      ...this.#done(built),
      lockedVmAfterPages,
      error,
    });
    this.#virtual.forget(plan.index);
    if (error !== null) this.#error ??= `guest ${plan.index}: ${error}`;
  }

  /** Guests that nothing can happen to any more though they have not ended: their actors wait for each other. */
  #judgeStuck(): void {
    for (const guest of this.#lives.live.values()) {
      this.#lives.ended.failed += 1;
      this.#endNs = Math.max(this.#endNs, this.#virtual.host.nowNs);
      this.#error ??= `guest ${guest.plan.index}: ${guest.left} of its actors wait for ever (${guest.stage})`;
    }
  }
}
