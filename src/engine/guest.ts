/** Builds a guest in an arena: address spaces, processes, tasks, containers, memory. */
import { PAGE_BYTES, RLIM_INFINITY } from '../base/units.ts';
import type { AddressSpace } from '../model/address-space/address-space.ts';
import { FaultCost } from '../model/address-space/gup-runs.ts';
import { Backing } from '../model/address-space/memory.ts';
import type { Arena, Ref } from '../model/arena.ts';
import { ACTOR, FILES, MM, PROCESS, TASK, USER } from '../model/layout.ts';
import { mmdrop, mmget, mmgrab, mmNew, putUser, taskNew } from '../model/mm.ts';
import { FILES_MAX, filesCopy, filesNew, openContainer } from '../model/paths/files.ts';
import { cloneThread, processNew } from '../model/paths/process.ts';
import { BUFFER_PAGE, DMA_ENTRY_LIMIT } from './machine.ts';
import type { BackingName, GuestPlan } from './plan.ts';

export interface BuiltActor {
  readonly actor: Ref;
  readonly task: Ref;
}

export interface BuiltGuest {
  /** Index by index with the plan's actors. */
  readonly actors: readonly BuiltActor[];
  /** Address spaces of the guest; each is kept alive as a structure (mm_count) until `freeGuest`. */
  readonly mms: readonly Ref[];
  /** The user its processes run as. */
  readonly user: Ref;
  readonly bufferPage: number;
  readonly bufferPages: number;
}

const PROT_RW = 3;

/** Model constants behind the backing names of a plan. */
const BACKING: Readonly<Record<BackingName, number>> = {
  anon4k: Backing.Anon4k,
  thp: Backing.Thp,
  hugetlb2m: Backing.Hugetlb2m,
  hugetlb1g: Backing.Hugetlb1g,
  memfd: Backing.Memfd,
};

/** `threadOf(i)` says which driver thread runs the plan's actor i. */
export function buildGuest(
  a: Arena,
  as: AddressSpace,
  plan: GuestPlan,
  threadOf: (actor: number) => number,
): BuiltGuest {
  const bufferPages = plan.memory.bytes / PAGE_BYTES;
  const user = userOf(a, plan);
  const mm = newMm(a, plan.index, user);
  const mms = [mm];
  as.mmap(mm, BUFFER_PAGE, bufferPages, {
    backing: BACKING[plan.memory.backing] as Backing,
    prot: PROT_RW,
    runPages: plan.memory.contiguityPages,
  });
  if (plan.memory.populated) as.populate(mm, BUFFER_PAGE, bufferPages, true, new FaultCost());

  const files = filesNew(a);
  for (let i = 0; i < plan.containers; i += 1) {
    const groups = plan.mdev === undefined ? 'iommu' : plan.mdev === 'only' ? 'mdev' : 'both';
    openContainer(a, files, { index: i, v2: plan.iommu === 'type1v2', dmaEntryLimit: DMA_ENTRY_LIMIT, groups });
  }
  const { capIpcLock } = plan;
  const memlockBytes = plan.memlockBytes === null ? RLIM_INFINITY : BigInt(plan.memlockBytes);
  const leader = processNew(a, { mm, files, memlockBytes, capIpcLock });

  let mainTaken = false;
  const actors = plan.actors.map((actor, i) => {
    let task: Ref;
    if (actor.task === 'main' && !mainTaken) {
      mainTaken = true;
      task = leader;
    } else if (actor.task === 'main' || actor.task === 'thread') {
      task = cloneThread(a, leader);
    } else if (actor.task === 'kthread') {
      task = taskNew(a, { process: 0, mm: 0, leader: 0, capIpcLock: true });
      a.set(task, TASK.kthread, 1);
      a.set(task, TASK.devices, files);
    } else {
      let childMm = mm;
      if (actor.task === 'child') {
        childMm = newMm(a, plan.index, user);
        mms.push(childMm);
        as.fork(mm, childMm);
      } else {
        mmget(a, mm);
      }
      task = processNew(a, { mm: childMm, files: filesCopy(a, files), memlockBytes, capIpcLock });
    }
    return { actor: newActor(a, task, threadOf(i)), task };
  });
  if (!mainTaken) actors.push({ actor: newActor(a, leader, threadOf(plan.actors.length)), task: leader });
  return { actors, mms, user, bufferPage: BUFFER_PAGE, bufferPages };
}

export function newActor(a: Arena, task: Ref, thread: number): Ref {
  const actor = a.alloc('actor');
  a.set(actor, ACTOR.task, task);
  a.set(actor, ACTOR.thread, thread);
  if (task !== 0) a.set(task, TASK.actor, actor);
  return actor;
}

/** The user of a guest: one of its own, or the one that all guests with this `uid` share. */
function userOf(a: Arena, plan: GuestPlan): Ref {
  const { uid } = plan;
  let user = uid === undefined ? 0 : findUser(a, uid);
  if (user === 0) {
    user = a.alloc('user');
    a.set(user, USER.uid, uid ?? -1 - plan.index);
  }
  Atomics.add(a.i32, user + USER.refs, 1);
  Atomics.add(a.i32, user + USER.guests, 1);
  return user;
}

function findUser(a: Arena, uid: number): Ref {
  const n = a.highWater('user');
  for (let i = 0; i < n; i += 1) {
    const user = a.refAt('user', i);
    // A freed one has the free list's link in its first words and no references.
    if (a.get(user, USER.uid) === uid && a.get(user, USER.refs) > 0) return user;
  }
  return 0;
}

function newMm(a: Arena, guest: number, user: Ref): Ref {
  const mm = mmNew(a, guest);
  a.set(mm, MM.user, user);
  mmgrab(a, mm);
  return mm;
}

/** The containers its processes have open. */
export function containersOf(a: Arena, built: BuiltGuest): Ref[] {
  const found = new Set<Ref>();
  for (const { task } of built.actors) {
    const process = a.get(task, TASK.process);
    const files = process === 0 ? 0 : a.get(process, PROCESS.files);
    for (let i = 0; files !== 0 && i < FILES_MAX; i += 1) {
      const container = a.get(files, FILES.container0 + i);
      if (container !== 0) found.add(container);
    }
  }
  return [...found];
}

/** Gives back what `buildGuest` kept, after every actor has exited. */
export function freeGuest(a: Arena, guest: BuiltGuest): void {
  for (const { actor } of guest.actors) a.free('actor', actor);
  for (const mm of guest.mms) mmdrop(a, mm);
  Atomics.sub(a.i32, guest.user + USER.guests, 1);
  putUser(a, guest.user);
}
