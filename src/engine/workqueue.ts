/** The bound workqueue of an emulated host. */
import type { Path } from '../model/env.ts';
import type { HostOptions } from './host-options.ts';

/** Linux: half of WQ_MAX_ACTIVE (512) for a bound workqueue with the default limit. */
export const WORK_MAX_ACTIVE = 256;

/** A queued work item: makes the worker that runs it. */
export type WorkItem<T> = () => { readonly thread: T; readonly path: Path<void> };

/** A pool of the bound workqueue: one worker runs at a time; when it blocks the next one starts. */
interface Pool<T> {
  readonly id: number;
  readonly items: WorkItem<T>[];
  next: number;
  /** The worker that runs or is about to, null when all of them are blocked. */
  running: T | null;
  active: number;
}

export class Workqueue<T> {
  readonly #clock: { readonly nowNs: number };
  readonly #options: Pick<HostOptions, 'wakeUpNs' | 'workMaxActive'>;
  readonly #add: (thread: T, path: Path<void>, startNs: number) => void;
  readonly #pools = new Map<number, Pool<T>>();
  readonly #poolOf = new Map<T, Pool<T>>();

  /**
   * @param clock up to when things have happened.
   * @param add starts a worker.
   */
  constructor(
    clock: { readonly nowNs: number },
    options: Pick<HostOptions, 'wakeUpNs' | 'workMaxActive'>,
    add: (thread: T, path: Path<void>, startNs: number) => void,
  ) {
    this.#clock = clock;
    this.#options = options;
    this.#add = add;
  }

  /** schedule_work into the pool `id` at `ns`. */
  queue(id: number, item: WorkItem<T>, ns: number): void {
    let pool = this.#pools.get(id);
    if (pool === undefined) this.#pools.set(id, (pool = { id, items: [], next: 0, running: null, active: 0 }));
    pool.items.push(item);
    if (pool.running === null) this.#start(pool, ns + this.#options.wakeUpNs);
  }

  /** The pool sees its running worker sleep and starts another, if there is work. */
  blocked(thread: T): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined || pool.running !== thread) return;
    pool.running = null;
    this.#start(pool, this.#clock.nowNs + this.#options.wakeUpNs);
  }

  /** The thread has ended, and if it was a worker, its work item has. */
  done(thread: T): void {
    const pool = this.#poolOf.get(thread);
    if (pool === undefined) return;
    this.#poolOf.delete(thread);
    pool.active -= 1;
    if (pool.running === thread) pool.running = null;
    // The worker that is done takes the next item without a wake-up.
    if (pool.running === null) this.#start(pool, this.#clock.nowNs);
    if (pool.active === 0) this.#pools.delete(pool.id);
  }

  #start(pool: Pool<T>, ns: number): void {
    if (pool.next === pool.items.length || pool.active >= this.#options.workMaxActive) return;
    const { thread, path } = (pool.items[pool.next] as WorkItem<T>)();
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
