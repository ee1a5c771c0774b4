/**
 * A libc whose kernel is the model: descriptors, ioctl arguments and /proc/self/status as the real one has them, and
 * behind them the paths of a variant. One process of one thread.
 */
import { EBADF, EBUSY, EINVAL, ENOMEM, ENOTTY } from '../../src/base/errno.ts';
import { U64_MAX } from '../../src/base/units.ts';
import { Direct } from '../../src/engine/direct.ts';
import { ADVICE, type Libc, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_HUGETLB } from '../../src/kernel/libc.ts';
import { CONTAINER_NODE, IOMMU_TYPE, VFIO } from '../../src/kernel/vfio.ts';
import { Backing } from '../../src/model/address-space/memory.ts';
import { Arena, type Ref } from '../../src/model/arena.ts';
import type { Ctx, Variant } from '../../src/model/env.ts';
import { CONTAINER, FILES, GROUP, TASK } from '../../src/model/layout.ts';
import { lockedVm } from '../../src/model/locked-vm.ts';
import { mmNew, setMemlockBytes, taskMm } from '../../src/model/mm.ts';
import {
  closeContainer,
  closeGroup,
  containerOf,
  filesNew,
  filesOf,
  groupOf,
  openContainer,
} from '../../src/model/paths/files.ts';
import { madviseDontneed, madvisePopulate } from '../../src/model/paths/madvise.ts';
import { vfioDmaDoMap } from '../../src/model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../src/model/paths/mlock.ts';
import { sysMmap, sysMprotect, sysMunmap } from '../../src/model/paths/mmap.ts';
import { processNew } from '../../src/model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';
import { pageRange } from '../../src/study/conform/buffer.ts';
import { BUFFER } from '../../src/transcript/transcript.ts';

const PAGE = 4096n;

export interface ModelHost {
  readonly variant: Variant;
  readonly iovaRanges: readonly (readonly [bigint, bigint])[];
  readonly pageSizes: bigint;
  /** Numbers of the groups, container 0 first. */
  readonly groups: readonly number[];
}

type File =
  | { readonly kind: 'status' | 'memfd' | 'device' }
  | { readonly kind: 'container'; index: number }
  | { readonly kind: 'group'; readonly index: number };

export class ModelLibc implements Libc {
  readonly #arena = Arena.create(
    {
      mm: 4,
      task: 4,
      process: 4,
      files: 4,
      user: 4,
      container: 200,
      group: 200,
      dma: 400,
      chunk: 100_000,
      pages: 400,
      vpfn: 1,
      seg: 100_000,
      vwork: 1,
      actor: 4,
    },
    false,
  );
  readonly #direct: Direct;
  readonly #task: Ref;
  readonly #k: Ctx;
  readonly #files = new Map<number, File>();
  #nextFd = 3;
  #memfdPages = 0;
  dmaEntryLimit = 65535;
  #limit = { soft: U64_MAX, hard: U64_MAX };

  constructor(private readonly host: ModelHost) {
    this.#direct = new Direct(this.#arena, host.variant, { aperture: { ranges: host.iovaRanges } });
    const files = filesNew(this.#arena);
    this.#task = processNew(this.#arena, { mm: mmNew(this.#arena, 0), files, memlockBytes: U64_MAX, capIpcLock: true });
    this.#k = this.#direct.as(this.#task);
  }

  /** Descriptors that are open. */
  get openFiles(): number {
    return this.#files.size;
  }

  open(path: string): number {
    if (path === '/proc/self/status') return this.#fd({ kind: 'status' });
    if (path === CONTAINER_NODE) return this.#fd({ kind: 'container', index: -1 });
    const index = this.host.groups.findIndex((group) => path === `/dev/vfio/${group}`);
    return this.#busy(index) ? -EBUSY : this.#fd({ kind: 'group', index });
  }

  close(fd: number): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -EBADF;
    this.#files.delete(fd);
    const files = filesOf(this.#arena, this.#task);
    if (file.kind === 'container' && file.index >= 0) this.#direct.run(closeContainer(this.#k, files, file.index));
    if (file.kind === 'group') this.#direct.run(closeGroup(this.#k, files, file.index));
    return 0;
  }

  readStart(fd: number, into: Uint8Array): number {
    if (this.#files.get(fd)?.kind !== 'status') return -EBADF;
    const kb = (lockedVm(this.#arena, taskMm(this.#arena, this.#task)) << 2n) & U64_MAX;
    const text = `Name:\tnode\nVmLck:\t${String(kb).padStart(8)} kB\nVmPin:\t       0 kB\n`;
    return new TextEncoder().encodeInto(text, into).written;
  }

  lockFile = (): number => 0;

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -EBADF;
    const view = new DataView(argument.buffer);
    if (file.kind === 'group' && request === VFIO.groupSetContainer) {
      const container = this.#files.get(view.getInt32(0, true));
      if (container?.kind !== 'container') return -EBADF;
      container.index = file.index;
      return 0;
    }
    if (file.kind === 'group' && request === VFIO.groupGetDeviceFd) return this.#fd({ kind: 'device' });
    if (file.kind !== 'container') return -ENOTTY;
    const container = containerOf(this.#k, file.index);
    if (container < 0) return container;
    if (request === VFIO.iommuGetInfo) return this.#info(container, view);
    return request === VFIO.iommuMapDma ? this.#map(container, view) : this.#unmap(container, view);
  }

  ioctlValue(fd: number, request: number, value: number): number {
    const file = this.#files.get(fd);
    if (file?.kind !== 'container' || request !== VFIO.setIommu) return -ENOTTY;
    const { dmaEntryLimit } = this;
    const { index } = file;
    const v2 = value === IOMMU_TYPE.type1v2;
    openContainer(this.#arena, filesOf(this.#arena, this.#task), { index, v2, dmaEntryLimit });
    return 0;
  }

  mmap(at: bigint, bytes: bigint, prot: number, flags: number, fd: number, offset: bigint): number {
    // Only asks whether the place is free.
    if (flags & MAP_FIXED_NOREPLACE) return 0;
    const range = pageRange('mmap', (at - BUFFER) & U64_MAX, bytes);
    if (range === -ENOMEM && flags & MAP_HUGETLB && bytes > U64_MAX - PAGE + 1n) return -EINVAL;
    if (typeof range === 'number') return range;
    const kind = this.#files.get(fd)?.kind;
    if ((flags & MAP_ANONYMOUS) === 0 && kind === undefined) return -EBADF;
    const backing =
      kind === 'device'
        ? Backing.Bar
        : kind === 'memfd'
          ? Backing.Memfd
          : flags & MAP_HUGETLB
            ? Backing.Hugetlb2m
            : Backing.Anon;
    return this.#place(range, backing, prot, offset);
  }

  munmap(at: bigint, bytes: bigint): number {
    return this.#range('munmap', at, bytes, (page, pages) => this.#direct.run(sysMunmap(this.#k, page, pages)));
  }

  mprotect(at: bigint, bytes: bigint, prot: number): number {
    return this.#range('mprotect', at, bytes, (page, pages) =>
      this.#direct.run(sysMprotect(this.#k, page, pages, prot)),
    );
  }

  madvise(at: bigint, bytes: bigint, advice: number): number {
    return this.#range('madvise', at, bytes, (page, pages) => {
      if (advice === ADVICE.hugepage || advice === ADVICE.nohugepage) {
        // Nothing is in the area yet, so it may be made once more.
        const prot = this.#direct.addressSpace
          .segments(taskMm(this.#arena, this.#task))
          .find((s) => s.startPage <= page && page < s.endPage)?.prot;
        const backing = advice === ADVICE.hugepage ? Backing.Thp : Backing.Anon4k;
        return this.#place({ page, pages }, backing, prot ?? 0, 0n);
      }
      return this.#direct.run(
        advice === ADVICE.dontneed
          ? madviseDontneed(this.#k, page, pages)
          : madvisePopulate(this.#k, page, pages, advice === ADVICE.populate_write),
      );
    });
  }

  mlock = (at: bigint, bytes: bigint): number => this.#direct.run(sysMlock(this.#k, at, bytes, false));
  mlock2 = (at: bigint, bytes: bigint): number => this.#direct.run(sysMlock(this.#k, at, bytes, true));
  munlock = (at: bigint, bytes: bigint): number => this.#direct.run(sysMunlock(this.#k, at, bytes));
  memfdCreate = (): number => this.#fd({ kind: 'memfd' });

  ftruncate(_: number, bytes: bigint): number {
    this.#memfdPages = Number((bytes + PAGE - 1n) / PAGE);
    return 0;
  }

  memlock(set: { readonly soft: bigint; readonly hard: bigint } | null): { soft: bigint; hard: bigint } {
    const old = this.#limit;
    if (set !== null) {
      this.#limit = { ...set };
      setMemlockBytes(this.#arena, this.#task, set.soft);
    }
    return old;
  }

  setCapIpcLock(on: boolean): number {
    this.#arena.set(this.#task, TASK.capIpcLock, on ? 1 : 0);
    return 0;
  }

  dieWithParent = (): number => 0;
  pageBytes = (): number => 4096;

  #fd(file: File): number {
    this.#files.set(this.#nextFd, file);
    return this.#nextFd++;
  }

  /** A group is opened once, and mappings of its device keep it busy. */
  #busy(index: number): boolean {
    const a = this.#arena;
    if (a.get(filesOf(a, this.#task), FILES.group0 + index) !== 0) return true;
    return this.#direct.addressSpace
      .segments(taskMm(a, this.#task))
      .some(({ file }) => file !== 0 && a.get(a.get(file, GROUP.container), CONTAINER.index) === index);
  }

  #map(container: Ref, view: DataView): number {
    return this.#direct.run(
      vfioDmaDoMap(this.#k, container, {
        argsz: view.getUint32(0, true),
        flags: view.getUint32(4, true) | 0,
        vaddr: view.getBigUint64(8, true),
        iova: view.getBigUint64(16, true),
        size: view.getBigUint64(24, true),
      }),
    );
  }

  #unmap(container: Ref, view: DataView): number {
    const args = {
      argsz: view.getUint32(0, true),
      flags: view.getUint32(4, true) | 0,
      iova: view.getBigUint64(8, true),
      size: view.getBigUint64(16, true),
      unmapped: 0n,
    };
    const ret = this.#direct.run(vfioDmaDoUnmap(this.#k, container, args));
    if (ret === 0) view.setBigUint64(16, args.unmapped, true);
    return ret;
  }

  #info(container: Ref, view: DataView): number {
    const a = this.#arena;
    if (a.get(container, CONTAINER.released) !== 0) return -EINVAL;
    const { iovaRanges, pageSizes } = this.host;
    view.setUint32(4, 1 | 2, true);
    view.setBigUint64(8, pageSizes, true);
    view.setUint32(16, 32, true);
    const next = 48 + 16 * iovaRanges.length;
    view.setUint16(32, 1, true);
    view.setUint32(36, next, true);
    view.setUint32(40, iovaRanges.length, true);
    for (const [i, [first, last]] of iovaRanges.entries()) {
      view.setBigUint64(48 + 16 * i, first, true);
      view.setBigUint64(56 + 16 * i, last, true);
    }
    view.setUint16(next, 3, true);
    view.setUint32(next + 8, a.get(container, CONTAINER.dmaAvail), true);
    return 0;
  }

  #range(
    call: 'munmap' | 'mprotect' | 'madvise',
    at: bigint,
    bytes: bigint,
    then: (page: number, pages: number) => number,
  ): number {
    const range = pageRange(call, (at - BUFFER) & U64_MAX, bytes);
    return typeof range === 'number' ? range : then(range.page, range.pages);
  }

  #place({ page, pages }: { page: number; pages: number }, backing: Backing, prot: number, offset: bigint): number {
    return this.#direct.run(
      sysMmap(this.#k, page, pages, {
        backing,
        prot,
        sourcePage: Number(offset / PAGE),
        file: backing === Backing.Bar ? groupOf(this.#k, 0) : 0,
        filePages: this.#memfdPages,
      }),
    );
  }
}
