/** Emulated hosts on threads: as many at a time as the machine has cores, results in the order of the tasks. */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import type { HostResult, HostTask } from './virtual-run.ts';
import { simulateHost } from './virtual-run.ts';

export interface PoolOptions {
  /** Threads; 1 = in this one. Default: one per core. */
  readonly threads?: number | undefined;
  /** Called after each task that is done. */
  readonly onDone?: (done: number) => void;
  readonly signal?: AbortSignal;
}

/** Runs the tasks; result i is that of task i, whatever the number of threads. Rejects with an AbortError on `signal`. */
export async function simulateAll(tasks: readonly HostTask[], options: PoolOptions = {}): Promise<HostResult[]> {
  const threads = Math.min(options.threads ?? availableParallelism(), tasks.length);
  let done = 0;
  const finished = (result: HostResult): HostResult => {
    done += 1;
    options.onDone?.(done);
    return result;
  };
  if (threads <= 1) {
    const results: HostResult[] = [];
    for (const task of tasks) {
      // Between two hosts signals and timers get their turn.
      await new Promise((resolve) => setImmediate(resolve));
      options.signal?.throwIfAborted();
      results.push(finished(simulateHost(task)));
    }
    return results;
  }
  const pool = new Piscina({
    filename: new URL('./virtual-thread.js', import.meta.url).href,
    name: 'run',
    minThreads: threads,
    maxThreads: threads,
    concurrentTasksPerWorker: 1,
    maxQueue: tasks.length,
    atomics: 'disabled',
  });
  try {
    return await Promise.all(
      tasks.map(async (task) =>
        finished((await pool.run(task, options.signal === undefined ? {} : { signal: options.signal })) as HostResult),
      ),
    );
  } finally {
    await pool.destroy();
  }
}
