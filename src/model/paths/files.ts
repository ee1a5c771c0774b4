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
import { vfioIommuRelease } from './release.ts';

/** Containers (and groups) a process can have open. */
export const FILES_MAX = 4;

export function filesOf(a: Arena, task: Ref): Ref {
  return a.i32[(a.i32[task + TASK.process] as number) + PROCESS.files] as number;
}

/** A new, empty descriptor table with one user. */
export function filesNew(a: Arena): Ref {
  const files = a.alloc('files');
  a.i32[files + FILES.users] = 1;
  return files;
}

/** fork or clone without CLONE_FILES: the same open descriptions in a table of one's own. */
export function filesCopy(a: Arena, from: Ref): Ref {
  const files = filesNew(a);
  for (let i = 0; i < FILES_MAX; i += 1) {
    const container = a.i32[from + FILES.container0 + i] as number;
    const group = a.i32[from + FILES.group0 + i] as number;
    a.i32[files + FILES.container0 + i] = container;
    a.i32[files + FILES.group0 + i] = group;
    if (container !== 0) Atomics.add(a.i32, container + CONTAINER.fileRefs, 1);
    if (group !== 0) Atomics.add(a.i32, group + GROUP.fileRefs, 1);
  }
  return files;
}

/** The container behind descriptor `index` of the caller, or -EBADF, or -EINVAL once its backend is gone. */
export function containerOf(k: Ctx, index: number): Ref {
  const a = k.arena;
  const files = filesOf(a, k.current);
  const container = files === 0 ? 0 : (a.i32[files + FILES.container0 + index] as number);
  if (container === 0) return -EBADF;
  return a.i32[container + CONTAINER.released] === 1 ? -EINVAL : container;
}

/** Opens a container of type1 or type1v2 with one IOMMU-backed group as descriptors `index` of `files`. */
export function openContainer(
  a: Arena,
  files: Ref,
  p: { readonly index: number; readonly v2: boolean; readonly dmaEntryLimit: number },
): Ref {
  const container = a.alloc('container');
  a.i32[container + CONTAINER.fileRefs] = 1;
  a.i32[container + CONTAINER.groups] = 1;
  a.i32[container + CONTAINER.domains] = 1;
  a.i32[container + CONTAINER.v2] = p.v2 ? 1 : 0;
  a.i32[container + CONTAINER.dmaAvail] = p.dmaEntryLimit;
  a.i32[container + CONTAINER.index] = p.index;
  const group = a.alloc('group');
  a.i32[group + GROUP.container] = container;
  a.i32[group + GROUP.fileRefs] = 1;
  a.i32[files + FILES.container0 + p.index] = container;
  a.i32[files + FILES.group0 + p.index] = group;
  return container;
}

export function* closeContainer(k: Ctx, files: Ref, index: number): Path<void> {
  const a = k.arena;
  const container = a.i32[files + FILES.container0 + index] as number;
  if (container === 0) return;
  a.i32[files + FILES.container0 + index] = 0;
  if (k.at(S.ExitFiles, container)) yield;
  if (Atomics.sub(a.i32, container + CONTAINER.fileRefs, 1) === 1) freeIfUnused(a, container);
}

export function* closeGroup(k: Ctx, files: Ref, index: number): Path<void> {
  const a = k.arena;
  const group = a.i32[files + FILES.group0 + index] as number;
  if (group === 0) return;
  a.i32[files + FILES.group0 + index] = 0;
  if (k.at(S.ExitFiles, group)) yield;
  if (Atomics.sub(a.i32, group + GROUP.fileRefs, 1) !== 1) return;
  const container = a.i32[group + GROUP.container] as number;
  a.free('group', group);
  const last = Atomics.sub(a.i32, container + CONTAINER.groups, 1) === 1;
  if (last) {
    yield* vfioIommuRelease(k, container);
    freeIfUnused(a, container);
  }
}

function freeIfUnused(a: Arena, container: Ref): void {
  if (Atomics.load(a.i32, container + CONTAINER.fileRefs) !== 0) return;
  if (Atomics.load(a.i32, container + CONTAINER.groups) === 0) a.free('container', container);
}

/** Closes container and group `index` of the caller's process. */
export function* closeBoth(k: Ctx, index: number): Path<number> {
  const files = filesOf(k.arena, k.current);
  yield* closeContainer(k, files, index);
  yield* closeGroup(k, files, index);
  return 0;
}

/** put_files_struct: the last user closes everything. */
export function* putFiles(k: Ctx, files: Ref): Path<void> {
  const a = k.arena;
  if (Atomics.sub(a.i32, files + FILES.users, 1) !== 1) return;
  for (let i = 0; i < FILES_MAX; i += 1) {
    yield* closeContainer(k, files, i);
    yield* closeGroup(k, files, i);
  }
  a.free('files', files);
}
