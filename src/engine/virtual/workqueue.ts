/** The bound workqueue of an emulated host. */
import type { Path } from '../../model/env.ts';
import type { HostOptions } from '../host-options.ts';
import type { HostThread } from './host-thread.ts';
import type { Timeline } from './timeline.ts';

/** Linux: half of WQ_MAX_ACTIVE (512) for a bound workqueue with the default limit. */
export const WORK_MAX_ACTIVE = 256;

/** A queued work item: makes the worker that runs it. */
export type WorkItem = () => { readonly thread: HostThread; readonly path: Path<void> };

/** A pool of the bound workqueue: one worker runs at a time; when it blocks the next one starts. */
interface Pool {
  readonly items: WorkItem[];
  next: number;
  /** The worker that runs or is about to, null when all of them are blocked. */
  running: HostThread | null;
  active: number;
}

export class Workqueue {
  readonly #timeline: Timeline;
  readonly #options: HostOptions;
  readonly #add: (thread: HostThread, path: Path<void>, startNs: number) => void;
  readonly #pools = new Map<number, Pool>();
  readonly #poolOf = new Map<HostThread, Pool>();

  /** @param add starts a worker. */
  constructor(
    timeline: Timeline,
    options: HostOptions,
    add: (thread: HostThread, path: Path<void>, startNs: number) => void,
  ) {
    this.#timeline = timeline;
    this.#options = options;
    this.#add = add;
  }

  /** schedule_work from CPU (or, with unlimited CPUs, from thread) `pool` at `ns`. */
  queue(from: HostThread, item: WorkItem, ns: number): void {
    const id = this.#options.cpus === null ? from.slot : from.cpu;
    let pool = this.#pools.get(id);
    if (pool === undefined) this.#pools.set(id, (pool = { items: [], next: 0, running: null, active: 0 }));
    pool.items.push(item);
    if (pool.running === null) this.#start(pool, ns + this.#options.wakeUpNs);
  }

  /** The pool sees its running worker sleep and starts another, if there is work. */
  blocked(thread: HostThread): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined || pool.running !== thread) return;
    pool.running = null;
    this.#start(pool, this.#timeline.nowNs + this.#options.wakeUpNs);
  }

  /** The thread has ended, and if it was a worker, its work item has. */
  done(thread: HostThread): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined) return;
    this.#poolOf.delete(thread);
    pool.active -= 1;
    if (pool.running === thread) pool.running = null;
    // The worker that is done takes the next item without a wake-up.
    if (pool.running === null) this.#start(pool, this.#timeline.nowNs);
  }

  #start(pool: Pool, ns: number): void {
    if (pool.next === pool.items.length || pool.active >= this.#options.workMaxActive) return;
    const { thread, path } = (pool.items[pool.next] as WorkItem)();
    pool.next += 1;
    if (pool.next === pool.items.length) {
      pool.items.length = 0;
      pool.next = 0;
    }
    pool.running = thread;
    pool.active += 1;
    this.#poolOf.set(thread, pool);
    this.#add(thread, path, ns);
  }
}
