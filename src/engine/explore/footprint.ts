/**
 * Footprints of steps as bit masks, and the watchers that find out what a step really did to address spaces and to the
 * ledger. Things fall into slots by their index in the arena; things that share a slot count as the same thing, which
 * costs reduction and never soundness.
 */
import { AddressSpace, type Lookup } from '../../model/address-space/address-space.ts';
import type { BatchRun, FaultCost, PageRun } from '../../model/address-space/gup-runs.ts';
import type { Locked, MmapArgs } from '../../model/address-space/memory.ts';
import type { Arena, Ref } from '../../model/arena.ts';
import type { Variant } from '../../model/env.ts';
import { DMA, MM, TASK } from '../../model/layout.ts';
import { Oracle } from '../../model/oracle.ts';
import type { ForkCost, PinnedPages } from '../../model/pins.ts';
import { STEP_ACCESS } from '../../model/step-access.ts';
import { S, type StepId } from '../../model/steps.ts';

/** Everything: a step that commutes with nothing. */
export const EVERYTHING = 0x3fff_ffff;

const SLOTS = 4;
const [LOCK, COUNT, USERS, SPACE, LEDGER, CONTAINER] = [0, 4, 8, 12, 16, 20];
const TASKS = 1 << 24;
const FAULTS = 1 << 25;
const USER = 1 << 26;

/** What a step has read and written, as masks of slots. */
export interface Footprint {
  reads: number;
  writes: number;
}

export const dependent = (a: Readonly<Footprint>, b: Readonly<Footprint>): boolean =>
  (a.writes & (b.reads | b.writes)) !== 0 || (b.writes & a.reads) !== 0;

/** Whether an announced step may touch anything another actor can see, before it is taken. */
export function isLocal(step: StepId): boolean {
  const row = STEP_ACCESS[step];
  if (row === undefined || row.all) return false;
  return row.lock === undefined && row.count === undefined && row.users === undefined && row.container === undefined;
}

export class Watch implements Footprint {
  reads = 0;
  writes = 0;

  constructor(readonly arena: Arena) {}

  /**
   * Begins the footprint of a step: the table's part. `ending`: the actor gives up descriptors or tasks, and what
   * follows the last mapping freed is part of that step.
   */
  begin(step: StepId, object: Ref, ending: boolean): void {
    this.reads = 0;
    this.writes = 0;
    const row = STEP_ACCESS[step];
    if (row === undefined || row.all || (ending && step === S.Kfree)) {
      this.reads = EVERYTHING;
      this.writes = EVERYTHING;
      return;
    }
    const { arena } = this;
    if (row.tasks !== undefined) this.#add(row.tasks, TASKS);
    let mm = row.of === 'mm' ? object : 0;
    if (row.of === 'task') mm = arena.get(object, TASK.mm);
    if (mm !== 0) {
      if (row.lock !== undefined) this.#add(row.lock, this.#mm(mm, LOCK));
      if (row.count !== undefined) this.#add(row.count, this.#mm(mm, COUNT));
      if (row.users !== undefined) this.#add(row.users, this.#mm(mm, USERS));
    }
    if (row.container !== undefined) {
      const container = row.of === 'dma' ? arena.get(object, DMA.container) : object;
      this.#add(row.container, 1 << (CONTAINER + (arena.indexOf('container', container) & (SLOTS - 1))));
    }
  }

  /** The step may have changed who uses an address space. */
  get touchedUsers(): boolean {
    return (this.writes & (((1 << SLOTS) - 1) << USERS)) !== 0;
  }

  space(mm: Ref, mode: 'r' | 'w'): void {
    this.#add(mode, this.#mm(mm, SPACE));
  }

  /**
   * Additions to the ledger commute with each other, not with a look at it: so an addition is entered as the reading.
   */
  ledgerAdd(mm: Ref): void {
    this.#add('r', this.#mm(mm, LEDGER));
  }

  /** A look at the ledger is also one at what mlock has charged. */
  ledgerCheck(mm: Ref): void {
    this.#add('w', this.#mm(mm, LEDGER));
    this.#add('r', this.#mm(mm, COUNT));
  }

  /** The account of a user: all users count as one. */
  userAccount(): void {
    this.#add('w', USER);
  }

  /** A fault was asked for: the number that may still happen is shared. */
  fault(): void {
    this.#add('w', FAULTS);
  }

  #add(mode: 'r' | 'w', mask: number): void {
    if (mode === 'w') this.writes |= mask;
    else this.reads |= mask;
  }

  #mm(mm: Ref, kind: number): number {
    return 1 << (kind + (this.arena.indexOf('mm', mm) & (SLOTS - 1)));
  }
}

export class WatchedOracle extends Oracle {
  constructor(private readonly watch: Watch) {
    super(watch.arena);
  }
  override begin(mm: Ref, pages: number, limitPages?: bigint): number {
    const exempt = super.begin(mm, pages, limitPages);
    this.#add(mm);
    return exempt;
  }
  override end(
    mm: Ref,
    asked: number,
    held: number,
    limitPages: bigint,
    bypass: boolean,
    began?: number,
    judge = held > 0,
  ): void {
    this.#add(mm);
    if (!bypass && judge) this.watch.ledgerCheck(mm);
    super.end(mm, asked, held, limitPages, bypass, began, judge);
  }
  override beginRelease(mm: Ref, pages: number): void {
    this.watch.ledgerAdd(mm);
    super.beginRelease(mm, pages);
  }
  override endRelease(mm: Ref, pages: number): void {
    this.watch.ledgerAdd(mm);
    super.endRelease(mm, pages);
  }
  override recommit(mm: Ref, pages: number): void {
    this.#add(mm);
    super.recommit(mm, pages);
  }
  override move(from: Ref, to: Ref, pages: number): void {
    this.watch.ledgerAdd(from);
    this.watch.ledgerAdd(to);
    super.move(from, to, pages);
  }
  override refused(mm: Ref, limitPages: bigint, alreadyHeld?: number): void {
    this.watch.ledgerCheck(mm);
    super.refused(mm, limitPages, alreadyHeld);
  }
  override iommufdPinned(mm: Ref, user: Ref, inLockedVm: boolean, pages: number): void {
    this.watch.ledgerCheck(mm);
    super.iommufdPinned(mm, user, inLockedVm, pages);
  }
  override userCharged(user: Ref, mm: Ref, pages: number, limitPages: bigint): void {
    this.watch.userAccount();
    super.userCharged(user, mm, pages, limitPages);
  }
  override userRefused(user: Ref, mm: Ref, pages: number, limitPages: bigint): void {
    this.watch.userAccount();
    super.userRefused(user, mm, pages, limitPages);
  }

  /** Callers of different limits in one address space: from then on the order of additions counts. */
  #add(mm: Ref): void {
    if (this.watch.arena.get(mm, MM.ledgerMixed) === 1) this.watch.ledgerCheck(mm);
    else this.watch.ledgerAdd(mm);
  }
}

export class WatchedAddressSpace extends AddressSpace {
  constructor(
    private readonly watch: Watch,
    variant: Variant,
  ) {
    super(watch.arena, variant.gup);
  }
  override mmap(mm: Ref, page: number, pages: number, args: MmapArgs, out?: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.mmap(mm, page, pages, args, out);
  }
  override munmap(mm: Ref, page: number, pages: number, out?: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.munmap(mm, page, pages, out);
  }
  override mprotect(mm: Ref, page: number, pages: number, prot: number, out: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.mprotect(mm, page, pages, prot, out);
  }
  override setLocked(
    mm: Ref,
    page: number,
    pages: number,
    locked: Locked,
  ): { error: number; lockedDeltaPages: number } {
    this.watch.space(mm, 'w');
    return super.setLocked(mm, page, pages, locked);
  }
  override lockedPages(mm: Ref, page: number, pages: number): number {
    this.watch.space(mm, 'r');
    return super.lockedPages(mm, page, pages);
  }
  override populateLocked(mm: Ref, page: number, pages: number, out: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.populateLocked(mm, page, pages, out);
  }
  override populate(mm: Ref, page: number, pages: number, write: boolean, out: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.populate(mm, page, pages, write, out);
  }
  override dontneed(mm: Ref, page: number, pages: number, out?: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.dontneed(mm, page, pages, out);
  }
  override fork(parent: Ref, child: Ref, pinned?: PinnedPages): ForkCost {
    this.watch.space(parent, 'w');
    this.watch.space(child, 'w');
    return super.fork(parent, child, pinned);
  }
  override destroy(mm: Ref): number {
    this.watch.space(mm, 'w');
    return super.destroy(mm);
  }
  override lookup(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): Lookup {
    this.watch.space(mm, 'r');
    return super.lookup(mm, page, maxPages, write, run);
  }
  override resident(mm: Ref, page: number, maxPages: number, write: boolean, run: PageRun): number {
    this.watch.space(mm, 'r');
    return super.resident(mm, page, maxPages, write, run);
  }
  override gupFault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.gupFault(mm, page, write, out);
  }
  override usable(mm: Ref, page: number, maxPages: number, write: boolean): number {
    this.watch.space(mm, 'r');
    return super.usable(mm, page, maxPages, write);
  }
  override fault(mm: Ref, page: number, write: boolean, out: FaultCost): number {
    this.watch.space(mm, 'w');
    return super.fault(mm, page, write, out);
  }
  override gupBatch(mm: Ref, page: number, maxPages: number, write: boolean, runs: BatchRun[], out: FaultCost): number {
    const got = super.gupBatch(mm, page, maxPages, write, runs, out);
    this.watch.space(mm, out.faults > 0 ? 'w' : 'r');
    return got;
  }
}
