/**
 * The fast form of the pin loop. A populated buffer is the same thing over and over: a *unit* of pages (one chunk, or for
 * batched kernels one batch) whose steps cost the same each time nobody is in the way. The loop does one unit step by step
 * and notes what it cost; the following units are done here, with the same lock words, counters and limit tests, but without
 * a generator and with one addition of time each. At the first sign of anybody else (a lock not free, the limit near, a page
 * of another kind, no time left before the driver's horizon) the step-by-step loop takes over again.
 *
 * test/model/repeat.test.ts proves both forms equal.
 */
import type { Ref } from '../arena.ts';
import { C, LockKind, type Ctx } from '../env.ts';
import { CHUNK, DMA } from '../layout.ts';
import { chargeRepeatedly, exceeds, lockedVm } from '../mm.ts';
import { orders } from '../orders.ts';
import { accountRepeatedly, readRepeatedly } from '../rwsem.ts';
import { BATCH_PAGES, type Batch, type PinCall } from './pin.ts';

/** Units done in one go at most, so that stop requests are seen. */
const UNITS_MAX = 4096;

export class Repeater {
  /** Page the current step-by-step unit began at; -1 none. */
  #unitStart = -1;
  #unitEnd = -1;
  #usedAtStart = 0;
  #disturbedAtStart = 0;
  #unitPages = 0;
  #chunkPages = 0;
  /** Cost of one undisturbed unit, ns; -1 unknown. */
  #unitNs = -1;
  /** Pages of a chunk that was pinned here but whose accounting met a busy lock: the caller accounts it. */
  busyPages = 0;

  /**
   * Called before each chunk. Returns the pages done; `call` and the mapping are up to date. With `busyPages` set that
   * many further pages are pinned and must be accounted and mapped.
   */
  run(k: Ctx, call: PinCall): number {
    this.busyPages = 0;
    const page = call.vaddrPage;
    if (page < this.#unitEnd && page > this.#unitStart) return 0;
    if (page === this.#unitEnd && k.disturbances === this.#disturbedAtStart) {
      this.#unitNs = k.usedNs() - this.#usedAtStart;
    }
    this.#unitStart = -1;
    this.#unitEnd = -1;
    // What a reserve of pages holds back is not the same from chunk to chunk.
    if (k.variant.reservePages > 0) return 0;
    if (call.mm === 0 || k.aheadNs() <= 0 || k.arena.i32[call.dma + DMA.vpfnCount] !== 0) return 0;
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
    if (unitPages !== this.#unitPages || chunkPages !== this.#chunkPages) {
      this.#unitNs = -1;
      this.#unitPages = unitPages;
      this.#chunkPages = chunkPages;
    }
    // The last unit is done step by step: only there is no page after the chunk to look at.
    const done = this.#unitNs < 0 ? 0 : this.#repeat(k, call, Math.floor((alike - 1) / unitPages));
    if (batch !== null && (done > 0 || this.busyPages > 0)) this.#restoreBatch(k, call, batch, page, done);
    if (done > 0 || this.busyPages > 0) return done;
    this.#unitStart = page;
    this.#unitEnd = page + unitPages;
    this.#usedAtStart = k.usedNs();
    this.#disturbedAtStart = k.disturbances;
    return 0;
  }

  /** Leaves the batch as the step-by-step loop would have it after `done` pages and a busy chunk. */
  #restoreBatch(k: Ctx, call: PinCall, batch: Batch, page: number, done: number): void {
    const unitPage = page + Math.floor(done / this.#unitPages) * this.#unitPages;
    const used = page + done + this.busyPages - unitPage;
    if (used >= BATCH_PAGES) {
      batch.runs.length = 0;
      batch.next = 0;
    } else {
      const max = Math.min(call.remaining + (page + done - unitPage), BATCH_PAGES);
      k.addressSpace.gupBatch(call.mm, unitPage, max, call.write, batch.runs, call.fault.reset());
      batch.next = used / this.#chunkPages;
    }
    batch.used = 0;
  }

  #repeat(k: Ctx, call: PinCall, unitsMax: number): number {
    const { mm } = call;
    const a = k.arena;
    const chunkPages = this.#chunkPages;
    const chunksPerUnit = this.#unitPages / chunkPages;
    const v = k.variant;
    // A per-page kernel also gets the page after the chunk, to see that it does not follow.
    const readsPerUnit = v.batched ? this.#unitPages / BATCH_PAGES : v.lockedGup ? this.#unitPages + 1 : 0;
    const byTime = this.#unitNs === 0 ? UNITS_MAX : Math.floor(k.aheadNs() / this.#unitNs);
    const units = Math.min(unitsMax, byTime, UNITS_MAX);
    let chunks = 0;
    let reads = 0;
    // Without read sections in between all chunks are one run of write sections.
    const rounds = readsPerUnit === 0 ? 1 : units;
    const chunksPerRound = readsPerUnit === 0 ? units * chunksPerUnit : chunksPerUnit;
    const limit = call.lockCap ? null : call.limitPages;
    for (let round = 0; round < rounds; round += 1) {
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
    k.count(C.chunks, chunks);
    if (!v.lockFree) {
      k.count(C.mmap_write_acquisitions, chunks);
      k.heldAgain(LockKind.MmapWrite, chunks);
    }
    if (v.deferring) {
      k.count(C.trylock_attempts, attempts);
      if (this.busyPages > 0) k.count(C.trylock_failures, 1);
    }
    if (reads > 0) {
      k.count(C.mmap_read_acquisitions, reads);
      k.heldAgain(LockKind.MmapRead, reads);
    }
    k.spend((this.#unitNs * attempts) / chunksPerUnit);
    const pages = chunks * chunkPages;
    k.count(C.pages_pinned, pages);
    if (pages > 0) advance(k, call, pages, chunkPages);
    return pages;
  }
}

/** What recordChunk and the loop do for each chunk, for many alike ones. */
function advance(k: Ctx, call: PinCall, pages: number, chunkPages: number): void {
  const a = k.arena;
  const { dma } = call;
  plus(a.f64, dma + DMA.sizePages, pages);
  plus(a.f64, dma + DMA.ledgerPinned, pages);
  if (k.variant.recordsMm) plus(a.f64, dma + DMA.lockedVm, pages);
  const index = orders(a).chunk;
  const last = index.atOrBefore(dma + DMA.chunks, call.iovaPage);
  if (last !== 0 && a.i32[last + CHUNK.counted] === 1 && a.i32[last + CHUNK.runPages] === chunkPages) {
    plus(a.f64, last + CHUNK.pages, pages);
  } else {
    const chunk = a.alloc('chunk');
    a.f64[(chunk + CHUNK.startPage) >> 1] = call.iovaPage;
    a.f64[(chunk + CHUNK.pages) >> 1] = pages;
    a.i32[chunk + CHUNK.runPages] = chunkPages;
    a.i32[chunk + CHUNK.counted] = 1;
    index.insert(dma + DMA.chunks, chunk);
  }
  call.remaining -= pages;
  call.iovaPage += pages;
  call.vaddrPage += pages;
}

function plus(f64: Float64Array, field: Ref, by: number): void {
  f64[field >> 1] = (f64[field >> 1] as number) + by;
}
