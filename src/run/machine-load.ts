/**
 * How busy this machine is besides a run: processor time of everything, from /proc/stat (proc(5)), less what the run
 * itself used. Answers null where there is no /proc.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** USER_HZ of Linux on every architecture that Node.js runs on, ticks per second. */
const TICKS_PER_SECOND = 100;

interface Sample {
  readonly atMs: number;
  readonly busySeconds: number;
}

export class MachineLoad {
  readonly #start = sample();

  /**
   * The share of this machine's processor time since the start that went to other processes, 0 .. 1.
   * @param ownSeconds processor time that the run used since then.
   */
  others(ownSeconds: number): number | null {
    const now = sample();
    if (now === null || this.#start === null || now.atMs <= this.#start.atMs) return null;
    const elapsed = ((now.atMs - this.#start.atMs) / 1000) * availableParallelism();
    const busy = now.busySeconds - this.#start.busySeconds;
    return Math.min(1, Math.max(0, (busy - ownSeconds) / elapsed));
  }
}

function sample(): Sample | null {
  let line: string | undefined;
  try {
    [line] = readFileSync('/proc/stat', 'utf8').split('\n', 1);
  } catch {
    return null;
  }
  const ticks = busyTicks(line ?? '');
  return ticks === null ? null : { atMs: performance.now(), busySeconds: ticks / TICKS_PER_SECOND };
}

/** Ticks that were neither idle nor waited for I/O, of the first line of /proc/stat; null for another line. */
export function busyTicks(line: string): number | null {
  const [name, ...fields] = line.trim().split(/\s+/);
  const ticks = fields.map(Number);
  if (name !== 'cpu' || ticks.length < 4 || ticks.some((n) => !Number.isFinite(n))) return null;
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = ticks;
  return user + nice + system + irq + softirq + steal;
}
