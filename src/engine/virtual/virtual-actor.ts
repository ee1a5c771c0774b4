/**
 * The virtual driver: actors of one emulated host in simulated time. Same plan, same seed: the same results to the
 * byte, because nothing here reads a clock and everything happens in the total order of the host's queue.
 */
import { DEFERRED_LOCK_WAIT, DEFERRED_SETTLE, Op } from '../../metrics/ops.ts';
import type { StatsBlock } from '../../metrics/stats.ts';
import type { AddressSpace } from '../../model/address-space/address-space.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import type { ChunkLoop, ChunkTimes } from '../../model/chunk-loop.ts';
import { type Aperture, type FaultSite, LockKind, type Path, type Variant } from '../../model/env.ts';
import { ACTOR, MM } from '../../model/layout.ts';
import { taskMm } from '../../model/mm.ts';
import type { Oracle } from '../../model/oracle.ts';
import { vfioLockAcctBg } from '../../model/paths/work.ts';
import { S, type StepId } from '../../model/steps.ts';
import type { Driver } from '../actor.ts';
import type { ActorFaults } from '../actor-faults.ts';
import { ActorTally } from '../actor-tally.ts';
import { newActor } from '../guest.ts';
import type { HostOptions } from '../host-options.ts';
import { APERTURE_48BIT } from '../machine.ts';
import { Ask } from '../spinners.ts';
import { ChunkLoops } from './chunk-loops.ts';
import { DeferredUpdates } from './deferred-updates.ts';
import { HostThread } from './host-thread.ts';
import { Host } from './host.ts';
import { clearedPages, exact, Shares, shares } from './step-costs.ts';

export interface VirtualOptions {
  readonly arena: Arena;
  readonly stats: StatsBlock;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  /** Cost per step id, ns; see `exactCosts`. */
  readonly costNs: Float64Array;
  readonly host: HostOptions;
  onMark(guest: number, atNs: number, label: string, value: string): void;
  /** A guest has mapped something. */
  onMapped(guest: number): void;
  /** An actor's path has ended. */
  onEnd(actor: VirtualActor): void;
  /** The last deferred update of an address space under way has been applied. */
  onSettled(mm: Ref): void;
}

/** What the actors of a host share. */
export class VirtualHost {
  readonly host: Host;
  readonly #byIndex: (VirtualActor | undefined)[] = [];
  readonly #kworkers: VirtualActor[] = [];
  /** By guest. */
  readonly #groups = new Map<number, ChunkLoops>();
  readonly deferred = new DeferredUpdates();

  constructor(readonly options: VirtualOptions) {
    this.host = new Host(options.host, (thread) => {
      if (thread instanceof VirtualActor) this.#ended(thread);
    });
  }

  add(actor: VirtualActor, path: Path<void>, startNs: number): void {
    this.#byIndex[this.options.arena.indexOf('actor', actor.actor)] = actor;
    if (actor.guest >= 0) actor.group = this.#group(actor.guest);
    this.host.add(actor, path, exact(startNs));
  }

  /** Writes down what pin loops have done and not told yet: before statistics are read. */
  settle(): void {
    for (const group of this.#groups.values()) group.settle();
  }

  /** The guest is gone. */
  forget(guest: number): void {
    this.#groups.delete(guest);
  }

  #group(guest: number): ChunkLoops {
    let group = this.#groups.get(guest);
    if (group === undefined) this.#groups.set(guest, (group = new ChunkLoops(this.options.arena, this.host)));
    return group;
  }

  actor(ref: Ref): VirtualActor | undefined {
    return this.#byIndex[this.options.arena.indexOf('actor', ref)];
  }

  queueWork(from: VirtualActor, mm: Ref, npage: number): void {
    const queuedNs = from.localNs;
    this.deferred.queued(mm);
    const group = this.#group(this.options.arena.get(mm, MM.guest));
    group.queuedWork += 1;
    // A pool of its own for each CPU; where there are as many as threads, for each thread.
    this.host.workqueue.queue(
      this.options.host.cpus === null ? from.slot : from.cpu,
      () => {
        group.queuedWork -= 1;
        const worker =
          this.#kworkers.pop() ?? new VirtualActor(this, newActor(this.options.arena, 0, 0), 0, -1, 0, null);
        this.#byIndex[this.options.arena.indexOf('actor', worker.actor)] = worker;
        worker.group = group;
        return { thread: worker, path: this.#work(worker, mm, npage, queuedNs) };
      },
      queuedNs,
    );
  }

  *#work(worker: VirtualActor, mm: Ref, npage: number, queuedNs: number): Path<void> {
    const startNs = worker.localNs;
    yield* vfioLockAcctBg(worker, mm, npage);
    const { stats } = this.options;
    stats.record(DEFERRED_SETTLE, worker.localNs - queuedNs, 1);
    stats.record(DEFERRED_LOCK_WAIT, worker.localNs - startNs, 1);
    if (this.deferred.applied(mm)) this.options.onSettled(mm);
  }

  #ended(actor: VirtualActor): void {
    if (actor.guest < 0) this.#kworkers.push(actor);
    else this.options.onEnd(actor);
  }
}

/** An actor in simulated time: the model's context, its workload's driver and a thread of the host in one. */
export class VirtualActor extends HostThread implements Driver {
  override group: ChunkLoops | null = null;
  readonly arena: Arena;
  readonly variant: Variant;
  readonly oracle: Oracle;
  readonly addressSpace: AddressSpace;
  readonly aperture: Aperture = APERTURE_48BIT;
  readonly pagesPerStep = Number.MAX_SAFE_INTEGER;
  readonly exclusive = true;
  readonly tally: ActorTally;
  readonly #host: Host;
  readonly #costNs: Float64Array;
  readonly #stepByStep: boolean;
  /** What the last announced step touches. */
  #object: Ref = 0;
  /** When it last tested the limit, came to a lock, and had released mmap_sem. */
  #testNs = 0;
  #lockStepNs = 0;
  #releaseNs = 0;

  constructor(
    readonly shared: VirtualHost,
    readonly actor: Ref,
    public current: Ref,
    /** Index of its guest, -1 for a kworker. */
    readonly guest: number,
    /** The guest's first address space: carries its stop request; 0 for a kworker. */
    private readonly guestMm: Ref,
    private readonly faults: ActorFaults | null,
  ) {
    super();
    const { options } = shared;
    this.arena = options.arena;
    this.variant = options.variant;
    this.oracle = options.oracle;
    this.addressSpace = options.addressSpace;
    this.#host = shared.host;
    this.tally = new ActorTally(options.arena, actor, options.stats);
    this.#costNs = options.costNs;
    this.#stepByStep = options.host.stepByStep ?? false;
  }

  at(step: number, object: Ref): boolean {
    if (this.group !== null && this.group.looping > 0) this.group.announced(step, this.localNs);
    this.#object = object;
    if (shares[step] === Shares.Nothing) this.localNs += this.#costNs[step] as number;
    else this.#share(step, object, 1);
    return this.localNs >= this.horizonNs || this.#stepByStep;
  }

  atMany(step: number, object: Ref, count: number): boolean {
    if (this.group !== null && this.group.looping > 0) this.group.announced(step, this.localNs);
    this.#object = object;
    if (shares[step] === Shares.Nothing) this.localNs += (this.#costNs[step] as number) * count;
    else this.#share(step, object, count);
    return this.localNs >= this.horizonNs || this.#stepByStep;
  }

  /**
   * A step whose time depends on what the other CPUs do. Steps begin in the order of time, so it knows all before it.
   */
  #share(step: StepId, object: Ref, count: number): void {
    const ns = (this.#costNs[step] as number) * count;
    const start = this.localNs;
    switch (shares[step]) {
      case Shares.Test:
        this.localNs = start + ns;
        this.#testNs = this.localNs;
        break;
      case Shares.LockWord:
        if (step === S.UpWrite) {
          if (this.group !== null && this.group.looping > 0) this.group.charged(this, object, start);
        } else this.#lockStepNs = start;
        this.localNs = this.#host.lines.use(this, object, start) + ns;
        if (this.localNs > start + ns) this.tally.disturbances += 1;
        break;
      case Shares.Invalidations:
        this.#inOrder();
        this.localNs = this.#host.invalidate(start, ns);
        break;
      default:
        this.#inOrder();
        this.localNs = Math.max(start + ns, this.#host.memory(start, (clearedPages.get(step) as number) * count));
    }
    // An operation of a large guest may take minutes to simulate: it is left in the middle.
    if (this.#host.mayHalt()) this.horizonNs = -Infinity;
  }

  /**
   * A closed form, of which there is none where faults are injected, may have gone past what other guests do. The first
   * step after it is one of its own guest, and yields.
   */
  #inOrder(): void {
    if (this.faults === null && this.localNs > this.horizonNs)
      throw new Error('a step that CPUs share begins out of the order of time');
  }

  startChunks(loop: ChunkLoop): boolean {
    if (this.group === null || this.faults !== null || this.#stepByStep) return false;
    if (!this.group.start(this, loop)) return false;
    this.ask = Ask.Chunks;
    return true;
  }

  override chunkDue(): boolean {
    return this.group !== null && this.group.due(this);
  }

  override leaveChunks(nowNs: number): void {
    this.group?.leave(this, nowNs);
  }

  chunkTimes(): ChunkTimes {
    return { testNs: this.#testNs, lockNs: this.#lockStepNs, releaseNs: this.#releaseNs };
  }

  aheadNs(): number {
    // Injected faults are drawn step by step, and what comes from another CPU's cache is paid for step by step.
    if (this.faults !== null || this.#stepByStep) return 0;
    if (!this.#host.lines.isWith(this, taskMm(this.arena, this.current))) return 0;
    const untilNs = this.group === null ? this.horizonNs : this.#host.undisturbedNs(this, this.group);
    return Math.max(0, Math.max(this.horizonNs, untilNs) - this.localNs);
  }

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

  get disturbances(): number {
    return this.tally.disturbances;
  }

  spin(mm: Ref): boolean {
    const owner = this.arena.get(mm, MM.semOwner) as Ref;
    if (!this.#host.spinners.maySpin(this, mm, owner === 0 ? undefined : this.shared.actor(owner))) return false;
    this.#wait();
    return true;
  }

  block(): void {
    this.ask = Ask.Block;
    this.#wait();
  }

  #wait(): void {
    this.tally.disturbances += 1;
    if (!this.tally.waiting) this.tally.waits(this.localNs);
  }

  unblock(kind: LockKind): void {
    if (this.tally.waiting) this.tally.waited(kind, this.localNs);
  }

  acquired(kind: LockKind): void {
    this.tally.acquired(kind, this.localNs);
    if (kind !== LockKind.MmapWrite) return;
    this.ownedMm = this.#object;
    this.spinFirst = false;
  }

  releasing(kind: LockKind): void {
    this.tally.released(kind, this.localNs);
    if (kind !== LockKind.MmapWrite) return;
    this.ownedMm = 0;
    this.#releaseNs = this.localNs;
    this.#host.spinners.released(this.#object, this.localNs);
  }

  wake(actor: Ref): void {
    const thread = this.shared.actor(actor);
    if (thread !== undefined && this.#host.wake(thread, this.localNs)) this.arena.set(actor, ACTOR.wakePending, 1);
  }

  override resumed(): void {
    this.arena.set(this.actor, ACTOR.wakePending, 0);
  }

  override preempted(): void {
    this.tally.disturbances += 1;
  }

  handoffDue(actor: Ref): boolean {
    return this.tally.handoffDue(actor, this.localNs);
  }

  defer(mm: Ref, npage: number): boolean {
    this.shared.queueWork(this, mm, npage);
    return true;
  }

  inject(site: FaultSite): boolean {
    return this.faults !== null && this.faults.happens(site);
  }

  count(counter: number, by: number): void {
    this.tally.count(counter, by);
  }

  nowNs(): number {
    return this.localNs;
  }

  startNs(): number {
    return this.localNs;
  }

  sleepUntil(ns: number): void {
    const untilNs = exact(ns);
    if (untilNs <= this.localNs) return;
    this.ask = Ask.Sleep;
    this.sleepUntilNs = untilNs;
  }

  stopping(): boolean {
    return this.guestMm !== 0 && this.arena.get(this.guestMm, MM.stop) !== 0;
  }

  stopGuest(): void {
    this.arena.set(this.guestMm, MM.stop, 1);
  }

  recordOp(op: number, ret: number, actualNs: number, late: number): void {
    if (ret >= 0 && op === Op.map) this.shared.options.onMapped(this.guest);
    this.tally.operation(op, ret, actualNs, exact(late));
  }

  mark(label: string, value: string): void {
    this.shared.options.onMark(this.guest, this.localNs, label, value);
  }
}
