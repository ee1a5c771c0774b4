/**
 * An actor at work: the context its workload sees. The same for all drivers; the driver behind it owns the time.
 */
import { EBADF, errnoName } from '../base/errno.ts';
import type { Prng } from '../base/prng.ts';
import { Op, type OpName } from '../metrics/ops.ts';
import type { Ref } from '../model/arena.ts';
import type { Ctx, Path } from '../model/env.ts';
import { CONTAINER, FILES, PROCESS, TASK } from '../model/layout.ts';
import { lockedVm } from '../model/locked-vm.ts';
import { taskMm } from '../model/mm.ts';
import { S } from '../model/steps.ts';
import type { ActorPlan, GuestPlan } from './plan.ts';

/** What a driver adds to the model's context so that workloads can live in time. */
export interface Driver extends Ctx {
  /** The actor's own time: ns since the start of the run, in model time. */
  nowNs(): number;
  /** The same, or the real clock where that is ahead of it: when something really starts. */
  startNs(): number;
  /** The actor sleeps until `ns`; it yields right after. */
  sleepUntil(ns: number): void;
  /** Whether the actor should end at the next operation boundary. */
  stopping(): boolean;
  /** Asks all actors of this guest to end at their next operation boundary. */
  stopGuest(): void;
  /** An operation is over: `actualNs` from its start, `lagNs` how late it started. */
  recordOp(op: number, ret: number, actualNs: number, lagNs: number): void;
  /** Something worth keeping in the run's events. */
  mark(label: string, value: string): void;
}

/** Decides when the next iteration is meant to start. */
export interface Arrival {
  /** `lastEndNs` is when the last iteration ended. Infinity: no further one. */
  next(lastEndNs: number): number;
}

export class Actor {
  /** How late the current iteration started. */
  #lagNs = 0;
  #iterations = 0;
  #stopped = false;

  constructor(
    readonly k: Driver,
    readonly guest: GuestPlan,
    readonly plan: ActorPlan,
    readonly random: Prng,
    private readonly arrival: Arrival,
    /** When the guest's time is over, ns; Infinity = never. */
    private readonly endNs: number,
    /** First page of the guest's buffer. */
    readonly bufferPage: number,
    readonly bufferPages: number,
  ) {}

  /** Ends the actor after this iteration. */
  finish(): void {
    this.#stopped = true;
  }

  /** Waits for the next iteration; false when there is none. `while (yield* actor.iterate()) { ... }` */
  *iterate(): Path<boolean> {
    const { k } = this;
    const limit = this.plan.iterations;
    if (this.#stopped || (limit !== null && this.#iterations >= limit)) return false;
    const intended = this.arrival.next(k.nowNs());
    if (intended >= this.endNs || k.stopping() || k.nowNs() >= this.endNs) return false;
    if (intended > k.nowNs()) {
      k.sleepUntil(intended);
      yield;
      if (k.stopping()) return false;
    }
    this.#lagNs = Math.max(0, k.startNs() - intended);
    this.#iterations += 1;
    return true;
  }

  /** Runs one operation, a system call, and records how long it took. Its return value. */
  *operate(op: OpName, path: Path<number>): Path<number> {
    const { k } = this;
    const start = k.nowNs();
    if (k.at(S.Syscall, 0)) yield;
    const ret = yield* path;
    k.recordOp(Op[op], ret, k.nowNs() - start, this.#lagNs);
    return ret;
  }

  /** Model time passes outside the kernel. */
  *pause(ns: number): Path<void> {
    if (ns <= 0) return;
    this.k.sleepUntil(this.k.nowNs() + ns);
    yield;
  }

  /** The container behind the process's descriptor `index`, or a negative errno. */
  container(index = 0): Ref {
    const a = this.k.arena;
    const process = a.get(this.k.current, TASK.process);
    const files = a.get(process, PROCESS.files);
    const c = files === 0 ? 0 : a.get(files, FILES.container0 + index);
    return c !== 0 && a.get(c, CONTAINER.released) === 0 ? c : -EBADF;
  }

  /** Keeps locked_vm of the actor's address space in the run's events. */
  markLockedVm(label: string): void {
    const mm = taskMm(this.k.arena, this.k.current);
    this.k.mark(label, mm === 0 ? 'no mm' : `${lockedVm(this.k.arena, mm)}`);
  }

  /** Keeps a failed operation in the run's events. */
  markFailure(what: string, ret: number): void {
    this.k.mark(what, errnoName(ret));
  }
}
