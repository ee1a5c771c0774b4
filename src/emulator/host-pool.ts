/** Emulated hosts on threads: as many at a time as the machine has cores, results in the order of the tasks. */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { StopSignal } from '../base/stop-signal.ts';
import type { HostResult, HostTask } from './host-result.ts';

export interface PoolProgress {
  /** Tasks that are done. */
  readonly done: number;
  /** How far each task is, ns of simulated time. */
  readonly simulatedNs: Float64Array;
}

export interface PoolOptions {
  /** Threads; default: one per core. */
  readonly threads?: number | undefined;
  /** Called a few times a second, and after each task that is done. */
  readonly onProgress?: ((progress: PoolProgress) => void) | undefined;
  readonly stop?: StopSignal | undefined;
}

const PROGRESS_MS = 200;

export interface HostPool {
  run(task: HostTask): Promise<HostResult>;
  close(): Promise<void>;
}

/** Up to so many threads that simulate hosts, each started when needed; the calling one stays free to hear signals. */
export function openHostPool(threads: number): HostPool {
  const pool = new Piscina({
    filename: new URL('./host-thread.js', import.meta.url).href,
    name: 'run',
    minThreads: 0,
    maxThreads: threads,
    idleTimeout: Infinity,
    concurrentTasksPerWorker: 1,
    atomics: 'disabled',
  });
  return {
    run: async (task) => (await pool.run(task)) as HostResult,
    close: () => pool.destroy(),
  };
}

/**
 * The pools that simulations share, by number of threads: a thread costs more to start than many a simulation, and some
 * commands simulate again and again. Idle threads keep no process alive.
 */
const shared = new Map<number, HostPool>();

/** The pool of so many threads that this process keeps. */
function sharedHostPool(threads: number): HostPool {
  let pool = shared.get(threads);
  if (pool === undefined) shared.set(threads, (pool = openHostPool(threads)));
  return pool;
}

/** Runs the tasks; result i is that of task i, whatever the number of threads. */
export async function simulateAll(tasks: readonly HostTask[], options: PoolOptions = {}): Promise<HostResult[]> {
  if (tasks.length === 0) return [];
  const { onProgress, stop = new StopSignal() } = options;
  const threads = options.threads ?? availableParallelism();
  const simulatedNs = new Float64Array(new SharedArrayBuffer(tasks.length * 8));
  let done = 0;
  const tell = (): void => onProgress?.({ done, simulatedNs });
  const pool = sharedHostPool(threads);
  const timer = setInterval(tell, PROGRESS_MS);
  try {
    const results: HostResult[] = [];
    const waiting = tasks.entries();
    // A lane per thread takes the tasks in order, which the pool's own queue does not promise.
    const lane = async (): Promise<void> => {
      for (const [index, task] of waiting) {
        const control = { stop: stop.word, simulatedNs: simulatedNs.subarray(index, index + 1) };
        results[index] = await pool.run({ ...task, control });
        done += 1;
        tell();
      }
    };
    await Promise.all(Array.from({ length: Math.min(threads, tasks.length) }, lane));
    return results;
  } catch (error) {
    // The other lanes are still at work, for nothing.
    shared.delete(threads);
    await pool.close();
    throw error;
  } finally {
    clearInterval(timer);
  }
}
