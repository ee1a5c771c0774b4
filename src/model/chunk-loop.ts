import type { Ref } from './arena.ts';

/** An undisturbed unit: its cost, and how long it held mmap_sem for write and read, ns. */
export interface Unit {
  readonly ns: number;
  readonly writeHoldNs: number;
  readonly readHoldNs: number;
}

/** When the steps that matter in a chunk are, ns. */
export interface ChunkTimes {
  /** The last test of the limit without the lock is made. */
  readonly testNs: number;
  /** The step that takes mmap_sem for write begins. */
  readonly lockNs: number;
  /** mmap_sem has been released. */
  readonly releaseNs: number;
}

/** A unit that is one chunk with one write section: what a driver must know to repeat it. Times from its start, ns. */
export interface ChunkUnit extends Unit, ChunkTimes {
  /** Its accounting begins. */
  readonly accountNs: number;
}

/** Alike chunks that the driver may repeat, each one write section of mmap_sem that adds `pages` to locked_vm. */
export interface ChunkLoop {
  readonly mm: Ref;
  readonly pages: number;
  readonly unit: ChunkUnit;
  /** Where a chunk is refused, pages; Infinity without a limit. */
  readonly limitPages: number;
  /** Chunks still to do. */
  left: number;
  /** Chunks done and not yet written down, apart from locked_vm. */
  done: number;
  /**
   * How it ended: all done; at the lock of a chunk that is pinned, to be accounted by the path; or at the start of a
   * chunk that the path must do itself.
   */
  end: 'whole' | 'locked' | 'rewound';
  /** Writes down what is done: counters, ledger and mapping. */
  settle(): void;
}
