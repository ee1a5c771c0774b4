/**
 * Runs guests in virtual time: one emulated host after the other or side by side on threads. What comes out depends on
 * the plan alone: hosts share nothing, and their results are merged in the order of their numbers.
 */
import { stream } from '../base/prng.ts';
import { buildGuest, type BuiltGuest, containersOf, freeGuest } from '../engine/guest.ts';
import { MarkTally } from '../engine/mark-tally.ts';
import type { GuestPlan } from '../engine/plan.ts';
import { machineCost, stepCosts } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { WORK_MAX_ACTIVE } from '../engine/virtual/workqueue.ts';
import { exactCosts } from '../engine/virtual/step-costs.ts';
import { type ActorFaults, VirtualActor, VirtualHost } from '../engine/virtual/virtual-actor.ts';
import { encodeSnapshot, Snapshot } from '../metrics/snapshot.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Ref } from '../model/arena.ts';
import { FAULT_SITES, type FaultSite, type Path } from '../model/env.ts';
import { checkAtRest } from '../model/invariants/index.ts';
import { checkMmOutlives } from '../model/invariants/mm-outlives-process.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { CONTAINER, type Field, MM } from '../model/layout.ts';
import { lockedVm } from '../model/locked-vm.ts';
import { INVARIANTS, Oracle } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';
import { actorPath, nothing } from './actor-path.ts';
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

/** How often a host looks whether it is to stop, ns of simulated time: a part of the shortest usual interval. */
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
  let next = Number.POSITIVE_INFINITY;
  for (const { fromNs, everyNs, toNs } of grid) {
    const at = ns < fromNs ? fromNs : fromNs + (Math.floor((ns - fromNs) / everyNs) + 1) * everyNs;
    if (at <= toNs && at < next) next = at;
  }
  return next;
}

interface LiveGuest {
  readonly plan: GuestPlan;
  readonly built: BuiltGuest;
  readonly containers: readonly Ref[];
  state: 'running' | 'settling' | 'exiting';
  left: number;
  restNs: number;
  settledNs: number;
  lockedVmAfter: bigint;
  error: string | null;
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
  readonly #guests = new Map<number, LiveGuest>();
  readonly #byMm = new Map<Ref, LiveGuest>();
  readonly #rates = new Map<FaultSite, number>();
  readonly #marks: VirtualMark[] = [];
  readonly #markTally = new MarkTally();
  readonly #ended: VirtualGuest[] = [];
  readonly #violations: VirtualViolation[] = [];
  readonly #intervals: HostInterval[] = [];
  #taken: Snapshot;
  /** Guests that have not started, and those whose actors are at work. */
  #pending: number;
  #working = 0;
  #stopped = false;
  #stoppedAtNs: number | null = null;
  /** How often it has been asked to stop. */
  #asked = 0;
  #endNs = 0;
  readonly #count: Record<VirtualGuest['state'], number> = { completed: 0, stopped: 0, failed: 0 };
  #error: string | null = null;
  #checked = 0;
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
        for (const c of this.#guests.get(guest)?.containers ?? []) {
          this.#mappingsMax = Math.max(this.#mappingsMax, this.#arena.get(c, CONTAINER.dmaCount));
        }
      },
      onEnd: (actor) => this.#actorEnded(actor),
      onSettled: (mm) => {
        const guest = this.#byMm.get(mm);
        if (guest !== undefined) this.#settleIfQuiet(guest);
      },
    });
    for (const site of FAULT_SITES) {
      const rate = plan.faults[site];
      if (rate !== undefined && rate > 0) this.#rates.set(site, rate);
    }
  }

  run(): HostResult {
    const { host } = this.#virtual;
    const endNs = this.#task.plan.durationNs ?? Number.POSITIVE_INFINITY;
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
      guestsFinished: this.#count.completed,
      guestsFailed: this.#count.failed,
      error: this.#error,
      checked: this.#checked,
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

  /** Says how far the host is and looks whether it is to stop, from now on until nobody is at work. */
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
    for (const { plan, built, error } of this.#guests.values()) {
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
      operations: actors.reduce((sum, { operations }) => sum + operations, 0),
      failedOperations: actors.reduce((sum, { failedOperations }) => sum + failedOperations, 0),
    };
  }

  #stopGuests(): void {
    this.#stopped = true;
    for (const { built } of this.#guests.values()) this.#arena.set(built.mms[0] as Ref, MM.stop, 1);
  }

  /** The next instant at which statistics are taken after `ns`; none once nobody is at work. */
  #nextInterval(ns: number): void {
    const { grid } = this.#task;
    const at = grid === undefined ? Number.POSITIVE_INFINITY : nextOnGrid(grid, ns);
    if (at === Number.POSITIVE_INFINITY) return;
    this.#virtual.host.at(at, () => {
      if ((this.#stopped ? 0 : this.#pending) + this.#working === 0 || this.#virtual.host.idle) return;
      this.#takeInterval(at);
      this.#nextInterval(at);
    });
  }

  #takeInterval(endNs: number | null): void {
    this.#virtual.settle();
    const now = Snapshot.take(this.#stats.layout, [this.#stats]);
    let driftPages = this.#driftPages;
    for (const { built, state } of this.#guests.values()) {
      // Of those that exit it is in the sum already.
      if (state !== 'exiting') for (const mm of built.mms) driftPages += this.#drift(mm);
    }
    this.#intervals.push({
      endNs,
      delta: encodeSnapshot(now.since(this.#taken)),
      backlog: this.#virtual.deferred.backlog,
      driftPages,
      guests: {
        pending: this.#pending,
        running: this.#guests.size,
        finished: this.#count.completed,
        stopped: this.#count.stopped,
        failed: this.#count.failed,
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
    if (this.#stopped) return;
    this.#pending -= 1;
    this.#working += 1;
    const a = this.#arena;
    const built = buildGuest(a, this.#addressSpace, plan, () => 0);
    const guest: LiveGuest = {
      plan,
      built,
      containers: containersOf(a, built),
      state: 'running',
      left: built.actors.length,
      restNs: 0,
      settledNs: 0,
      lockedVmAfter: 0n,
      error: null,
    };
    this.#guests.set(plan.index, guest);
    for (const mm of built.mms) this.#byMm.set(mm, guest);
    built.actors.forEach(({ actor, task }, index) => {
      const faults: ActorFaults | null =
        this.#rates.size === 0 ? null : { rate: this.#rates, random: stream(plan.seed, `faults.${index}`) };
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
    const guest = this.#guests.get(actor.guest);
    if (guest === undefined) return;
    guest.left -= 1;
    if (guest.left > 0) return;
    if (guest.state === 'running') {
      guest.state = 'settling';
      this.#working -= 1;
      this.#endNs = Math.max(this.#endNs, actor.localNs);
      guest.restNs = actor.localNs;
      this.#settleIfQuiet(guest);
    } else {
      this.#end(guest, actor.localNs);
    }
  }

  /**
   * All actors are at rest: once the last deferred update has been applied, the account is judged and the processes
   * exit.
   */
  #settleIfQuiet(guest: LiveGuest): void {
    if (guest.state !== 'settling') return;
    if (guest.built.mms.some((mm) => this.#virtual.deferred.of(mm) > 0)) return;
    const a = this.#arena;
    checkAtRest(a, this.#oracle, guest.built.mms, guest.containers);
    for (const mm of guest.built.mms) {
      this.#checked += 1;
      this.#driftPages += this.#drift(mm);
    }
    guest.state = 'exiting';
    guest.settledNs = Math.max(guest.restNs, this.#virtual.host.nowNs);
    guest.lockedVmAfter = lockedVm(a, guest.built.mms[0] as Ref);
    guest.left = guest.built.actors.length;
    for (const { actor } of guest.built.actors) {
      const driver = this.#virtual.actor(actor);
      if (driver === undefined) throw new Error('a guest has an actor that never ran');
      this.#virtual.add(driver, this.#guarded(guest, doExit(driver)), this.#virtual.host.nowNs);
    }
  }

  #end(guest: LiveGuest, endNs: number): void {
    const state = guest.error !== null ? 'failed' : this.#stopped ? 'stopped' : 'completed';
    this.#ended.push({
      guest: guest.plan.index,
      state,
      restNs: guest.restNs,
      settledNs: guest.settledNs,
      endNs: Math.max(guest.settledNs, endNs),
      ...this.#done(guest.built),
      lockedVmAfterPages: String(guest.lockedVmAfter),
      error: guest.error,
    });
    for (const mm of guest.built.mms) {
      checkMmOutlives(this.#arena, this.#oracle, mm);
      this.#byMm.delete(mm);
    }
    this.#guests.delete(guest.plan.index);
    this.#virtual.forget(guest.plan.index);
    freeGuest(this.#arena, guest.built);
    this.#count[state] += 1;
    if (guest.error !== null) this.#error ??= `guest ${guest.plan.index}: ${guest.error}`;
  }

  /** Guests that nothing can happen to any more though they have not ended: their actors wait for each other. */
  #judgeStuck(): void {
    for (const guest of this.#guests.values()) {
      this.#count.failed += 1;
      this.#endNs = Math.max(this.#endNs, this.#virtual.host.nowNs);
      this.#error ??= `guest ${guest.plan.index}: ${guest.left} of its actors wait for ever (${guest.state})`;
    }
  }
}
