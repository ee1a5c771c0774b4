/**
 * VFIO type1 through ioctls, as include/uapi/linux/vfio.h defines them. Arguments are any 64-bit values, also those
 * that the kernel must refuse. Linux uapi, vfio.h, 6.1.
 */
import {
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_VADDR,
  MAP_FLAG_WRITE,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  UNMAP_FLAG_VADDR,
} from '../model/ioctl-args.ts';
import type { Libc } from './libc.ts';
import { O_RDWR } from './libc.ts';

const BASE = 0x3b00 + 100;
export const VFIO = {
  setIommu: BASE + 2,
  groupSetContainer: BASE + 4,
  groupGetDeviceFd: BASE + 6,
  iommuGetInfo: BASE + 12,
  iommuMapDma: BASE + 13,
  iommuUnmapDma: BASE + 14,
} as const;

/** What VFIO_SET_IOMMU is given. */
export const IOMMU_TYPE = { type1: 1, type1v2: 3 } as const;

export const MAP_FLAGS = { r: MAP_FLAG_READ, w: MAP_FLAG_WRITE, VADDR: MAP_FLAG_VADDR } as const;
export const UNMAP_FLAGS = { ALL: UNMAP_FLAG_ALL, VADDR: UNMAP_FLAG_VADDR } as const;

const INFO_BYTES = 4096;
const INFO_CAPS = 2;
const CAP_IOVA_RANGE = 1;
const CAP_DMA_AVAIL = 3;

export const CONTAINER_NODE = '/dev/vfio/vfio';
export const groupNode = (group: number): string => `/dev/vfio/${group}`;

export interface IommuInfo {
  /** Bit mask of the page sizes. */
  readonly pageSizes: bigint;
  readonly iovaRanges: readonly (readonly [first: bigint, last: bigint])[];
  /** Free mapping slots; null when the kernel does not tell them. */
  readonly avail: number | null;
}

/** A container with one group. Calls return 0 or more, or minus the errno; on closed descriptors EBADF. */
export class Container {
  /** -1 when closed. */
  fd = -1;
  groupFd = -1;

  constructor(
    private readonly libc: Libc,
    readonly group: number,
  ) {}

  /** The errno is that of the first step that fails; then nothing stays open. */
  open(iommu: keyof typeof IOMMU_TYPE): number {
    const { libc } = this;
    this.fd = libc.open(CONTAINER_NODE, O_RDWR);
    if (this.fd < 0) return this.#closed(this.fd);
    this.groupFd = libc.open(groupNode(this.group), O_RDWR);
    if (this.groupFd < 0) return this.#closed(this.groupFd);
    const container = new Int32Array([this.fd]);
    const attached = libc.ioctl(this.groupFd, VFIO.groupSetContainer, new Uint8Array(container.buffer));
    if (attached < 0) return this.#closed(attached);
    const set = libc.ioctlValue(this.fd, VFIO.setIommu, IOMMU_TYPE[iommu]);
    return set < 0 ? this.#closed(set) : 0;
  }

  /** The descriptor of a device of the group, by its PCI address. */
  device(address: string): number {
    return this.libc.ioctl(this.groupFd, VFIO.groupGetDeviceFd, new TextEncoder().encode(`${address}\0`));
  }

  map(a: { argsz?: number | undefined; flags: number; vaddr: bigint; iova: bigint; bytes: bigint }): number {
    const { argument, view } = argumentOf(MAP_ARGSZ);
    view.setUint32(0, a.argsz ?? MAP_ARGSZ, true);
    view.setUint32(4, a.flags, true);
    view.setBigUint64(8, a.vaddr, true);
    view.setBigUint64(16, a.iova, true);
    view.setBigUint64(24, a.bytes, true);
    return this.libc.ioctl(this.fd, VFIO.iommuMapDma, argument);
  }

  /** `sizeBytes` is what the kernel left in the size field. */
  unmap(a: { argsz?: number | undefined; flags: number; iova: bigint; bytes: bigint }): {
    readonly ret: number;
    readonly sizeBytes: bigint;
  } {
    // Behind it, because bit0 makes the kernel read the argument of a dirty bitmap as well.
    const { argument, view } = argumentOf(2 * UNMAP_ARGSZ);
    view.setUint32(0, a.argsz ?? UNMAP_ARGSZ, true);
    view.setUint32(4, a.flags, true);
    view.setBigUint64(8, a.iova, true);
    view.setBigUint64(16, a.bytes, true);
    const ret = this.libc.ioctl(this.fd, VFIO.iommuUnmapDma, argument);
    return { ret, sizeBytes: view.getBigUint64(16, true) };
  }

  /** Null when the container cannot be asked. */
  info(): IommuInfo | null {
    const { argument, view } = argumentOf(INFO_BYTES);
    view.setUint32(0, INFO_BYTES, true);
    if (this.fd < 0 || this.libc.ioctl(this.fd, VFIO.iommuGetInfo, argument) < 0) return null;
    const iovaRanges: [bigint, bigint][] = [];
    let avail: number | null = null;
    const first = view.getUint32(4, true) & INFO_CAPS ? view.getUint32(16, true) : 0;
    for (let at = first; at !== 0; at = view.getUint32(at + 4, true)) {
      const id = view.getUint16(at, true);
      if (id === CAP_DMA_AVAIL) avail = view.getUint32(at + 8, true);
      if (id !== CAP_IOVA_RANGE) continue;
      for (let i = 0; i < view.getUint32(at + 8, true); i += 1) {
        const range = at + 16 + 16 * i;
        iovaRanges.push([view.getBigUint64(range, true), view.getBigUint64(range + 8, true)]);
      }
    }
    return { pageSizes: view.getBigUint64(8, true), iovaRanges, avail };
  }

  closeContainer(): void {
    if (this.fd >= 0) this.libc.close(this.fd);
    this.fd = -1;
  }

  closeGroup(): void {
    if (this.groupFd >= 0) this.libc.close(this.groupFd);
    this.groupFd = -1;
  }

  #closed(ret: number): number {
    this.closeGroup();
    this.closeContainer();
    return ret;
  }
}

function argumentOf(bytes: number): { readonly argument: Uint8Array; readonly view: DataView } {
  const argument = new Uint8Array(new ArrayBuffer(bytes));
  return { argument, view: new DataView(argument.buffer) };
}
