/** How many guests of a plan this machine can emulate in real time: a few of them are run for a moment, and watched. */
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { monotonicMs } from '../coordinator/redis.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import type { DeferredUpdate } from './emulator-api.ts';
import { WallEmulator } from './emulator.ts';

const SAMPLE = 4;
const WATCH_MS = 600;
/** Share of its threads' time that a worker may be busy and still be on time. */
const BUSY_SHARE = 0.6;
const CAPACITY_MAX = 10_000;

/**
 * Guests at a time, at least 1. All samples start at once, so what guests do at their start is in the measure.
 * At pace 0 there is no real time to keep: the largest number.
 */
export async function measureCapacity(plan: RunPlan, threads: number): Promise<number> {
  if (plan.pace === 0) return CAPACITY_MAX;
  const step = Math.max(1, Math.floor(plan.guests.length / SAMPLE));
  const guests = plan.guests
    .filter((_, i) => i % step === 0)
    .slice(0, SAMPLE)
    .map((guest) => ({ ...guest, startNs: 0, durationNs: WATCH_MS * 1e6 * plan.pace }));
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
    await pause(WATCH_MS);
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
