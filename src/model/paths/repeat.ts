/**
 * The fast form of the pin loop. A populated buffer is the same thing over and over: a *unit* of pages (one chunk, or
 * for batched kernels one batch) whose steps cost the same each time nobody is in the way. The loop does one unit step
 * by step and notes what it cost; the following units are done here, with the same lock words, counters and limit
 * tests, but without a generator and with one addition of time each; where the driver owns the whole arena, with one
 * addition for all of them. At the first sign of anybody else (a lock not free, the limit near, a page of another kind,
 * no time left before the driver's horizon) the step-by-step loop takes over again.
 *
 * test/model/repeat.test.ts proves both forms equal.
 */
import { GupEntry } from '../address-space/gup-runs.ts';
import type { ChunkLoop, ChunkUnit, Unit } from '../chunk-loop.ts';
import { C, type Ctx, LockKind } from '../env.ts';
import { CHUNK, CONTAINER, DMA } from '../layout.ts';
import { recordPinned } from '../ledger.ts';
import { addLockedVm, chargeRepeatedly, exceeds, isWrapped, lockedVm } from '../locked-vm.ts';
import { orders } from '../orders.ts';
import { type Batch, BATCH_PAGES, type PinCall } from '../pin-call.ts';
import { accountRepeatedly, isFree, readRepeatedly } from '../rwsem.ts';

/** Units done in one go at most, so that stop requests are seen. */
const UNITS_MAX = 4096;

/** What a unit cost in earlier calls of a driver that owns its arena, by everything its cost depends on. */
const knownUnits = new WeakMap<object, Map<string, Unit | ChunkUnit>>();

export class Repeater {
  /** Page the current step-by-step unit began at; -1 none. */
  #unitStart = -1;
  #unitEnd = -1;
  #usedAtStart = 0;
  #disturbedAtStart = 0;
  #unitPages = 0;
  #chunkPages = 0;
  /** What one undisturbed unit is like; null unknown. */
  #unit: Unit | ChunkUnit | null = null;
  /** Pages of a chunk that was pinned here but whose accounting met a busy lock: the caller accounts it. */
  busyPages = 0;
  /**
   * What is left of a run of alike chunks, for a driver that repeats them although others come between; null = nothing.
   */
  loop: ChunkLoop | null = null;

  /**
   * Called before each chunk. Returns the pages done; `call` and the mapping are up to date. With `busyPages` set that
   * many further pages are pinned and must be accounted and mapped.
   */
  run(k: Ctx, call: PinCall): number {
    this.busyPages = 0;
    this.loop = null;
    const page = call.vaddrPage;
    if (page < this.#unitEnd && page > this.#unitStart) return 0;
    if (page === this.#unitEnd && k.disturbances === this.#disturbedAtStart) {
      this.#unit = this.#measured(k, call);
      if (k.exclusive) this.#known(k).set(this.#key(k, call), this.#unit);
    }
    this.#unitStart = -1;
    this.#unitEnd = -1;
    // What a reserve of pages holds back is not the same from chunk to chunk.
    if (k.variant.reservePages > 0) return 0;
    if (call.mm === 0 || (k.aheadNs() <= 0 && !k.exclusive) || k.arena.get(call.dma, DMA.vpfnCount) !== 0) return 0;
    // A batched kernel refills before it sees that a chunk is over, so its unit begins with a fresh batch.
    const { batch } = call;
    if (batch !== null && (batch.runs.length === 0 || batch.next > 0 || batch.used > 0)) return 0;
    const { run } = call;
    const alike = k.addressSpace.resident(call.mm, page, call.remaining, call.write, run);
    if (alike === 0 || run.reserved) return 0;
    const chunkPages = run.pages;
    if (batch !== null && batch.capacityPages !== BATCH_PAGES) return 0;
    const unitPages = batch !== null ? Math.max(BATCH_PAGES, chunkPages) : chunkPages;
    if (page % chunkPages !== 0 || unitPages % chunkPages !== 0 || alike < 2 * unitPages) return 0;
    // Where a mapping begins in the middle of a huge page, the rest of that is a chunk of another length than all
    // others.
    if (!this.#followedByLike(k, call, page + chunkPages, chunkPages)) return 0;
    if (unitPages !== this.#unitPages || chunkPages !== this.#chunkPages) {
      this.#unitPages = unitPages;
      this.#chunkPages = chunkPages;
      this.#unit = (k.exclusive ? this.#known(k).get(this.#key(k, call)) : null) ?? null;
    }
    // The end is done step by step: only there is no page after the chunk to look at, and no full batch after the unit.
    const after = batch !== null ? BATCH_PAGES : 1;
    const unit = this.#unit;
    const unitsMax = Math.floor((alike - after) / unitPages);
    const done = unit === null ? 0 : this.#repeat(k, call, unit, unitsMax);
    if (done === 0 && unit !== null && 'accountNs' in unit) this.loop = this.#loop(k, call, unit, unitsMax);
    if (batch !== null && (done > 0 || this.busyPages > 0)) this.#restoreBatch(k, call, batch, page, done);
    if (done > 0 || this.busyPages > 0) return done;
    this.#unitStart = page;
    this.#unitEnd = page + unitPages;
    this.#usedAtStart = k.usedNs();
    this.#disturbedAtStart = k.disturbances;
    return 0;
  }

  /** Whether the physically contiguous piece at `page` is as long as the one before it. */
  #followedByLike(k: Ctx, call: PinCall, page: number, chunkPages: number): boolean {
    const { run } = call;
    const there = k.addressSpace.resident(call.mm, page, call.remaining - chunkPages, call.write, run);
    return there >= chunkPages && run.pages === chunkPages;
  }

  /** After a loop of the driver. False: the next chunk is the caller's, with `busyPages` from its accounting on. */
  resume(): boolean {
    const { loop } = this;
    this.loop = null;
    this.#unitStart = -1;
    this.#unitEnd = -1;
    if (loop === null || loop.end === 'rewound') return false;
    if (loop.end === 'locked') this.busyPages = loop.pages;
    return loop.end === 'whole';
  }

  /** The unit that has just been done step by step. */
  #measured(k: Ctx, call: PinCall): Unit | ChunkUnit {
    const start = this.#usedAtStart;
    const unit = {
      ns: k.usedNs() - start,
      writeHoldNs: k.lastHoldNs(LockKind.MmapWrite),
      readHoldNs: k.lastHoldNs(LockKind.MmapRead),
    };
    const v = k.variant;
    const times = k.chunkTimes?.();
    if (times === undefined || v.batched || v.lockedGup || v.lockFree || v.chunkReference) return unit;
    return {
      ...unit,
      testNs: times.testNs - start,
      accountNs: call.accountNs - start,
      lockNs: times.lockNs - start,
      releaseNs: times.releaseNs - start,
    };
  }

  #loop(k: Ctx, call: PinCall, unit: ChunkUnit, chunks: number): ChunkLoop {
    const pages = this.#chunkPages;
    const settle = (): void => {
      if (loop.done === 0) return;
      count(k, unit, loop.done, 0, loop.done);
      pinned(k, call, loop.done * pages, pages);
      loop.done = 0;
    };
    const limitPages = call.lockCap ? Infinity : Number(call.limitPages);
    const loop: ChunkLoop = { mm: call.mm, pages, unit, limitPages, left: chunks, done: 0, end: 'whole', settle };
    return loop;
  }

  #known(k: Ctx): Map<string, Unit | ChunkUnit> {
    let known = knownUnits.get(k.arena);
    if (known === undefined) knownUnits.set(k.arena, (known = new Map<string, Unit | ChunkUnit>()));
    return known;
  }

  #key(k: Ctx, call: PinCall): string {
    const m = k.arena.i32;
    const domains = m[(m[call.dma + DMA.container] as number) + CONTAINER.domains] as number;
    // Large IOMMU entries depend on the alignment.
    const shift = this.#chunkPages < 512 ? 0 : call.iovaPage % 512;
    const entry = call.batch?.runs[0]?.entry ?? GupEntry.Page;
    return `${this.#unitPages} ${this.#chunkPages} ${entry} ${domains} ${call.lockCap} ${call.local} ${shift}`;
  }

  /** Leaves the batch as the step-by-step loop would have it after `done` pages and a busy chunk. */
  #restoreBatch(k: Ctx, call: PinCall, batch: Batch, page: number, done: number): void {
    const unitPage = page + Math.floor(done / this.#unitPages) * this.#unitPages;
    const used = page + done + this.busyPages - unitPage;
    batch.next = 0;
    batch.used = 0;
    if (used >= BATCH_PAGES) {
      batch.runs.length = 0;
    } else {
      const max = Math.min(call.remaining + (page + done - unitPage), BATCH_PAGES);
      k.addressSpace.gupBatch(call.mm, unitPage, max, call.write, batch.runs, call.fault.reset());
      batch.used = used;
      const [run] = batch.runs;
      if (run !== undefined && used === run.pages * run.times) {
        batch.next = 1;
        batch.used = 0;
      }
    }
  }

  #repeat(k: Ctx, call: PinCall, unit: Unit, unitsMax: number): number {
    const aheadNs = k.aheadNs();
    if (aheadNs <= 0) return 0;
    const { mm } = call;
    const a = k.arena;
    const chunkPages = this.#chunkPages;
    const chunksPerUnit = this.#unitPages / chunkPages;
    const v = k.variant;
    // A per-page kernel also gets the page after the chunk, to see that it does not follow.
    const readsPerUnit = v.batched ? this.#unitPages / BATCH_PAGES : v.lockedGup ? this.#unitPages + 1 : 0;
    // What is counted at the horizon itself belongs to the actor that comes after it.
    const byTime = unit.ns === 0 ? unitsMax : Math.ceil(aheadNs / unit.ns) - 1;
    const units = Math.min(unitsMax, byTime, k.exclusive ? unitsMax : UNITS_MAX);
    let chunks = 0;
    let reads = 0;
    const limit = call.lockCap ? null : call.limitPages;
    // Without read sections in between all chunks are one run of write sections.
    const rounds = readsPerUnit === 0 ? 1 : units;
    const chunksPerRound = readsPerUnit === 0 ? units * chunksPerUnit : chunksPerUnit;
    if (k.exclusive) {
      const before = lockedVm(a, mm);
      // Whatever is not plain is left to the steps, so that time comes out exact.
      if (!isFree(a, mm) || (limit !== null && isWrapped(before))) return 0;
      // Nobody can come between: the sections are one addition.
      const grain = readsPerUnit === 0 ? chunkPages : this.#unitPages;
      const wanted = (units * this.#unitPages) / grain;
      const times = limit === null ? wanted : Math.min(wanted, fitting(before, grain, limit));
      addLockedVm(a, mm, times * grain);
      chunks = (times * grain) / chunkPages;
      reads = times * readsPerUnit;
    }
    for (let round = 0; round < rounds && !k.exclusive; round += 1) {
      if (readsPerUnit > 0) {
        if (limit !== null && exceeds(lockedVm(a, mm), this.#unitPages, limit)) break;
        const got = readRepeatedly(k, mm, readsPerUnit);
        reads += got;
        if (got < readsPerUnit) break;
      }
      const done = v.lockFree
        ? chargeRepeatedly(a, mm, chunkPages, chunksPerRound, limit)
        : accountRepeatedly(k, mm, chunkPages, chunksPerRound, limit);
      chunks += done;
      if (done === chunksPerRound) continue;
      if (v.lockFree) break;
      if (limit === null || !exceeds(lockedVm(a, mm), chunkPages, limit)) this.busyPages = chunkPages;
      break;
    }
    const attempts = chunks + (this.busyPages > 0 ? 1 : 0);
    if (attempts === 0) return 0;
    count(k, unit, chunks, reads, attempts);
    k.spend((unit.ns * attempts) / chunksPerUnit);
    const pages = chunks * chunkPages;
    if (this.busyPages > 0) k.count(C.trylock_failures, v.deferring ? 1 : 0);
    pinned(k, call, pages, chunkPages);
    return pages;
  }
}

/** The counts of so many chunks, reads and attempts to lock. */
function count(k: Ctx, unit: Unit, chunks: number, reads: number, attempts: number): void {
  const v = k.variant;
  k.count(C.chunks, chunks);
  if (!v.lockFree) {
    k.count(C.mmap_write_acquisitions, chunks);
    k.heldAgain(LockKind.MmapWrite, chunks, unit.writeHoldNs);
  }
  if (v.deferring) k.count(C.trylock_attempts, attempts);
  if (reads > 0) {
    k.count(C.mmap_read_acquisitions, reads);
    k.heldAgain(LockKind.MmapRead, reads, unit.readHoldNs);
  }
}

function pinned(k: Ctx, call: PinCall, pages: number, chunkPages: number): void {
  k.count(C.pages_pinned, pages);
  if (pages > 0) advance(k, call, pages, chunkPages);
}

/** What recordChunk and the loop do for each chunk, for many alike ones. */
function advance(k: Ctx, call: PinCall, pages: number, chunkPages: number): void {
  const a = k.arena;
  const { dma } = call;
  a.add(dma, DMA.sizePages, pages);
  recordPinned(a, dma, call.mm, pages);
  if (k.variant.recordsMm) a.add(dma, DMA.lockedVm, pages);
  const index = orders(a).chunk;
  const last = index.atOrBefore(dma + DMA.chunks, call.iovaPage);
  if (last !== 0 && a.get(last, CHUNK.counted) === 1 && a.get(last, CHUNK.runPages) === chunkPages) {
    a.add(last, CHUNK.pages, pages);
  } else {
    const chunk = a.alloc('chunk');
    a.set(chunk, CHUNK.startPage, call.iovaPage);
    a.set(chunk, CHUNK.pages, pages);
    a.set(chunk, CHUNK.runPages, chunkPages);
    a.set(chunk, CHUNK.counted, 1);
    index.insert(dma + DMA.chunks, chunk);
  }
  call.remaining -= pages;
  call.iovaPage += pages;
  call.vaddrPage += pages;
}

/** How many times `pages` fit under the limit on top of `lockedVmPages`. */
function fitting(lockedVmPages: bigint, pages: number, limitPages: bigint): number {
  return limitPages > lockedVmPages ? Number((limitPages - lockedVmPages) / BigInt(pages)) : 0;
}
