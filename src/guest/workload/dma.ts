/** The system calls of a VFIO user, as workloads make them. */
import { EBADF } from '../../base/errno.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import type { Actor } from '../../engine/actor.ts';
import type { Path } from '../../model/env.ts';
import {
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_VADDR,
  MAP_FLAG_WRITE,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  UNMAP_FLAG_VADDR,
  type UnmapArgs,
} from '../../model/ioctl-args.ts';
import { vfioPinPages, vfioUnpinPages } from '../../model/paths/external.ts';
import { containerOf, groupOf, MDEV_GROUP } from '../../model/paths/files.ts';
import { vfioDmaDoMap } from '../../model/paths/map.ts';
import { vfioDmaDoUnmap } from '../../model/paths/unmap.ts';

const PAGE = BigInt(PAGE_BYTES);

interface Piece {
  readonly iovaPage: number;
  readonly pages: number;
  /** Index of the container; left out: the first. */
  readonly container?: number;
}

/**
 * Maps `pages` pages of the guest's buffer, from its page `bufferPage`, read-write at `iovaPage`. 0 or a negative
 * errno.
 */
export function* mapBuffer(actor: Actor, m: Piece & { readonly bufferPage: number }): Path<number> {
  const { iovaPage, pages, container = 0 } = m;
  // No spread: each would leave a little garbage that only a full collection finds.
  return yield* mapMemory(actor, { iovaPage, pages, container, page: actor.bufferPage + m.bufferPage });
}

/** The same for any memory of the process, from its page `page`. */
export function* mapMemory(actor: Actor, m: Piece & { readonly page: number }): Path<number> {
  const container = containerOf(actor.k, m.container ?? 0);
  if (container < 0) return yield* actor.operate('map', refused(container));
  return yield* actor.operate(
    'map',
    vfioDmaDoMap(actor.k, container, {
      argsz: MAP_ARGSZ,
      flags: MAP_FLAG_READ | MAP_FLAG_WRITE,
      vaddr: BigInt(m.page) * PAGE,
      iova: BigInt(m.iovaPage) * PAGE,
      size: BigInt(m.pages) * PAGE,
    }),
  );
}

/** Unmaps a range. The pages removed, or a negative errno. */
export function* unmapRange(actor: Actor, m: Piece): Path<number> {
  const container = containerOf(actor.k, m.container ?? 0);
  if (container < 0) return yield* actor.operate('unmap', refused(container));
  const args: UnmapArgs = {
    argsz: UNMAP_ARGSZ,
    flags: 0,
    iova: BigInt(m.iovaPage) * PAGE,
    size: BigInt(m.pages) * PAGE,
    unmapped: 0n,
  };
  const ret = yield* actor.operate('unmap', vfioDmaDoUnmap(actor.k, container, args));
  return ret < 0 ? ret : Number(args.unmapped / PAGE);
}

/**
 * UNMAP_DMA with VADDR and ALL: every mapping of the container keeps its pages and loses its address. 0 or a negative
 * errno.
 */
export function* invalidateAll(actor: Actor, index: number): Path<number> {
  const container = containerOf(actor.k, index);
  if (container < 0) return yield* actor.operate('vaddr_update', refused(container));
  const args: UnmapArgs = {
    argsz: UNMAP_ARGSZ,
    flags: UNMAP_FLAG_ALL | UNMAP_FLAG_VADDR,
    iova: 0n,
    size: 0n,
    unmapped: 0n,
  };
  return yield* actor.operate('vaddr_update', vfioDmaDoUnmap(actor.k, container, args));
}

/** MAP_DMA with VADDR: gives a mapping its address, perhaps in another address space. 0 or a negative errno. */
export function* updateAddress(actor: Actor, m: Piece & { readonly bufferPage: number }): Path<number> {
  const container = containerOf(actor.k, m.container ?? 0);
  if (container < 0) return yield* actor.operate('vaddr_update', refused(container));
  return yield* actor.operate(
    'vaddr_update',
    vfioDmaDoMap(actor.k, container, {
      argsz: MAP_ARGSZ,
      flags: MAP_FLAG_VADDR,
      vaddr: BigInt(actor.bufferPage + m.bufferPage) * PAGE,
      iova: BigInt(m.iovaPage) * PAGE,
      size: BigInt(m.pages) * PAGE,
    }),
  );
}

/** vfio_pin_pages for the mdev driver of a container. Pages, or a negative errno. */
export function* pinPages(actor: Actor, iovaPages: readonly number[], prot: number, container: number): Path<number> {
  const { k } = actor;
  return yield* actor.operate('pin', vfioPinPages(k, groupOf(k, MDEV_GROUP + container), iovaPages, prot));
}

/** vfio_unpin_pages. Pages, or a negative errno. */
export function* unpinPages(actor: Actor, iovaPages: readonly number[], container: number): Path<number> {
  const { k } = actor;
  return yield* actor.operate('unpin', vfioUnpinPages(k, groupOf(k, MDEV_GROUP + container), iovaPages));
}

// oxlint-disable-next-line require-yield
function* refused(errno: number): Path<number> {
  return errno === 0 ? -EBADF : errno;
}
