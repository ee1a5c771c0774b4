/**
 * Random programs for the property tests: a guest of a few processes and threads, each with a list of operations, run
 * by the step driver. What a program does depends on nothing but its description, the variant and the order of steps.
 */
import fc from 'fast-check';
import { stream } from '../../src/base/prng.ts';
import { type StepActor, Stepper } from '../../src/engine/explore/stepper.ts';
import { buildGuest, type BuiltGuest } from '../../src/engine/guest.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import type { GuestPlan } from '../../src/engine/plan.ts';
import { AddressSpace } from '../../src/model/address-space/address-space.ts';
import { Backing } from '../../src/model/address-space/memory.ts';
import { Arena, type Ref } from '../../src/model/arena.ts';
import type { FaultSite, Path, Variant } from '../../src/model/env.ts';
import { checkAtRest } from '../../src/model/invariants/index.ts';
import { MAP_ARGSZ, UNMAP_ARGSZ, UNMAP_FLAG_ALL } from '../../src/model/ioctl-args.ts';
import { CONTAINER, MM, PROCESS, STRUCT_NAMES, TASK } from '../../src/model/layout.ts';
import { lockedVm } from '../../src/model/locked-vm.ts';
import { mmdrop, setMemlockBytes, taskMm } from '../../src/model/mm.ts';
import { type InvariantName, Oracle } from '../../src/model/oracle.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { closeBoth, containerOf } from '../../src/model/paths/files.ts';
import { vfioDmaDoMap } from '../../src/model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../src/model/paths/mlock.ts';
import { sysMmap } from '../../src/model/paths/mmap.ts';
import { exec, fork } from '../../src/model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';
import { downRead, upRead } from '../../src/model/rwsem.ts';

/** Pages of the guest's buffer. */
const PAGES = 16;

export type Op =
  | {
      readonly op: 'map';
      readonly iova: number;
      readonly page: number;
      readonly pages: number;
      readonly container: number;
    }
  | { readonly op: 'unmap'; readonly iova: number; readonly pages: number; readonly container: number }
  | { readonly op: 'unmapAll'; readonly container: number }
  | { readonly op: 'mlock' | 'munlock'; readonly page: number; readonly pages: number }
  | { readonly op: 'read' }
  | { readonly op: 'setrlimit'; readonly pages: number }
  | { readonly op: 'dropCap' }
  | { readonly op: 'fork'; readonly vm: boolean; readonly ops: readonly Op[] }
  | { readonly op: 'close'; readonly container: number }
  | { readonly op: 'exec' }
  | { readonly op: 'exit' };

export interface Program {
  readonly limitPages: number;
  readonly cap: boolean;
  readonly v2: boolean;
  readonly contiguityPages: number;
  readonly populated: boolean;
  readonly tasks: readonly ('main' | 'thread' | 'vm_child' | 'child')[];
  /** Operations of each task. */
  readonly ops: readonly (readonly Op[])[];
  /** One of so many allocations and IOMMU mappings fails; 0 none. Never a work item: that loses its update for good. */
  readonly faultOneIn: number;
  /** Seed of the order of steps. */
  readonly schedule: number;
}

const CONTAINERS = 2;
const container = fc.nat({ max: CONTAINERS - 1 });
const range = { page: fc.nat({ max: PAGES - 1 }), pages: fc.integer({ min: 1, max: 8 }) };
const map = fc.record({ op: fc.constant('map' as const), iova: fc.nat({ max: 15 }), ...range, container });
const unmap = fc.record({
  op: fc.constant('unmap' as const),
  iova: fc.nat({ max: 15 }),
  pages: fc.integer({ min: 1, max: 16 }),
  container,
});
const simple = (op: 'read' | 'dropCap' | 'exec' | 'exit'): fc.Arbitrary<Op> => fc.constant({ op } as const);
const calm: fc.WeightedArbitrary<Op>[] = [
  { weight: 8, arbitrary: map },
  { weight: 5, arbitrary: unmap },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('unmapAll' as const), container }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('mlock' as const, 'munlock' as const), ...range }) },
  { weight: 2, arbitrary: simple('read') },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('setrlimit' as const), pages: fc.nat({ max: 24 }) }) },
  { weight: 1, arbitrary: simple('dropCap') },
];
const leaf = fc.oneof(...calm);

/** What makes a mapping outlive its maker's address space, thread or descriptor. */
const wild: fc.WeightedArbitrary<Op>[] = [
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('fork' as const),
      vm: fc.boolean(),
      ops: fc.array(fc.oneof({ weight: 6, arbitrary: leaf }, { weight: 1, arbitrary: simple('exec') }), {
        maxLength: 4,
      }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('close' as const), container }) },
  { weight: 1, arbitrary: simple('exec') },
  { weight: 1, arbitrary: simple('exit') },
];

/** `calm`: threads of one process only, alive to the end. Otherwise everything. */
export function programs(kind: 'calm' | 'wild'): fc.Arbitrary<Program> {
  const op = kind === 'calm' ? leaf : fc.oneof(...calm, ...wild);
  const others = kind === 'calm' ? (['thread'] as const) : (['thread', 'vm_child', 'child'] as const);
  return fc
    .record({
      limitPages: fc.constantFrom(4, 8, 12, 20),
      cap: fc.oneof({ weight: 5, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      v2: fc.boolean(),
      contiguityPages: fc.constantFrom(1, 1, 2, 16),
      populated: fc.boolean(),
      tasks: fc.array(fc.constantFrom<Program['tasks'][number]>(...others), { maxLength: 2 }),
      faultOneIn: fc.constantFrom(0, 0, 0, 5),
      schedule: fc.nat(),
    })
    .chain((rest) => {
      const tasks = ['main' as const, ...rest.tasks];
      const ops = tasks.map(() => fc.array(op, { minLength: 1, maxLength: 6 }));
      return fc.tuple(...ops).map((all) => ({ ...rest, tasks, ops: all }));
    });
}

/** Whether an operation of this kind is anywhere in the program. */
export function has(p: Program, ...kinds: readonly Op['op'][]): boolean {
  const within = (ops: readonly Op[]): boolean =>
    ops.some((o) => kinds.includes(o.op) || (o.op === 'fork' && within(o.ops)));
  return p.ops.some(within);
}

export interface Outcome {
  /** Per task (children of forks after the task that made them), the return value of each operation. */
  readonly results: readonly (readonly number[])[];
  /** locked_vm of each living address space, in the order they were made. */
  readonly lockedVmPages: readonly bigint[];
  readonly violated: readonly InvariantName[];
  readonly details: readonly string[];
  /** Structures of each kind left after everybody has exited. */
  readonly leaked: readonly string[];
}

export interface RunOptions {
  /** One operation at a time, in an order that does not depend on steps, so that two variants can be compared. */
  readonly serial?: boolean;
}

/**
 * Runs a program on a variant: all operations and work items in random steps, the judgement at rest, then every exit.
 */
export function run(variant: Variant, p: Program, o: RunOptions = {}): Outcome {
  return new Machine(variant, p, o).run();
}

class Machine {
  readonly arena: Arena;
  readonly oracle: Oracle;
  readonly stepper: Stepper;
  readonly guest: BuiltGuest;
  readonly random;
  readonly results: number[][] = [];
  /**
   * Operations under way in each container: the kernel's ioctl holds the file, so nobody's close is the last one then.
   */
  readonly inUse = new Map<Ref, number>();
  /** Actors that have nothing left to do, and (one operation at a time) those that wait for their turn. */
  readonly #atRest = new Set<StepActor>();
  readonly #waiting = new Set<StepActor>();
  #leaving = false;
  #quiet = false;
  /** Whose turn it is when operations run one at a time. */
  #turn: StepActor | null = null;

  constructor(
    readonly variant: Variant,
    readonly p: Program,
    readonly o: RunOptions,
  ) {
    const pools = Object.fromEntries(STRUCT_NAMES.map((n) => [n, 64])) as Record<(typeof STRUCT_NAMES)[number], number>;
    this.arena = Arena.create({ ...pools, chunk: 512, seg: 512, actor: 512 }, false);
    this.oracle = new Oracle(this.arena);
    const addressSpace = new AddressSpace(this.arena, variant.gup);
    this.stepper = new Stepper({
      arena: this.arena,
      variant,
      oracle: this.oracle,
      addressSpace,
      inject: (site) => this.#fails(site),
    });
    const plan: GuestPlan = {
      index: 0,
      class: 'random',
      seed: 1,
      startNs: 0,
      durationNs: null,
      memory: { bytes: PAGES * 4096, backing: 'anon4k', contiguityPages: p.contiguityPages, populated: p.populated },
      memlockBytes: p.limitPages * 4096,
      capIpcLock: p.cap,
      iommu: p.v2 ? 'type1v2' : 'type1',
      containers: CONTAINERS,
      actors: p.tasks.map((task, i) => ({
        name: `${task}-${i}`,
        task,
        workload: 'null',
        options: {},
        arrival: { kind: 'closed', options: {} },
        startNs: 0,
        iterations: null,
      })),
    };
    this.guest = buildGuest(this.arena, addressSpace, plan, () => 0);
    this.random = stream(p.schedule, 'schedule');
    this.guest.actors.forEach(({ actor, task }, i) => this.#start(task, p.ops[i] ?? [], actor));
  }

  #start(task: Ref, ops: readonly Op[], actor?: Ref): void {
    const results: number[] = [];
    this.results.push(results);
    const name = `task-${this.results.length}`;
    const begin = (k: StepActor): Path<void> => this.#live(k, ops, results);
    if (actor === undefined) this.stepper.add(name, task, begin);
    else this.stepper.add(name, task, begin, actor);
  }

  *#live(k: StepActor, ops: readonly Op[], results: number[]): Path<void> {
    for (const op of ops) {
      if (this.o.serial === true) {
        this.#waiting.add(k);
        while (this.#turn !== k) yield;
        this.#waiting.delete(k);
      }
      if (op.op === 'exit') {
        yield* this.#exit(k);
        this.#turn = null;
        return;
      }
      results.push(yield* this.#operate(k, op));
      this.#turn = null;
    }
    this.#atRest.add(k);
    while (!this.#leaving) yield;
    this.#atRest.delete(k);
    yield* this.#exit(k);
  }

  /** Takes mmap_sem of the first process for read again and again, so that trylocks fail at random. */
  *#noise(k: StepActor): Path<void> {
    const mm = this.guest.mms[0] as Ref;
    while (!this.#quiet && this.arena.get(mm, MM.mmUsers) !== 0) {
      yield* downRead(k, mm);
      for (let n = this.random.nextU32() % 16; n > 0; n -= 1) yield;
      yield* upRead(k, mm);
      for (let n = this.random.nextU32() % 16; n > 0; n -= 1) yield;
    }
  }

  /** Exit closes what is left, so it too waits for the system calls of others. */
  *#exit(k: StepActor): Path<void> {
    while ([...this.inUse.values()].some((n) => n > 0)) yield;
    yield* doExit(k);
  }

  *#operate(k: StepActor, op: Op): Path<number> {
    const a = this.arena;
    switch (op.op) {
      case 'map':
        return yield* this.#using(k, op.container, (c) =>
          vfioDmaDoMap(k, c, {
            argsz: MAP_ARGSZ,
            flags: 3,
            vaddr: BigInt(BUFFER_PAGE + op.page) * 4096n,
            iova: BigInt(op.iova) * 4096n,
            size: BigInt(this.#within(op)) * 4096n,
          }),
        );
      case 'unmap':
      case 'unmapAll': {
        const all = op.op === 'unmapAll';
        const [iova, size] = all ? [0n, 0n] : [BigInt(op.iova) * 4096n, BigInt(op.pages) * 4096n];
        const args = { argsz: UNMAP_ARGSZ, flags: all ? UNMAP_FLAG_ALL : 0, iova, size, unmapped: 0n };
        const ret = yield* this.#using(k, op.container, (c) => vfioDmaDoUnmap(k, c, args));
        return ret < 0 ? ret : Number(args.unmapped / 4096n);
      }
      case 'mlock':
        return yield* sysMlock(k, BigInt(BUFFER_PAGE + op.page) * 4096n, BigInt(this.#within(op)) * 4096n, false);
      case 'munlock':
        return yield* sysMunlock(k, BigInt(BUFFER_PAGE + op.page) * 4096n, BigInt(op.pages) * 4096n);
      case 'read': {
        const mm = taskMm(a, k.current);
        yield* downRead(k, mm);
        // Held over what others do in between, as by a long fault.
        for (let n = this.random.nextU32() % 8; n > 0; n -= 1) yield;
        yield* upRead(k, mm);
        return 0;
      }
      case 'setrlimit':
        setMemlockBytes(a, k.current, BigInt(op.pages) * 4096n);
        return 0;
      case 'dropCap':
        a.set(k.current, TASK.capIpcLock, 0);
        return 0;
      case 'fork': {
        const child = yield* fork(k, op.vm);
        if (child > 0) this.#start(child, op.ops);
        return 0;
      }
      case 'close':
        while ([...this.inUse.values()].some((n) => n > 0)) yield;
        return yield* closeBoth(k, op.container);
      case 'exec': {
        const process = a.get(k.current, TASK.process);
        // The other threads would have to be killed first.
        if (a.get(process, PROCESS.threads) > 1) return 0;
        const ret = yield* exec(k);
        yield* sysMmap(k, BUFFER_PAGE, PAGES, { backing: Backing.Anon4k, prot: 3, runPages: 1 });
        return ret;
      }
      default:
        return 0;
    }
  }

  #fails(site: FaultSite): boolean {
    if (this.p.faultOneIn === 0 || this.o.serial === true || site === 'work_item') return false;
    return this.random.nextU32() % this.p.faultOneIn === 0;
  }

  /**
   * Pages of an operation. One at a time they end with the buffer: which of a hole and the limit a failing call meets
   * first hangs on how late locked_vm is, though nobody gets more than the limit by it.
   */
  #within(op: { readonly page: number; readonly pages: number }): number {
    return this.o.serial === true ? Math.min(op.pages, PAGES - op.page) : op.pages;
  }

  *#using(k: StepActor, index: number, call: (container: Ref) => Path<number>): Path<number> {
    const c = containerOf(k, index);
    if (c < 0) return c;
    this.inUse.set(c, (this.inUse.get(c) ?? 0) + 1);
    const ret = yield* call(c);
    this.inUse.set(c, (this.inUse.get(c) as number) - 1);
    return ret;
  }

  run(): Outcome {
    const order = stream(this.p.schedule, 'turns');
    const noise = this.o.serial === true ? this.stepper.add('noise', 0, (k) => this.#noise(k)) : null;
    const idle = (x: StepActor): boolean =>
      x.done || this.#atRest.has(x) || (this.#waiting.has(x) && x !== this.#turn) || x === noise;
    const worker = (x: StepActor): boolean => x.name.startsWith('kworker');
    for (let n = 0; ; n += 1) {
      if (n > 200_000) throw new RangeError('the program does not end');
      const { actors } = this.stepper;
      if (this.o.serial === true && this.#turn === null && actors.every((x) => idle(x) || worker(x))) {
        const waiting = actors.filter((x) => this.#waiting.has(x));
        this.#turn = waiting[order.nextU32() % Math.max(waiting.length, 1)] ?? null;
      }
      if (actors.every(idle)) break;
      const able = this.stepper.runnable().filter((x) => !idle(x) || x === noise);
      if (able.length === 0)
        throw new Error(
          `deadlock: ${actors
            .filter((x) => !idle(x))
            .map((x) => x.name)
            .join(', ')}`,
        );
      this.stepper.step(able[this.random.nextU32() % able.length] as StepActor);
    }
    this.#quiet = true;
    while (noise !== null && !noise.done) this.stepper.step(noise);
    const a = this.arena;
    this.#judge();
    const lockedVmPages = this.guest.mms.map((mm) => (a.get(mm, MM.liveTasks) === 0 ? -1n : lockedVm(a, mm)));
    const violated = [...new Set(this.oracle.violations.map((v) => v.invariant))].toSorted();
    const details = this.oracle.violations.map((v) => `${v.invariant}: ${v.detail}`);
    this.#leaving = true;
    this.stepper.run((runnable) => runnable[this.random.nextU32() % runnable.length] as StepActor, 200_000);
    return { results: this.results, lockedVmPages, violated, details, leaked: this.#leaked() };
  }

  /** Every address space that still has users, against every container that still has a group. */
  #judge(): void {
    const a = this.arena;
    const all = (kind: 'mm' | 'container'): Ref[] =>
      Array.from({ length: a.highWater(kind) }, (_, i) => a.refAt(kind, i));
    const containers = all('container').filter((c) => a.get(c, CONTAINER.groups) > 0);
    const alive = all('mm').filter((mm) => a.get(mm, MM.mmUsers) > 0);
    checkAtRest(a, this.oracle, alive, containers);
  }

  #leaked(): string[] {
    const a = this.arena;
    for (const mm of this.guest.mms) mmdrop(a, mm);
    return STRUCT_NAMES.filter((n) => n !== 'user' && a.live(n) > 0).map((n) => `${n}: ${a.live(n)}`);
  }
}
