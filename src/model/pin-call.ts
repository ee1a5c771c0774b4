import { type BatchRun, FaultCost, type PageRun } from './address-space/gup-runs.ts';
import type { Ref } from './arena.ts';

/** What one batched GUP call holds: runs of pinned pages, consumed from the front (vfio_batch, 5.12+). */
export interface Batch {
  readonly capacityPages: number;
  readonly runs: BatchRun[];
  /** The runs to be consumed next, and how many of their pages are gone. */
  next: number;
  used: number;
}

/** The state of one pin loop: a MAP_DMA ioctl or a replay over one mapping. */
export interface PinCall {
  readonly dma: Ref;
  /** The address space pages are pinned from and (until E2) charged to. */
  mm: Ref;
  /** Whether that is `current`'s own. */
  local: boolean;
  readonly write: boolean;
  vaddrPage: number;
  iovaPage: number;
  /** Pages not yet pinned. */
  remaining: number;
  /** RLIMIT_MEMLOCK in pages, and CAP_IPC_LOCK, as sampled by the variant: per ioctl or per chunk. */
  limitPages: bigint;
  lockCap: boolean;
  /** Result of the last chunk: its pages are reserved, so nothing was counted. */
  reserved: boolean;
  /** Result of the last chunk: pages accounted. */
  counted: number;
  /** When the accounting of the last chunk began, on the clock of `usedNs`. */
  accountNs: number;
  /** The fast form of the loop has tried the trylock for the next charge, and it has failed (A-D). */
  trylockFailed: boolean;
  /** Pages charged ahead and not yet used (J-cache). */
  reserve: number;
  batch: Batch | null;
  /** What the last look-up found, and what the last fault cost. */
  readonly run: PageRun;
  readonly fault: FaultCost;
}

/** The pages a batched kernel asks for at a time: one page of pointers. */
export const BATCH_PAGES = 512;

export function newPinCall(dma: Ref, prot: number): PinCall {
  return {
    dma,
    mm: 0,
    local: true,
    write: (prot & 2) !== 0,
    vaddrPage: 0,
    iovaPage: 0,
    remaining: 0,
    limitPages: 0n,
    lockCap: false,
    reserved: false,
    counted: 0,
    accountNs: 0,
    trylockFailed: false,
    reserve: 0,
    batch: null,
    run: { pages: 0, reserved: false, blockEnd: 0 },
    fault: new FaultCost(),
  };
}
