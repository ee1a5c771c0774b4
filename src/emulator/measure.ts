/** How many guests of a plan this machine can emulate in real time: a few of them are run for a moment, and watched. */
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import { monotonicMs } from '../engine/wall/clock.ts';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';
import { WallEmulator } from './wall-emulator.ts';

const SAMPLE = 8;

/** How long they are watched, ms, at least and at most. */
const WATCH_MS = [600, 3000] as const;

/** Share of its threads' time that a worker may be busy and still be on time. */
const BUSY_SHARE = 0.6;
const CAPACITY_MAX = 10_000;

/**
 * Guests at a time, at least 1. All samples start at once and are watched as long as the plan takes to start its
 * guests: so what guests do at their start weighs as much as it will in the run. At pace 0 there is no real time to
 * keep: the largest number.
 */
export async function measureCapacity(plan: RunPlan, threads: number): Promise<number> {
  if (plan.pace === 0) return CAPACITY_MAX;
  const spreadMs = spread(plan.guests.map(({ startNs }) => startNs)) / plan.pace / 1e6;
  const watchMs = Math.min(WATCH_MS[1], Math.max(WATCH_MS[0], spreadMs));
  const total = plan.guests.length;
  const sample = Math.min(SAMPLE, total);
  // From the middle of each of so many equal parts: classes lie one after the other.
  const guests = Array.from(
    { length: sample },
    (_, k) => plan.guests[Math.floor(((k + 0.5) * total) / sample)] as GuestPlan,
  ).map((guest) => ({ ...guest, startNs: 0, durationNs: watchMs * 1e6 * plan.pace }));
  const emulator = await WallEmulator.create({ plan: { ...plan, guests }, threads });
  try {
    const updates: DeferredUpdate[] = [];
    emulator.onDeferred(() => {
      while (emulator.drainDeferred(1000, updates) > 0) {
        for (const update of updates.splice(0)) void emulator.applyDeferred(update);
      }
    });
    const idleMs = (): number => emulator.snapshot().counter('thread_idle_ns') / 1e6;
    const before = idleMs();
    const startMs = monotonicMs();
    for (const guest of guests) void emulator.startGuest(guest, 1, startMs);
    await pause(watchMs);
    const watchedMs = monotonicMs() - startMs;
    // Threads beyond the cores do not make it faster, and are not idle for lack of work either.
    const busyMs = Math.max(0, threads * watchedMs - (idleMs() - before));
    emulator.stopGuests();
    const availableMs = Math.min(threads, availableParallelism()) * watchedMs * BUSY_SHARE;
    const perGuestMs = Math.max(busyMs / guests.length, watchedMs / 1e6);
    return Math.max(1, Math.min(CAPACITY_MAX, Math.floor(availableMs / perGuestMs)));
  } finally {
    await emulator.close();
  }
}

function spread(values: readonly number[]): number {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) [least, most] = [Math.min(least, value), Math.max(most, value)];
  return most - least;
}
