/** A driver thread: one long Piscina task that runs the wall driver's loop until the run is over. */
import { performance } from 'node:perf_hooks';
import { receiveMessageOnPort } from 'node:worker_threads';
import { actorFaults } from '../engine/actor-faults.ts';
import { machineCost, stepCosts } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import { WallControl } from '../engine/wall/wall-control.ts';
import { WallLoop } from '../engine/wall/wall-loop.ts';
import { DEFERRED_LOCK_WAIT } from '../metrics/ops.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Ref } from '../model/arena.ts';
import type { FaultSite, Path } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { type InvariantName, INVARIANTS, Oracle } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';
import { vfioLockAcctBg } from '../model/paths/work.ts';
import { actorPath, faultRates, nothing } from './actor-path.ts';
import type { FromThread, ThreadTask, ToThread } from './thread-messages.ts';
import { warmUp } from './warm-up.ts';

/** An idle thread looks at its port at least this often. */
const IDLE_MS = 100;

/** Violations of one invariant that a thread tells in full. */
const VIOLATIONS_TOLD = 16;

/** The task Piscina runs. Returns when the control block says stop and no actor is left. */
export function run(task: ThreadTask): void {
  const thread = new DriverThread(task);
  thread.run();
  task.port.close();
}

class DriverThread {
  readonly #task: ThreadTask;
  readonly #oracle: Oracle;
  /** Violations that have been told, by invariant. */
  readonly #counted: Record<InvariantName, number>;
  readonly #shared: WallShared;
  readonly #loop: WallLoop;
  readonly #rates: ReadonlyMap<FaultSite, number>;
  /** Kworkers at work. */
  readonly #working = new Set<Ref>();
  /** Actors that exit, those whose workload has ended, and the first error of each workload. */
  readonly #exiting = new Set<Ref>();
  readonly #parked = new Map<Ref, WallActor>();
  readonly #errors = new Map<Ref, string>();

  constructor(task: ThreadTask) {
    const { plan } = task;
    this.#task = task;
    const arena = Arena.attach(task.arena, task.capacity);
    const variant = resolveVariant(plan.variant);
    const oracle = new Oracle(arena);
    // A racing scenario violates an invariant thousands of times: the first of each kind are told, all are counted.
    oracle.onViolation = (violation) => {
      if (oracle.counts[violation.invariant] <= VIOLATIONS_TOLD) this.#send({ type: 'violation', violation });
    };
    this.#oracle = oracle;
    this.#counted = { ...oracle.counts };
    this.#shared = {
      arena,
      control: WallControl.attach(task.control.buffer, task.control.threads, task.control.ringCells),
      thread: task.thread,
      stats: new StatsBlock(statsLayout(plan), task.stats.buffer, task.stats.byteOffset),
      variant,
      oracle,
      addressSpace: new AddressSpace(arena, variant.gup),
      costNs: plan.pace === 0 ? stepCosts(zeroCosts(plan.profile.costNs)) : stepCosts(plan.profile.costNs),
      wakeUpNs: machineCost(plan.profile.costNs, 'wake_up'),
      spinNs: machineCost(plan.profile.costNs, 'spin_handover'),
      pace: plan.pace,
      clockMs: () => performance.now(),
      epochMs: performance.now(),
      onMark: (guest, incarnation, label, value) => this.#send({ type: 'mark', guest, incarnation, label, value }),
    };
    warmUp(this.#shared);
    this.#rates = faultRates(plan.faults);
    this.#loop = new WallLoop(this.#shared, (actor) => this.#ended(actor));
  }

  run(): void {
    const { port, thread } = this.#task;
    const { control } = this.#shared;
    this.#send({ type: 'ready' });
    for (;;) {
      if (control.takeMessageFlag(thread)) {
        for (let m = receiveMessageOnPort(port); m !== undefined; m = receiveMessageOnPort(port)) {
          this.#handle((m as { message: ToThread }).message);
        }
      }
      const rest = this.#loop.turn();
      if (control.stopLevel === 2 && this.#loop.actors === 0) return;
      if (rest > 0) this.#loop.wait(rest, IDLE_MS);
    }
  }

  #send(message: FromThread): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#task.port.postMessage(message);
  }

  #newlyCounted(): Partial<Record<InvariantName, number>> {
    const { counts } = this.#oracle;
    const out: Partial<Record<InvariantName, number>> = {};
    for (const name of INVARIANTS) {
      const more = counts[name] - this.#counted[name];
      if (more > 0) out[name] = more;
      this.#counted[name] = counts[name];
    }
    return out;
  }

  /** The path of an actor has ended: its workload, or its exit. */
  #ended(actor: WallActor): void {
    const { guest, actor: ref, tally } = actor;
    if (this.#working.delete(ref)) {
      this.#send({ type: 'worked', worker: ref });
      return;
    }
    if (this.#exiting.delete(ref)) {
      // A wake-up that came late must be out of the mailbox before the main thread frees the actor.
      this.#loop.collect();
      this.#send({ type: 'exited', guest, actor: ref, violations: this.#newlyCounted() });
      return;
    }
    this.#parked.set(ref, actor);
    const error = this.#errors.get(ref) ?? null;
    const violations = this.#newlyCounted();
    const { operations, failedOperations } = tally;
    this.#send({ type: 'parked', guest, actor: ref, operations, failedOperations, error, violations });
    this.#errors.delete(ref);
  }

  /** A workload's exception ends its actor, not the thread. */
  *#guarded(actor: WallActor, path: Path<void>): Path<void> {
    try {
      yield* path;
    } catch (error) {
      this.#errors.set(actor.actor, error instanceof Error ? error.message : String(error));
    }
  }

  #handle(message: ToThread): void {
    if (message.type === 'start') this.#start(message);
    else if (message.type === 'work') this.#work(message);
    else for (const ref of message.actors) this.#exit(ref);
  }

  #work({ guest, from, worker, mm, npage }: Extract<ToThread, { type: 'work' }>): void {
    this.#working.add(worker);
    this.#loop.queueWork(guest, from, () => {
      const thread = new WallActor(this.#shared, worker, 0, guest, 0, 0, null);
      return { thread, path: this.#apply(thread, mm, npage) };
    });
  }

  *#apply(kworker: WallActor, mm: Ref, npage: number): Path<void> {
    const startNs = kworker.localNs;
    yield* vfioLockAcctBg(kworker, mm, npage);
    this.#shared.stats.record(DEFERRED_LOCK_WAIT, kworker.localNs - startNs, 1);
  }

  #exit(ref: Ref): void {
    const actor = this.#parked.get(ref);
    if (actor === undefined) return;
    this.#parked.delete(ref);
    this.#exiting.add(ref);
    this.#loop.add(actor, this.#guarded(actor, doExit(actor)), actor.clockNs());
  }

  #start(message: Extract<ToThread, { type: 'start' }>): void {
    const { guest, incarnation, guestMm, runEndNs } = message;
    const shared = this.#shared;
    // Both clocks are monotonic: a jump of the machine's time of day moves nothing.
    shared.epochMs = performance.now() + message.runStartMs - Number(process.hrtime.bigint()) / 1e6;
    for (const { actor, task, index } of message.actors) {
      const faults = actorFaults(this.#rates, guest.seed, index);
      const driver = new WallActor(shared, actor, task, guest.index, incarnation, guestMm, faults);
      const work = actorPath(driver, guest, index, runEndNs, message);
      if (work === null) this.#loop.add(driver, nothing(), 0);
      else this.#loop.add(driver, this.#guarded(driver, work.path), work.startNs);
    }
  }
}

function zeroCosts(costNs: { readonly [primitive: string]: number }): Record<string, number> {
  return Object.fromEntries(Object.keys(costNs).map((name) => [name, 0]));
}
