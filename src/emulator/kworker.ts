/**
 * The node's kworkers: deferred updates applied on the main thread. Each is an actor of the model that runs
 * vfio_lock_acct_bg; where the lock is free that is one synchronous call, otherwise it waits in the lock's queue like
 * any other actor and goes on when its mailbox rings.
 */
import { newActor } from '../engine/guest.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';
import { DEFERRED_LOCK_WAIT, DEFERRED_SETTLE } from '../metrics/ops.ts';
import type { Ref } from '../model/arena.ts';
import type { Path } from '../model/env.ts';
import { vfioLockAcctBg } from '../model/paths/work.ts';

interface Running {
  readonly worker: WallActor;
  readonly path: Path<void>;
  readonly update: DeferredUpdate;
  readonly startNs: number;
  readonly done: () => void;
}

const nowNs = (): number => Number(process.hrtime.bigint());

export class KWorkers {
  readonly #idle: WallActor[] = [];
  readonly #running = new Map<Ref, Running>();
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  constructor(
    private readonly shared: WallShared,
    workers: number,
  ) {
    for (let i = 0; i < workers; i += 1) {
      const actor = newActor(shared.arena, 0, shared.thread);
      const worker = new WallActor(shared, actor, 0, -1, 0, 0, null);
      worker.horizonNs = Infinity;
      this.#idle.push(worker);
    }
    void this.#listen();
  }

  /** Applies an update. Undefined when it was done at once, otherwise a promise. */
  apply(update: DeferredUpdate): void | Promise<void> {
    const worker = this.#idle.pop();
    if (worker === undefined) {
      return new Promise<void>((resolve) => this.#waiting.push(resolve)).then(() => this.apply(update));
    }
    const startNs = nowNs();
    const path = vfioLockAcctBg(worker, update.mm, update.npage);
    if (path.next().done === true) {
      this.#settled(worker, update, startNs);
      return;
    }
    return new Promise<void>((done) => {
      this.#running.set(worker.actor, { worker, path, update, startNs, done });
    });
  }

  close(): void {
    this.#closed = true;
    this.shared.control.ring(this.shared.thread);
  }

  #settled(worker: WallActor, update: DeferredUpdate, startNs: number): void {
    const now = nowNs();
    this.shared.stats.record(DEFERRED_SETTLE, now - update.queuedAtNs, 1);
    this.shared.stats.record(DEFERRED_LOCK_WAIT, now - startNs, 1);
    this.#idle.push(worker);
    this.#waiting.shift()?.();
  }

  async #listen(): Promise<void> {
    const { control, arena, thread } = this.shared;
    while (!this.#closed) {
      const bell = control.bell(thread);
      control.collect(arena, thread, (ref) => this.#resume(ref));
      await control.bellRung(thread, bell);
    }
  }

  #resume(ref: Ref): void {
    const running = this.#running.get(ref);
    if (running === undefined || !running.worker.blocked) return;
    running.worker.blocked = false;
    if (running.path.next().done !== true) return;
    this.#running.delete(ref);
    this.#settled(running.worker, running.update, running.startNs);
    running.done();
  }
}
