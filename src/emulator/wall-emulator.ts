/**
 * The emulator of a worker process: owns the arena and the pool of driver threads, starts and ends guests, applies
 * deferred updates, and judges the accounting of each guest when it is at rest.
 */
import { performance } from 'node:perf_hooks';
import { type GuestEnd, type GuestStates, GuestLives, type LifeDriver, LiveGuest } from '../engine/guest-life.ts';
import { buildGuest, type BuiltGuest } from '../engine/guest.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { machineCost } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import type { WallShared } from '../engine/wall/wall-actor.ts';
import { type DeferredUpdate, type RingUpdate, WallControl } from '../engine/wall/wall-control.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Ref } from '../model/arena.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { ACTOR, MM } from '../model/layout.ts';
import { lockedVm } from '../model/locked-vm.ts';
import { Oracle } from '../model/oracle.ts';
import { KWORKERS, planCapacity, refuseTooLarge } from './capacity.ts';
import type { AccountingReport, Emulator, EmulatorOptions, GuestOutcome, Mark } from './emulator.ts';
import { DriverThreads } from './driver-threads.ts';
import { IdSet } from './id-set.ts';
import { KWorkers } from './kworker.ts';
import type { FromThread } from './thread-messages.ts';
import { Turns } from './turns.ts';
import { ViolationLog } from './violation-log.ts';

const RING_CELLS = 1 << 16;

class WallGuest extends LiveGuest {
  /** How many updates had been handed over when its actors were at rest: its own are among them. */
  handedOver = 0;
  operations = 0;
  failedOperations = 0;

  constructor(
    a: Arena,
    plan: GuestPlan,
    built: BuiltGuest,
    readonly incarnation: number,
    /** The run's start on this process' monotonic clock, ms. */
    readonly runStartMs: number,
    readonly resolve: (outcome: GuestOutcome) => void,
  ) {
    super(a, plan, built);
  }
}

export class WallEmulator implements Emulator {
  readonly threads: number;
  /** Called for each mark of a guest. */
  onMark: (mark: Mark) => void = () => {};
  readonly #plan: RunPlan;
  readonly #arena: Arena;
  readonly #addressSpace: AddressSpace;
  readonly #control: WallControl;
  readonly #blocks: StatsBlock[];
  readonly #threads: DriverThreads;
  readonly #oracle: Oracle;
  /** What the kworkers of the main thread share. */
  readonly #shared: WallShared;
  readonly #kworkers: KWorkers;
  readonly #lives: GuestLives<WallGuest>;
  readonly #appliedIds = new IdSet(1);
  readonly #violations = new ViolationLog();
  /** Deferred updates not yet applied or discarded, per guest. */
  readonly #pendingByMm = new Map<Ref, number>();
  /** The actor that each of them comes from, by operation id. */
  readonly #queuedBy = new Map<number, Ref>();
  /** Actors of guests under way, by thread. */
  readonly #load: number[];
  /** Guests at rest that wait for the ring, in the order in which they came to rest. */
  #behindRing: WallGuest[] = [];
  /** Guests are built, judged and taken down in turns: thousands may begin or end at once. */
  readonly #turns = new Turns();

  /** Resolves when all threads are warm. Rejects when one dies before. */
  static async create(options: EmulatorOptions): Promise<WallEmulator> {
    const emulator = new WallEmulator(options);
    await Promise.race([emulator.#threads.ready, emulator.failure]);
    return emulator;
  }

  private constructor({ plan, threads }: EmulatorOptions) {
    this.threads = threads;
    this.#plan = plan;
    const variant = resolveVariant(plan.variant);
    refuseTooLarge(plan.guests, variant, 'use fewer guests, or fewer mappings in each');
    const capacity = planCapacity(plan.guests, KWORKERS, variant);
    this.#arena = Arena.create(capacity, true);
    this.#addressSpace = new AddressSpace(this.#arena, variant.gup);
    this.#control = WallControl.create(threads + 1, RING_CELLS);
    const layout = statsLayout(plan);
    const stats = new SharedArrayBuffer(layout.bytes * (threads + 1));
    this.#blocks = Array.from({ length: threads + 1 }, (_, i) => new StatsBlock(layout, stats, i * layout.bytes));
    this.#oracle = new Oracle(this.#arena);
    this.#oracle.onViolation = (v) => {
      this.#violations.count(v.invariant, 1);
      this.#violations.keep(v);
    };
    this.#lives = new GuestLives(this.#arena, this.#oracle, this.#driver());
    this.#shared = this.#mainShared(variant);
    this.#kworkers = new KWorkers(
      this.#shared,
      KWORKERS,
      plan.pace === 0 ? null : (ref, update) => this.#work(ref, update),
    );
    this.#load = Array.from({ length: threads }, () => 0);
    const { guests: _guests, ...head } = plan;
    this.#threads = new DriverThreads(
      threads,
      this.#control,
      (thread) => ({
        plan: head,
        arena: this.#arena.buffer as SharedArrayBuffer,
        capacity,
        control: { buffer: this.#control.buffer, threads: threads + 1, ringCells: RING_CELLS },
        stats: { buffer: stats, byteOffset: thread * layout.bytes },
      }),
      (message) => this.#receive(message),
    );
  }

  #mainShared(variant: ReturnType<typeof resolveVariant>): WallShared {
    return {
      arena: this.#arena,
      control: this.#control,
      thread: this.threads,
      stats: this.#blocks[this.threads] as StatsBlock,
      variant,
      oracle: this.#oracle,
      addressSpace: this.#addressSpace,
      costNs: new Float64Array(256),
      wakeUpNs: machineCost(this.#plan.profile.costNs, 'wake_up'),
      spinNs: 0,
      pace: this.#plan.pace,
      clockMs: () => performance.now(),
      epochMs: performance.now(),
      onMark: () => {},
    };
  }

  /** Rejects when a driver thread dies. */
  get failure(): Promise<unknown> {
    return this.#threads.failure;
  }

  startGuest(plan: GuestPlan, incarnation: number, startAtMs: number): Promise<GuestOutcome> {
    return new Promise((resolve, reject) => {
      this.#turns.add(() => {
        try {
          this.#build(plan, incarnation, startAtMs, resolve);
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  #build(plan: GuestPlan, incarnation: number, startAtMs: number, resolve: (outcome: GuestOutcome) => void): void {
    // At a pace one thread orders the actors of a guest by their model time. At pace 0 there is none, and they race.
    const first = this.#load.indexOf(Math.min(...this.#load));
    const spread = this.#plan.pace === 0;
    const built = buildGuest(this.#arena, this.#addressSpace, plan, (i) => (spread ? first + i : first) % this.threads);
    // Guests that begin later than planned may go on past the planned end of the run: their own duration is the limit
    // then.
    const asPlanned = incarnation === 1 && plan.startNs === this.#plan.guests[plan.index]?.startNs;
    const runEndNs = asPlanned ? this.#plan.durationNs : null;
    const runStartMs = performance.now() + startAtMs - Number(process.hrtime.bigint()) / 1e6;
    this.#shared.epochMs = runStartMs;
    const guest = new WallGuest(this.#arena, plan, built, incarnation, runStartMs, resolve);
    this.#lives.begin(guest);
    const byThread = new Map<number, { index: number; actor: Ref; task: Ref }[]>();
    built.actors.forEach(({ actor, task }, index) => {
      const thread = this.#arena.get(actor, ACTOR.thread);
      const list = byThread.get(thread) ?? [];
      list.push({ index, actor, task });
      byThread.set(thread, list);
      (this.#load[thread] as number) += 1;
    });
    for (const [thread, actors] of byThread) {
      this.#threads.send(thread, {
        type: 'start',
        guest: plan,
        incarnation,
        runEndNs,
        runStartMs: startAtMs,
        guestMm: built.mms[0] as Ref,
        bufferPage: built.bufferPage,
        bufferPages: built.bufferPages,
        actors,
      });
    }
  }

  #receive(message: Exclude<FromThread, { type: 'ready' }>): void {
    if (message.type === 'mark') {
      this.onMark(message);
      return;
    }
    if (message.type === 'worked') {
      this.#kworkers.applied(message.worker);
      return;
    }
    if (message.type === 'violation') {
      this.#violations.keep(message.violation);
      return;
    }
    for (const [name, n] of Object.entries(message.violations)) this.#violations.count(name, n);
    const guest = this.#lives.live.get(message.guest);
    if (guest === undefined) return;
    if (message.type === 'parked') {
      guest.operations += message.operations;
      guest.failedOperations += message.failedOperations;
      guest.error ??= message.error;
    }
    this.#lives.actorEnded(guest, this.#nowNs(guest));
  }

  #work(worker: Ref, { guest, mm, npage, opId }: DeferredUpdate): void {
    const actor = this.#lives.live.get(guest)?.built.actors[0]?.actor;
    if (actor === undefined) throw new Error(`an update of guest ${guest}, which is gone`);
    const thread = this.#arena.get(actor, ACTOR.thread);
    this.#arena.set(worker, ACTOR.thread, thread);
    const from = this.#queuedBy.get(opId) ?? 0;
    this.#threads.send(thread, { type: 'work', guest, from, worker, mm, npage });
  }

  /** Since the start of the guest's run. */
  #nowNs(guest: WallGuest): number {
    return (performance.now() - guest.runStartMs) * 1e6;
  }

  #driver(): LifeDriver<WallGuest> {
    return {
      nowNs: (guest) => this.#nowNs(guest),
      atRest: (guest) => {
        guest.handedOver = this.#control.pushed;
        if (this.#inRing(guest)) this.#behindRing.push(guest);
        else this.#settle(guest);
      },
      isQuiet: (guest) => !this.#inRing(guest) && guest.built.mms.every((mm) => (this.#pendingByMm.get(mm) ?? 0) === 0),
      exit: (guest) => this.#exit(guest),
      gone: (guest) => this.#turns.add(() => this.#lives.end(guest, this.#nowNs(guest))),
      ended: (guest, state, endNs) => this.#tell(guest, state, endNs),
    };
  }

  #settle(guest: WallGuest): void {
    this.#turns.add(() => this.#lives.settle(guest));
  }

  #exit({ plan, built }: WallGuest): void {
    const byThread = new Map<number, Ref[]>();
    for (const { actor } of built.actors) {
      const thread = this.#arena.get(actor, ACTOR.thread);
      byThread.set(thread, [...(byThread.get(thread) ?? []), actor]);
    }
    for (const [thread, actors] of byThread) this.#threads.send(thread, { type: 'exit', guest: plan.index, actors });
  }

  /** Updates in the ring are of unknown owners: those that were there when the guest came to rest may be its own. */
  #inRing(guest: WallGuest): boolean {
    return this.#control.drained < guest.handedOver;
  }

  #tell(guest: WallGuest, state: GuestEnd, endNs: number): void {
    for (const mm of guest.built.mms) this.#pendingByMm.delete(mm);
    for (const { actor } of guest.built.actors) (this.#load[this.#arena.get(actor, ACTOR.thread)] as number) -= 1;
    guest.resolve({
      guest: guest.plan.index,
      incarnation: guest.incarnation,
      state,
      operations: guest.operations,
      failedOperations: guest.failedOperations,
      ...(guest.error === null ? {} : { error: guest.error }),
      lockedVmAfterPages: `${guest.lockedVmAfter}`,
      phasesMs: { rest: guest.restNs / 1e6, settled: guest.settledNs / 1e6, ended: endNs / 1e6 },
    });
  }

  stopGuests(): void {
    this.#lives.stopped = true;
    this.#control.setStop(1);
  }

  drainDeferred(max: number, out: DeferredUpdate[]): number {
    const taken: RingUpdate[] = [];
    const n = this.#control.drain(max, taken);
    for (const update of taken) {
      const { mm, opId, from } = update;
      this.#pendingByMm.set(mm, (this.#pendingByMm.get(mm) ?? 0) + 1);
      this.#queuedBy.set(opId, from);
      out.push(update);
    }
    const { drained } = this.#control;
    const waiting = this.#behindRing.findIndex(({ handedOver }) => handedOver > drained);
    for (const guest of this.#behindRing.splice(0, waiting < 0 ? Infinity : waiting)) this.#settle(guest);
    return n;
  }

  onDeferred(callback: () => void): void {
    const listen = async (): Promise<void> => {
      for (;;) {
        const bell = this.#control.ringBell();
        if (this.#control.pushed > this.#control.drained) callback();
        if (this.#control.stopLevel === 2) return;
        await this.#control.ringFilled(bell);
      }
    };
    void listen();
  }

  applyDeferred(update: DeferredUpdate): boolean | Promise<boolean> {
    if (!this.#appliedIds.add(update.opId)) return false;
    return this.#apply(update);
  }

  #apply(update: DeferredUpdate): boolean | Promise<boolean> {
    const later = this.#kworkers.apply(update);
    if (later === undefined) {
      this.#settledOne(update);
      return true;
    }
    return later.then(() => {
      this.#settledOne(update);
      return true;
    });
  }

  /**
   * A second application beside the one that settles it: what skipping the id check would do. For the planted-bug test.
   */
  async applyUnchecked(update: DeferredUpdate): Promise<void> {
    // The second application would drop a reference it does not own.
    Atomics.add(this.#arena.i32, update.mm + MM.mmUsers, 1);
    await this.#kworkers.apply(update);
  }

  discardDeferred(update: DeferredUpdate): void {
    if (!this.#appliedIds.add(update.opId)) return;
    const block = this.#blocks[this.threads] as StatsBlock;
    block.count(block.layout.counter('deferred_discarded'), 1);
    this.#settledOne(update);
  }

  #settledOne(update: DeferredUpdate): void {
    this.#queuedBy.delete(update.opId);
    const left = (this.#pendingByMm.get(update.mm) ?? 1) - 1;
    this.#pendingByMm.set(update.mm, left);
    const guest = left > 0 ? undefined : this.#lives.settling(update.mm);
    if (guest !== undefined) this.#settle(guest);
  }

  snapshot(): Snapshot {
    return Snapshot.take((this.#blocks[0] as StatsBlock).layout, this.#blocks);
  }

  /** The live statistics blocks, for a scrape. */
  get blocks(): readonly StatsBlock[] {
    return this.#blocks;
  }

  async quiesce(): Promise<AccountingReport> {
    await Promise.resolve();
    return { checked: this.#lives.checked, ...this.#violations.report() };
  }

  get violationCounts(): ReadonlyMap<string, number> {
    return this.#violations.counts;
  }

  states(): GuestStates {
    const { completed, stopped, failed } = this.#lives.ended;
    return this.#lives.states(this.#plan.guests.length - this.#lives.live.size - completed - stopped - failed);
  }

  /** Pages by which locked_vm differs from what finished operations hold, summed over live guests. */
  driftPages(): bigint {
    let drift = 0n;
    const a = this.#arena;
    for (const { built } of this.#lives.live.values()) {
      for (const mm of built.mms) {
        const held = BigInt(a.get(mm, MM.ledgerCommitted)) + a.getU64(mm, MM.mlockedPages);
        drift += BigInt.asIntN(64, lockedVm(a, mm)) - held;
      }
    }
    return drift;
  }

  async close(): Promise<void> {
    this.#control.setStop(2);
    this.#control.nudge();
    this.#kworkers.close();
    await this.#threads.close();
  }
}
