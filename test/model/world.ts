/**
 * A small world for model tests: one arena, one variant, guests built as a driver builds them, actors stepped by
 * choice.
 */
import { stream } from '../../src/base/prng.ts';
import { type StepActor, Stepper } from '../../src/engine/explore/stepper.ts';
import { buildGuest, type BuiltGuest } from '../../src/engine/guest.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import type { ActorPlan, GuestPlan } from '../../src/engine/plan.ts';
import { AddressSpace } from '../../src/model/address-space/address-space.ts';
import { Arena, capacityFor, type Ref } from '../../src/model/arena.ts';
import type { FaultSite, Path, Variant } from '../../src/model/env.ts';
import { checkAtRest } from '../../src/model/invariants/index.ts';
import { MAP_ARGSZ, UNMAP_ARGSZ } from '../../src/model/ioctl-args.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { FILES, PROCESS, TASK } from '../../src/model/layout.ts';
import { lockedVm } from '../../src/model/locked-vm.ts';
import { Oracle } from '../../src/model/oracle.ts';
import { vfioPinPages, vfioUnpinPages } from '../../src/model/paths/external.ts';
import { containerOf, groupOf, MDEV_GROUP } from '../../src/model/paths/files.ts';
import { vfioDmaDoMap } from '../../src/model/paths/map.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';

export interface WorldOptions {
  readonly pages?: number;
  readonly backing?: GuestPlan['memory']['backing'];
  readonly contiguityPages?: number;
  readonly populated?: boolean;
  /** RLIMIT_MEMLOCK in pages; null = unlimited. */
  readonly limitPages?: number | null;
  readonly cap?: boolean;
  readonly v2?: boolean;
  readonly containers?: number;
  readonly uid?: number;
  readonly mdev?: 'only' | 'beside';
  readonly tasks?: readonly ActorPlan['task'][];
  readonly inject?: (site: FaultSite) => boolean;
  readonly pagesPerStep?: number;
}

export class World {
  readonly arena: Arena;
  readonly stepper: Stepper;
  readonly oracle: Oracle;
  readonly plan: GuestPlan;
  readonly guest: BuiltGuest;

  constructor(variant: string | Variant, o: WorldOptions = {}) {
    this.arena = Arena.create(
      capacityFor({
        guests: 2,
        actorsPerGuest: 16,
        extraActors: 512,
        processesPerGuest: 8,
        containersPerGuest: 8,
        pinnedPagesPerGuest: 2048,
        mappingsPerGuest: 512,
      }),
      false,
    );
    const v = typeof variant === 'string' ? resolveVariant(variant) : variant;
    this.oracle = new Oracle(this.arena);
    const addressSpace = new AddressSpace(this.arena, v.gup);
    this.stepper = new Stepper({
      arena: this.arena,
      variant: v,
      oracle: this.oracle,
      addressSpace,
      ...(o.inject === undefined ? {} : { inject: o.inject }),
      ...(o.pagesPerStep === undefined ? {} : { pagesPerStep: o.pagesPerStep }),
    });
    this.plan = {
      index: 0,
      class: 'test',
      seed: 1,
      startNs: 0,
      durationNs: null,
      memory: {
        bytes: (o.pages ?? 64) * 4096,
        backing: o.backing ?? 'anon4k',
        contiguityPages: o.contiguityPages ?? 1,
        populated: o.populated ?? true,
      },
      memlockBytes: o.limitPages === null ? null : (o.limitPages ?? 16) * 4096,
      capIpcLock: o.cap ?? false,
      ...(o.uid === undefined ? {} : { uid: o.uid }),
      iommu: (o.v2 ?? true) ? 'type1v2' : 'type1',
      containers: o.containers ?? 1,
      ...(o.mdev === undefined ? {} : { mdev: o.mdev }),
      actors: (o.tasks ?? ['main']).map((task, i) => ({
        name: `${task}-${i}`,
        task,
        workload: 'null',
        options: {},
        arrival: { kind: 'closed', options: {} },
        startNs: 0,
        iterations: 1,
      })),
    };
    this.guest = buildGuest(this.arena, addressSpace, this.plan, () => 0);
  }

  /** Adds the guest's actor `index`. */
  actor(index: number, start: (k: StepActor) => Path<void>, name = `actor-${index}`): StepActor {
    const built = this.guest.actors[index];
    if (built === undefined) throw new Error(`no actor ${index}`);
    return this.stepper.add(name, built.task, start, built.actor);
  }

  get mm(): Ref {
    return this.guest.mms[0] as Ref;
  }

  get lockedVm(): bigint {
    return lockedVm(this.arena, this.mm);
  }

  containers(): Ref[] {
    const process = this.arena.get(this.guest.actors[0]?.task as Ref, TASK.process);
    const files = this.arena.get(process, PROCESS.files);
    return [0, 1, 2, 3].map((i) => this.arena.get(files, FILES.container0 + i)).filter((c) => c !== 0);
  }

  /** Runs everybody to the end, choosing by a seeded stream. */
  runRandom(seed: number): void {
    const random = stream(seed, 'schedule');
    this.stepper.run((runnable) => runnable[random.nextU32() % runnable.length] as StepActor);
  }

  /** Runs each actor as far as it goes, in order. */
  runInOrder(): void {
    this.stepper.run((runnable) => runnable[0] as StepActor);
  }

  /** The invariants at rest; the names of all that were violated. */
  verdict(): string[] {
    checkAtRest(this.arena, this.oracle, this.guest.mms, this.containers());
    return [...new Set(this.oracle.violations.map((v) => v.invariant))].sort();
  }
}

/** MAP_DMA of pages of the buffer. */
export function* map(k: StepActor, iovaPage: number, bufferPage: number, pages: number, container = 0): Path<number> {
  const ret = yield* vfioDmaDoMap(k, containerOf(k, container), {
    argsz: MAP_ARGSZ,
    flags: 3,
    vaddr: BigInt(BUFFER_PAGE + bufferPage) * 4096n,
    iova: BigInt(iovaPage) * 4096n,
    size: BigInt(pages) * 4096n,
  });
  k.results.push(ret);
  return ret;
}

/** UNMAP_DMA: pages removed, or a negative errno. */
export function* unmap(k: StepActor, iovaPage: number, pages: number, container = 0): Path<number> {
  const args = {
    argsz: UNMAP_ARGSZ,
    flags: 0,
    iova: BigInt(iovaPage) * 4096n,
    size: BigInt(pages) * 4096n,
    unmapped: 0n,
  };
  const ret = yield* vfioDmaDoUnmap(k, containerOf(k, container), args);
  k.results.push(ret < 0 ? ret : Number(args.unmapped / 4096n));
  return k.results.at(-1) as number;
}

/** vfio_pin_pages by the mdev driver of a container of `k`'s process. Pages, or a negative errno. */
export function* pin(k: StepActor, iovaPages: readonly number[], prot = 3, container = 0): Path<number> {
  const ret = yield* vfioPinPages(k, groupOf(k, MDEV_GROUP + container), iovaPages, prot);
  k.results.push(ret);
  return ret;
}

export function* unpin(k: StepActor, iovaPages: readonly number[], container = 0): Path<number> {
  const ret = yield* vfioUnpinPages(k, groupOf(k, MDEV_GROUP + container), iovaPages);
  k.results.push(ret);
  return ret;
}
