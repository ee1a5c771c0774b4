/**
 * Descriptors of containers and groups: who keeps what alive.
 *
 * A group holds its container. The last close of a group takes it out of the container, and the last group to leave
 * releases the IOMMU backend with everything mapped; after that the container descriptor is good for nothing (EINVAL).
 * Closing the container descriptor alone releases nothing. Sources: drivers/vfio/vfio.c (vfio_group_unset_container,
 * vfio_fops_release) and the recordings.
 */
import { EBADF, EINVAL } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CONTAINER, FILES, GROUP, PROCESS, TASK } from '../layout.ts';
import { S } from '../steps.ts';
import { vfioAttachGroup } from './attach.ts';
import { vfioDetachGroup } from './detach.ts';
import { MdevDriver, unpinEverything } from './external.ts';
import { vfioIommuRelease } from './release.ts';

/** Containers a process can have open. */
export const FILES_MAX = 16;
/** Groups: descriptor i is the first group of container i, descriptor MDEV_GROUP + i its mdev group if it has one. */
export const GROUPS_MAX = 32;
export const MDEV_GROUP = 16;

export function filesOf(a: Arena, task: Ref): Ref {
  return a.get(a.get(task, TASK.process), PROCESS.files);
}

/** A new, empty descriptor table with one user. */
export function filesNew(a: Arena): Ref {
  const files = a.alloc('files');
  a.set(files, FILES.users, 1);
  return files;
}

/** fork or clone without CLONE_FILES: the same open descriptions in a table of one's own. */
export function filesCopy(a: Arena, from: Ref): Ref {
  const files = filesNew(a);
  for (let i = 0; i < FILES_MAX; i += 1) {
    const container = a.get(from, FILES.container0 + i);
    a.set(files, FILES.container0 + i, container);
    if (container !== 0) Atomics.add(a.i32, container + CONTAINER.fileRefs, 1);
  }
  for (let i = 0; i < GROUPS_MAX; i += 1) {
    const group = a.get(from, FILES.group0 + i);
    a.set(files, FILES.group0 + i, group);
    if (group !== 0) Atomics.add(a.i32, group + GROUP.fileRefs, 1);
  }
  return files;
}

/** The container behind descriptor `index` of the caller, or -EBADF, or -EINVAL once its backend is gone. */
export function containerOf(k: Ctx, index: number): Ref {
  const a = k.arena;
  const files = filesOf(a, k.current);
  const container = files === 0 ? 0 : a.get(files, FILES.container0 + index);
  if (container === 0) return -EBADF;
  return a.get(container, CONTAINER.released) === 1 ? -EINVAL : container;
}

/** The group behind descriptor `index` of the caller, or of the process whose devices a kernel thread serves; or 0. */
export function groupOf(k: Ctx, index: number): Ref {
  const devices = k.arena.get(k.current, TASK.devices);
  const files = devices !== 0 ? devices : filesOf(k.arena, k.current);
  return files === 0 ? 0 : k.arena.get(files, FILES.group0 + index);
}

export interface ContainerArgs {
  readonly index: number;
  readonly v2: boolean;
  readonly dmaEntryLimit: number;
  /** The groups it starts with: one behind an IOMMU, an mdev group, or one of each. Default: `iommu`. */
  readonly groups?: 'iommu' | 'mdev' | 'both';
}

/**
 * Opens a container of type1 or type1v2 as descriptor `index` of `files`, and its groups as the descriptors that belong
 * to it.
 */
export function openContainer(a: Arena, files: Ref, p: ContainerArgs): Ref {
  const groups = p.groups ?? 'iommu';
  const container = a.alloc('container');
  a.set(container, CONTAINER.fileRefs, 1);
  a.set(container, CONTAINER.v2, p.v2 ? 1 : 0);
  a.set(container, CONTAINER.dmaAvail, p.dmaEntryLimit);
  a.set(container, CONTAINER.index, p.index);
  a.set(files, FILES.container0 + p.index, container);
  if (groups !== 'mdev') {
    a.set(openGroup(a, files, { index: p.index }), GROUP.container, container);
    a.set(container, CONTAINER.domains, 1);
    a.set(container, CONTAINER.domainGroups0, 1);
  }
  if (groups !== 'iommu') {
    const group = openGroup(a, files, { index: MDEV_GROUP + p.index, driver: MdevDriver.Unpins });
    a.set(group, GROUP.container, container);
    a.set(container, CONTAINER.externalGroups, 1);
    a.set(container, CONTAINER.notifier, MdevDriver.Unpins);
  }
  a.set(container, CONTAINER.groups, groups === 'both' ? 2 : 1);
  return container;
}

export interface GroupArgs {
  readonly index: number;
  /** The mdev driver behind it; default: none, it is behind an IOMMU. */
  readonly driver?: MdevDriver;
  /** Groups of the same kind can share an IOMMU domain. */
  readonly iommuKind?: 0 | 1;
  /** Its IOMMU cannot remap interrupts. */
  readonly unsafe?: boolean;
}

/** Opens a group that is in no container as descriptor `index` of `files`. */
export function openGroup(a: Arena, files: Ref, p: GroupArgs): Ref {
  const group = a.alloc('group');
  a.set(group, GROUP.fileRefs, 1);
  a.set(group, GROUP.driver, p.driver ?? MdevDriver.None);
  a.set(group, GROUP.iommuKind, p.iommuKind ?? 0);
  a.set(group, GROUP.unsafe, p.unsafe === true ? 1 : 0);
  a.set(files, FILES.group0 + p.index, group);
  return group;
}

/**
 * VFIO_GROUP_SET_CONTAINER, and where the container has lost its last group, VFIO_SET_IOMMU. 0, -EBADF, -EINVAL for a
 * group that is in a container already, or what the attach says.
 */
export function* setContainer(k: Ctx, groupIndex: number, containerIndex: number): Path<number> {
  const a = k.arena;
  const files = filesOf(a, k.current);
  const group = a.get(files, FILES.group0 + groupIndex);
  const container = a.get(files, FILES.container0 + containerIndex);
  if (group === 0 || container === 0) return -EBADF;
  if (a.get(group, GROUP.container) !== 0) return -EINVAL;
  // Counted first, so that nobody releases the backend meanwhile.
  if (Atomics.add(a.i32, container + CONTAINER.groups, 1) === 0) a.set(container, CONTAINER.released, 0);
  const ret = yield* vfioAttachGroup(k, container, group);
  if (ret !== 0) yield* dropGroup(k, container);
  return ret;
}

/** VFIO_GROUP_UNSET_CONTAINER. 0, -EBADF, or -EINVAL for a group that is in no container. */
export function* unsetContainer(k: Ctx, groupIndex: number): Path<number> {
  const group = groupOf(k, groupIndex);
  if (group === 0) return -EBADF;
  return (yield* leaveContainer(k, group)) ? 0 : -EINVAL;
}

/**
 * __vfio_group_unset_container; the last mdev device has been closed before, and its driver has given everything back.
 */
function* leaveContainer(k: Ctx, group: Ref): Path<boolean> {
  const a = k.arena;
  const container = a.get(group, GROUP.container);
  if (container === 0) return false;
  const lastMdev = a.get(group, GROUP.driver) === MdevDriver.Unpins && a.get(container, CONTAINER.externalGroups) === 1;
  if (lastMdev) yield* unpinEverything(k, container);
  yield* vfioDetachGroup(k, container, group);
  yield* dropGroup(k, container);
  return true;
}

/** One group less; the last one releases the backend. */
function* dropGroup(k: Ctx, container: Ref): Path<void> {
  if (Atomics.sub(k.arena.i32, container + CONTAINER.groups, 1) !== 1) return;
  yield* vfioIommuRelease(k, container);
  freeIfUnused(k.arena, container);
}

export function* closeContainer(k: Ctx, files: Ref, index: number): Path<void> {
  const a = k.arena;
  const container = a.get(files, FILES.container0 + index);
  if (container === 0) return;
  a.set(files, FILES.container0 + index, 0);
  if (k.at(S.ExitFiles, container)) yield;
  if (Atomics.sub(a.i32, container + CONTAINER.fileRefs, 1) === 1) freeIfUnused(a, container);
}

export function* closeGroup(k: Ctx, files: Ref, index: number): Path<void> {
  const a = k.arena;
  const group = a.get(files, FILES.group0 + index);
  if (group === 0) return;
  a.set(files, FILES.group0 + index, 0);
  if (k.at(S.ExitFiles, group)) yield;
  if (Atomics.sub(a.i32, group + GROUP.fileRefs, 1) === 1) yield* releaseGroup(k, group);
}

function* releaseGroup(k: Ctx, group: Ref): Path<void> {
  yield* leaveContainer(k, group);
  k.arena.free('group', group);
}

/**
 * The files of mappings of `mm` that are gone: a mapping of a device keeps it, and with it the group, open when its
 * descriptors are closed. Called where the kernel runs the delayed fput: on the way back to user space, at exit, at the
 * end of a work item.
 */
export function* putMapped(k: Ctx, mm: Ref): Path<void> {
  for (const group of k.addressSpace.takeDropped(mm)) yield* releaseGroup(k, group);
}

function freeIfUnused(a: Arena, container: Ref): void {
  if (Atomics.load(a.i32, container + CONTAINER.fileRefs) !== 0) return;
  if (Atomics.load(a.i32, container + CONTAINER.groups) === 0) a.free('container', container);
}

/** Closes container `index` of the caller's process and its groups. */
export function* closeBoth(k: Ctx, index: number): Path<number> {
  const files = filesOf(k.arena, k.current);
  yield* closeAll(k, files, index);
  return 0;
}

function* closeAll(k: Ctx, files: Ref, index: number): Path<void> {
  yield* closeContainer(k, files, index);
  yield* closeGroup(k, files, MDEV_GROUP + index);
  yield* closeGroup(k, files, index);
}

/** put_files_struct: the last user closes everything. */
export function* putFiles(k: Ctx, files: Ref): Path<void> {
  const a = k.arena;
  if (Atomics.sub(a.i32, files + FILES.users, 1) !== 1) return;
  for (let i = 0; i < FILES_MAX; i += 1) yield* closeAll(k, files, i);
  a.free('files', files);
}
