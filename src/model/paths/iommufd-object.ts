/** Who pays for pinned pages: iopt_pages.account_mode. */
import type { Arena, Ref } from '../arena.ts';
import type { Ctx } from '../env.ts';
import { DMA, MM, PAGES, TASK, USER } from '../layout.ts';
import { getTask, hasCapIpcLock, mmdrop, mmgrab, putTask, putUser, taskMm } from '../mm.ts';
import { linkHolder, PAGES_HOLDER, unlinkHolder } from '../pins.ts';

export const AccountMode = { User: 0, Mm: 1, None: 2 } as const;
export type AccountMode = (typeof AccountMode)[keyof typeof AccountMode];
export const mmOf = (a: Arena, object: Ref): Ref => a.get(object, PAGES.sourceMm);
export const modeOf = (a: Arena, object: Ref): AccountMode => a.get(object, PAGES.mode) as AccountMode;
export const npinned = (a: Arena, object: Ref): number => a.get(object, PAGES.npinned);
export const startOf = (a: Arena, area: Ref): number => a.get(area, DMA.pagesStart);
export const endOf = (a: Arena, area: Ref): number => startOf(a, area) + a.get(area, DMA.sizePages);

/** The user of an address space. One that was built without gets one here. */
export function userOf(a: Arena, mm: Ref): Ref {
  let user = a.get(mm, MM.user);
  if (user === 0) {
    user = a.alloc('user');
    a.set(user, USER.refs, 1);
    a.set(user, USER.guests, 1);
    a.set(mm, MM.user, user);
  }
  return user;
}

/** Takes the identity of `current` into an object, with references. */
export function recordOwner(k: Ctx, object: Ref): void {
  const a = k.arena;
  const mm = taskMm(a, k.current);
  const leader = a.get(k.current, TASK.groupLeader);
  const user = userOf(a, mm);
  mmgrab(a, mm);
  getTask(a, leader);
  Atomics.add(a.i32, user + USER.refs, 1);
  a.set(object, PAGES.sourceMm, mm);
  a.set(object, PAGES.sourceTask, leader);
  a.set(object, PAGES.sourceUser, user);
}

export function dropOwner(a: Arena, mm: Ref, task: Ref, user: Ref): void {
  mmdrop(a, mm);
  putTask(a, task);
  putUser(a, user);
}

/** iopt_alloc_pages, with one reference. A creator with CAP_IPC_LOCK pays nothing, nor does anybody else for it. */
export function pagesNew(
  k: Ctx,
  startPage: number,
  pages: number,
  o: { readonly writable: boolean; readonly file: boolean; readonly mode: AccountMode },
): Ref {
  const a = k.arena;
  const rules = k.variant.iommufd;
  const object = a.alloc('pages');
  a.set(object, PAGES.startPage, startPage);
  a.set(object, PAGES.sizePages, pages);
  a.set(object, PAGES.writable, o.writable ? 1 : 0);
  a.set(object, PAGES.file, o.file ? 1 : 0);
  a.set(object, PAGES.refs, 1);
  const free = hasCapIpcLock(a, k.current) || rules?.account === 'none';
  a.set(object, PAGES.mode, free ? AccountMode.None : rules?.account === 'mm' ? AccountMode.Mm : o.mode);
  recordOwner(k, object);
  if (!o.file) linkHolder(a, PAGES_HOLDER, mmOf(a, object), object);
  return object;
}

export function pagesPut(k: Ctx, object: Ref): void {
  const a = k.arena;
  if (Atomics.sub(a.i32, object + PAGES.refs, 1) !== 1) return;
  if (a.get(object, PAGES.file) === 0) unlinkHolder(a, PAGES_HOLDER, mmOf(a, object), object);
  dropOwner(a, mmOf(a, object), a.get(object, PAGES.sourceTask), a.get(object, PAGES.sourceUser));
  a.free('pages', object);
}

/** A fill in progress: whether mmap_sem of a foreign source is held, and its mm reference. */
export interface Reader {
  readonly mm: Ref;
  readonly remote: boolean;
  entered: boolean;
  locked: boolean;
}

/** Whose expense an object's pages are: the user to charge, and whether they belong in locked_vm. */
export function expense(a: Arena, object: Ref): [user: Ref, inLockedVm: boolean] {
  const mode = modeOf(a, object);
  return [mode === AccountMode.User ? a.get(object, PAGES.sourceUser) : 0, mode === AccountMode.Mm];
}
