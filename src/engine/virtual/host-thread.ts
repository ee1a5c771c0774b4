import type { Ref } from '../../model/arena.ts';
import type { Path } from '../../model/env.ts';
import { Ask, type SpinThread, ThreadState } from '../spinners.ts';
import type { EventKey } from './event-queue.ts';

export const NO_EVENT = -1;

/** The threads of one guest, as the host sees them: nobody else touches its address spaces. */
export interface ThreadGroup {
  readonly threads: HostThread[];
  /** Deferred updates that no worker has taken up. */
  readonly queuedWork: number;
  /** How many of the threads repeat chunks. */
  readonly looping: number;
  /** Writes back what lags behind while threads repeat chunks. */
  settle(): void;
}

/** One thread of execution as the host schedules it. */
export class HostThread implements SpinThread {
  /** Its own time, ns since the start of the run. */
  localNs = 0;
  /** The next event of anybody else: at this instant it must yield. */
  horizonNs = 0;
  state: ThreadState = ThreadState.Blocked;
  ask: Ask = Ask.Time;
  sleepUntilNs = 0;
  path: Path<void> | null = null;
  slot = -1;
  /** CPU it occupies, -1 none. With unlimited CPUs its number means nothing. */
  cpu = -1;
  /** The event that may resume it; others in the queue are stale. */
  event: EventKey = NO_EVENT;
  /** When that event is due; Infinity without one. */
  dueNs = Infinity;
  /** Threads that may touch the same address spaces; null for one that touches none. */
  group: ThreadGroup | null = null;
  /** What is left of the step it was interrupted in, ns. */
  remainingNs = 0;
  /** The address space it holds mmap_sem of for write, 0 none: others may spin on it. */
  ownedMm: Ref = 0;
  /** It has been told to stop spinning: somebody else needs the CPU. */
  needResched = false;
  /** It was at the head of the spinners and goes back there. */
  spinFirst = false;
  /** When its last slice ends, ns. */
  sliceEndNs = 0;
  /** The host repeats chunks of its pin loop: its path is not resumed. */
  repeating = false;

  /** It has been woken and has a CPU again. */
  resumed(): void {}

  /** It has lost its CPU in the middle of its work. */
  preempted(): void {}

  /**
   * It repeats chunks of a pin loop without its path and has come to the lock of one. The chunks that nobody can
   * disturb are done; `localNs` is when it comes to the lock again. False: its path goes on, from `localNs` on.
   */
  chunkDue(): boolean {
    return false;
  }

  /** It repeats chunks and is to lose its CPU at `nowNs`: its path takes over, as far as it is by then. */
  leaveChunks(_nowNs: number): void {}
}
