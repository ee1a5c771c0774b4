/**
 * iommufd: mapping and unmapping an IOAS, copies, the first domain, change of process, and the RLIMIT_MODE option.
 * Sources: drivers/iommu/iommufd/io_pagetable.c, ioas.c, vfio_compat.c in 6.4 and 7.1. The accounting is in
 * iommufd-pages.ts.
 *
 * A container is one IOAS here, and its mutex the IOAS's iova_rwsem: held to look at the areas, not while pages are
 * pinned, so pin loops of one IOAS run side by side.
 *
 * differs: iova_rwsem lets readers in together; nothing here only reads.
 * differs: RLIMIT_MODE is refused once the IOAS has a mapping, in the kernel once any object exists in the file.
 * differs: there is no automatic choice of the iova, no pinned access, and no sub-page offset.
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, EOVERFLOW, EPERM } from '../../base/errno.ts';
import type { Arena, Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import {
  lastByte,
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_WRITE,
  type MapArgs,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  type UnmapArgs,
} from '../ioctl-args.ts';
import { CONTAINER, DMA, FILES, PAGES } from '../layout.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { orders } from '../orders.ts';
import { S } from '../steps.ts';
import { findDma } from './dma.ts';
import { FILES_MAX, filesOf } from './files.ts';
import { changeOwners } from './iommufd-account.ts';
import { AccountMode, pagesNew, pagesPut } from './iommufd-object.ts';
import { fillArea, unfillArea } from './iommufd-pages.ts';

const PAGE_MASK = 0xfffn;
const LAST_PAGE = 2 ** 52;

/** MAP_DMA of /dev/vfio/vfio, or IOMMU_IOAS_MAP at a fixed iova. 0 or a negative errno. */
export function* iommufdMap(k: Ctx, container: Ref, args: MapArgs, file = false): Path<number> {
  if (k.at(S.CopyFromUser, 0)) yield;
  const known = MAP_FLAG_READ | MAP_FLAG_WRITE;
  if (args.argsz < MAP_ARGSZ || (args.flags & ~known) !== 0) return -EINVAL;
  const prot = args.flags & known;
  const compat = k.variant.iommufd?.compat === true;
  if (prot === 0 && !compat) return -EINVAL;
  if (args.size === 0n) return -EINVAL;
  if (lastByte(args.vaddr, args.size + 1n) === null) return -EOVERFLOW;
  if (((args.size | args.iova | args.vaddr) & PAGE_MASK) !== 0n) return -EINVAL;
  const lastIova = lastByte(args.iova, args.size);
  if (lastIova === null) return -EOVERFLOW;
  if (!k.aperture.ranges.some(([first, last]) => args.iova >= first && lastIova <= last)) return -EINVAL;
  if (k.at(S.Kmalloc, 0)) yield;
  if (k.inject('dma_node')) return -ENOMEM;

  const pages = Number(args.size >> 12n);
  const object = pagesNew(k, Number(args.vaddr >> 12n), pages, {
    writable: (prot & MAP_FLAG_WRITE) !== 0,
    file,
    mode: k.arena.get(container, CONTAINER.accountMode) === AccountMode.Mm ? AccountMode.Mm : AccountMode.User,
  });
  const piece: Piece = { object, start: 0, pages, prot };
  const ret = yield* ioptMapPages(k, container, Number(args.iova >> 12n), [piece]);
  pagesPut(k, object);
  return ret;
}

/** Pages of an object to be shown by a new area. */
interface Piece {
  readonly object: Ref;
  readonly start: number;
  readonly pages: number;
  readonly prot: number;
}

/**
 * iopt_map_pages: areas for all pieces, one behind the other, then their pages. All or nothing. 0 or a negative errno.
 */
function* ioptMapPages(k: Ctx, container: Ref, iovaPage: number, pieces: readonly Piece[]): Path<number> {
  const a = k.arena;
  const total = pieces.reduce((n, p) => n + p.pages, 0);
  yield* mutexLock(k, container);
  if (k.at(S.FindDma, container)) yield;
  if (findDma(a, container, iovaPage, total) !== 0) {
    yield* unlock(k, container);
    return -EEXIST;
  }
  const areas: Ref[] = [];
  let at = iovaPage;
  for (const piece of pieces) {
    areas.push(newArea(a, container, at, piece));
    at += piece.pages;
  }
  if (k.at(S.LinkDma, container)) yield;
  for (const area of areas) link(a, container, area);
  yield* unlock(k, container);

  let ret = 0;
  let filled = 0;
  if (a.get(container, CONTAINER.domains) > 0) {
    for (; filled < areas.length && ret === 0; filled += 1) ret = yield* fillArea(k, container, areas[filled] as Ref);
    if (ret !== 0) for (let i = 0; i < filled - 1; i += 1) yield* unfillArea(k, areas[i] as Ref);
  }
  yield* mutexLock(k, container);
  for (const area of areas) {
    if (ret === 0) a.set(area, DMA.busy, 0);
    else removeArea(k, container, area);
  }
  yield* unlock(k, container);
  return ret;
}

function* unlock(k: Ctx, container: Ref): Path<void> {
  yield* mutexUnlock(k, container);
}

function newArea(a: Arena, container: Ref, iovaPage: number, p: Piece): Ref {
  const area = a.alloc('dma');
  a.set(area, DMA.iovaPage, iovaPage);
  a.set(area, DMA.sizePages, p.pages);
  a.set(area, DMA.pagesStart, p.start);
  a.set(area, DMA.pages, p.object);
  a.set(area, DMA.prot, p.prot);
  a.set(area, DMA.busy, 1);
  a.set(area, DMA.container, container);
  Atomics.add(a.i32, p.object + PAGES.refs, 1);
  return area;
}

function link(a: Arena, container: Ref, area: Ref): void {
  orders(a).dma.insert(container + CONTAINER.dmaRoot, area);
  a.add(container, CONTAINER.dmaCount, 1);
}

/** Under the container's mutex: unlinks and frees an area whose pages are gone. */
function removeArea(k: Ctx, container: Ref, area: Ref): void {
  const a = k.arena;
  orders(a).dma.remove(container + CONTAINER.dmaRoot, area);
  a.add(container, CONTAINER.dmaCount, -1);
  pagesPut(k, a.get(area, DMA.pages));
  a.free('dma', area);
}

const iovaOf = (a: Arena, area: Ref): number => a.get(area, DMA.iovaPage);
const sizeOf = (a: Arena, area: Ref): number => a.get(area, DMA.sizePages);

/** The first area that ends after `page`. */
function firstArea(a: Arena, container: Ref, page: number): Ref {
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  const before = index.atOrBefore(root, page);
  if (before !== 0 && iovaOf(a, before) + sizeOf(a, before) > page) return before;
  return index.atOrAfter(root, page);
}

/**
 * UNMAP_DMA of /dev/vfio/vfio, or IOMMU_IOAS_UNMAP (where ALL stands for iova 0 and a length of 2^64 - 1). An area must
 * be covered whole. 0; -ENOENT where it is not, or (not for /dev/vfio/vfio) where there is nothing; -EBUSY.
 */
export function* iommufdUnmap(k: Ctx, container: Ref, args: UnmapArgs): Path<number> {
  const a = k.arena;
  if (k.at(S.CopyFromUser, 0)) yield;
  if (args.argsz < UNMAP_ARGSZ || (args.flags & ~UNMAP_FLAG_ALL) !== 0) return -EINVAL;
  const all = (args.flags & UNMAP_FLAG_ALL) !== 0;
  const compat = k.variant.iommufd?.compat === true;
  let start = 0;
  let end = LAST_PAGE;
  if (all) {
    if (args.iova !== 0n || args.size !== 0n) return -EINVAL;
  } else {
    if (args.size === 0n) return -EINVAL;
    const last = lastByte(args.iova, args.size);
    if (last === null) return -EOVERFLOW;
    // Areas are whole pages: what a request covers only in part it does not cover.
    start = Number((args.iova + PAGE_MASK) >> 12n);
    end = Number((last + 1n) >> 12n);
    if (end <= start && findDma(a, container, Number(args.iova >> 12n), 1) === 0)
      return compat ? removed(args, 0) : -ENOENT;
    if (compat && a.get(container, CONTAINER.v2) === 0) yield* cut(k, container, [start, end]);
  }
  const first = all ? 0 : Number(args.iova >> 12n);
  const beyond = all ? LAST_PAGE : Number((args.iova + args.size + PAGE_MASK) >> 12n);
  let unmapped = 0;
  let ret = 0;
  yield* mutexLock(k, container);
  for (;;) {
    if (k.at(S.FindDma, container)) yield;
    const area = firstArea(a, container, first);
    if (area === 0 || iovaOf(a, area) >= beyond) break;
    if (a.get(area, DMA.busy) === 1) ret = -EBUSY;
    else if (iovaOf(a, area) < start || iovaOf(a, area) + sizeOf(a, area) > end) ret = -ENOENT;
    if (ret !== 0) break;
    a.set(area, DMA.busy, 1);
    yield* unlock(k, container);
    yield* unfillArea(k, area);
    yield* mutexLock(k, container);
    if (k.at(S.UnlinkDma, container)) yield;
    unmapped += sizeOf(a, area);
    removeArea(k, container, area);
  }
  yield* unlock(k, container);
  if (ret !== 0) return ret;
  return unmapped === 0 && !all && !compat ? -ENOENT : removed(args, unmapped);
}

function removed(args: UnmapArgs, pages: number): number {
  args.unmapped = BigInt(pages) << 12n;
  return 0;
}

/** iopt_cut_iova: areas that reach across one of `pages` become two. Type1 v1 gives up large entries to allow it. */
function* cut(k: Ctx, container: Ref, pages: readonly number[]): Path<void> {
  const a = k.arena;
  yield* mutexLock(k, container);
  for (const page of pages) {
    const area = findDma(a, container, page, 1);
    if (area === 0 || iovaOf(a, area) === page || a.get(area, DMA.busy) === 1) continue;
    const keep = page - iovaOf(a, area);
    const object = a.get(area, DMA.pages);
    const rest = newArea(a, container, page, {
      object,
      start: a.get(area, DMA.pagesStart) + keep,
      pages: sizeOf(a, area) - keep,
      prot: a.get(area, DMA.prot),
    });
    if (k.at(S.LinkDma, container)) yield;
    a.set(area, DMA.sizePages, keep);
    a.set(rest, DMA.busy, 0);
    a.set(rest, DMA.iommuMapped, a.get(area, DMA.iommuMapped));
    yield* mutexLock(k, object, PAGES);
    a.set(rest, DMA.nextArea, a.get(area, DMA.nextArea));
    a.set(area, DMA.nextArea, rest);
    yield* mutexUnlock(k, object, PAGES);
    link(a, container, rest);
  }
  yield* unlock(k, container);
}

/**
 * IOMMU_IOAS_COPY at a fixed iova: further areas of the same pages. 0; -ENOENT where the source is not mapped
 * throughout; -EEXIST; whatever pinning answers.
 */
export function* iommufdCopy(
  k: Ctx,
  m: {
    readonly from: Ref;
    readonly fromPage: number;
    readonly pages: number;
    readonly to: Ref;
    readonly toPage: number;
    readonly prot: number;
  },
): Path<number> {
  const a = k.arena;
  const pieces: Piece[] = [];
  yield* mutexLock(k, m.from);
  const end = m.fromPage + m.pages;
  for (let page = m.fromPage; page < end;) {
    const area = findDma(a, m.from, page, 1);
    if (area === 0 || a.get(area, DMA.busy) === 1) break;
    const skipped = page - iovaOf(a, area);
    const pages = Math.min(end - page, sizeOf(a, area) - skipped);
    const object = a.get(area, DMA.pages);
    Atomics.add(a.i32, object + PAGES.refs, 1);
    pieces.push({ object, start: a.get(area, DMA.pagesStart) + skipped, pages, prot: m.prot });
    page += pages;
  }
  yield* unlock(k, m.from);
  const found = pieces.reduce((n, p) => n + p.pages, 0);
  const writes = (m.prot & MAP_FLAG_WRITE) !== 0 && pieces.some((p) => a.get(p.object, PAGES.writable) === 0);
  let ret = found < m.pages || m.pages === 0 ? -ENOENT : writes ? -EPERM : 0;
  if (ret === 0) ret = yield* ioptMapPages(k, m.to, m.toPage, pieces);
  for (const { object } of pieces) pagesPut(k, object);
  return ret;
}

/**
 * iopt_table_add_domain, which has been counted: the first domain gets the pages of every area, or none, and the pages
 * are the mapping process's whoever attaches. 0 or a negative errno.
 */
export function* iommufdAddDomain(k: Ctx, container: Ref): Path<number> {
  const a = k.arena;
  if (a.get(container, CONTAINER.domains) !== 1) return 0;
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  const done: Ref[] = [];
  let ret = 0;
  for (let area = index.first(root); area !== 0 && ret === 0; area = index.next(root, area)) {
    ret = yield* fillArea(k, container, area);
    if (ret === 0) done.push(area);
  }
  if (ret !== 0) for (const area of done) yield* unfillArea(k, area);
  return ret;
}

/** iopt_table_remove_domain of the last one: the areas stay, their pages go. */
export function* iommufdRemoveDomain(k: Ctx, container: Ref): Path<void> {
  const index = orders(k.arena).dma;
  const root = container + CONTAINER.dmaRoot;
  for (let area = index.first(root); area !== 0; area = index.next(root, area)) yield* unfillArea(k, area);
}

/** The last close: every area goes. */
export function* iommufdRelease(k: Ctx, container: Ref): Path<void> {
  const a = k.arena;
  const root = container + CONTAINER.dmaRoot;
  for (let area = orders(a).dma.first(root); area !== 0; area = orders(a).dma.first(root)) {
    yield* unfillArea(k, area);
    if (k.at(S.UnlinkDma, container)) yield;
    removeArea(k, container, area);
  }
}

/** IOMMU_OPTION_RLIMIT_MODE: 1 the mm pays, 0 the user. 0, -EPERM without CAP_SYS_RESOURCE, -EBUSY, -EINVAL. */
export function* iommufdSetRlimitMode(k: Ctx, container: Ref, value: number, capSysResource: boolean): Path<number> {
  if (k.at(S.Capable, k.current)) yield;
  if (!capSysResource) return -EPERM;
  if (k.arena.get(container, CONTAINER.dmaCount) > 0) return -EBUSY;
  if (value !== 0 && value !== 1) return -EINVAL;
  k.arena.set(container, CONTAINER.accountMode, value === 1 ? AccountMode.Mm : AccountMode.User);
  return 0;
}

/**
 * IOMMU_IOAS_CHANGE_PROCESS: everything the caller's IOASes have pinned is charged to the caller, then taken from
 * whoever paid before. 0; -EINVAL where something is not a file's; -ENOMEM over the caller's limit, nothing having
 * changed.
 */
export function* iommufdChangeProcess(k: Ctx): Path<number> {
  const a = k.arena;
  const files = filesOf(a, k.current);
  const containers: Ref[] = [];
  for (let i = 0; i < FILES_MAX; i += 1) {
    const container = a.get(files, FILES.container0 + i);
    if (container !== 0) containers.push(container);
  }
  const objects = new Set<Ref>();
  for (const container of containers) yield* mutexLock(k, container);
  const root = (c: Ref): Ref => c + CONTAINER.dmaRoot;
  for (const c of containers) {
    for (let area = orders(a).dma.first(root(c)); area !== 0; area = orders(a).dma.next(root(c), area)) {
      objects.add(a.get(area, DMA.pages));
    }
  }
  const ret = [...objects].some((o) => a.get(o, PAGES.file) === 0) ? -EINVAL : yield* changeOwners(k, [...objects]);
  for (const container of containers.toReversed()) yield* unlock(k, container);
  return ret;
}
