/**
 * The progress line of simulations: how much of the simulated time is done and how long the rest
 * may take.
 */
import { stderr } from '../console/output.ts';
import type { PoolProgress } from '../emulator/host-pool.ts';
import { duration, percent } from '../report/format.ts';

const BAR = 24;

/** With less than this done nobody can tell how long the rest takes. */
const SHARE_MIN = 0.01;

export interface SimulationProgress {
  readonly update: (progress: PoolProgress) => void;
  readonly end: () => void;
}

/** @param plannedNs how long each task is to run in simulated time; null where nobody knows. */
export function simulationProgress(quiet: boolean, plannedNs: readonly (number | null)[]): SimulationProgress {
  const startMs = performance.now();
  return {
    update(progress) {
      if (!quiet) stderr.draw(progressText(progress, plannedNs, performance.now() - startMs));
    },
    end() {
      if (!quiet) stderr.wipe();
    },
  };
}

/** `[=======                 ] 31%, 12 of 40 hosts done, 12s left`: at most 79 columns. */
export function progressText(
  { done, simulatedNs }: PoolProgress,
  plannedNs: readonly (number | null)[],
  elapsedMs: number,
): string {
  const of = plannedNs.length;
  const hosts = of === 1 ? '' : `, ${done} of ${of} hosts done`;
  if (plannedNs.some((planned) => planned === null) && of === 1) {
    return `${duration(simulatedNs[0] ?? 0)} simulated in ${duration(elapsedMs * 1e6)}`;
  }
  // Tasks that are done need not have used the time they had; those under way count by what they have simulated.
  const under = plannedNs.reduce<number>(
    (sum, planned, i) => sum + Math.min(1, (simulatedNs[i] ?? 0) / (planned ?? Infinity)),
    0,
  );
  const share = Math.min(1, Math.max(done, under) / of);
  const bar = '='.repeat(Math.round(share * BAR)).padEnd(BAR);
  const left = share < SHARE_MIN ? '' : `, ${duration((elapsedMs / share) * (1 - share) * 1e6)} left`;
  return `[${bar}] ${percent(Math.floor(share * 100) / 100)}${hosts}${left}`;
}
