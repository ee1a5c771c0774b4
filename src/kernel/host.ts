/**
 * What there is on this host: IOMMU groups with their devices and drivers, the VFIO modules, memory, limits. It only
 * reads, and only what sysfs, procfs and the file modes tell: nothing is opened that a driver would notice.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CONTAINER_NODE, groupNode } from './vfio.ts';

export interface Device {
  /** PCI address, for example 0000:03:00.0; of another bus its name there. */
  readonly address: string;
  readonly driver: string | null;
  /** A PCI bridge: it may keep its driver. */
  readonly bridge: boolean;
}

export interface Group {
  readonly number: number;
  readonly devices: readonly Device[];
  /** Whether its node below /dev/vfio exists and may be opened. */
  readonly node: Access;
}

export type Access = 'missing' | 'denied' | 'usable';

export interface Host {
  /** As uname tells it. */
  readonly release: string;
  /** All IOMMU groups by number; empty without an IOMMU. */
  readonly groups: ReadonlyMap<number, Group>;
  readonly containerNode: Access;
  /** dma_entry_limit of vfio_iommu_type1; null while the module is not loaded. */
  readonly dmaEntryLimit: number | null;
  /** What can be taken without swapping, of the host and of the control groups of this process. */
  readonly memoryLeftBytes: number;
  readonly freeHugePages: number;
  readonly thp: boolean;
  /** Soft RLIMIT_MEMLOCK of this process, bytes; null: unlimited. */
  readonly memlockBytes: bigint | null;
  readonly capIpcLock: boolean;
  /**
   * The machine was booted for pinstorm alone, its kernel command line says so, and this process may set parameters of
   * the kernel.
   */
  readonly ownMachine: boolean;
}

/** Where a module says how many mappings a container may have. */
export const ENTRY_LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';
const OWN_MACHINE = 'pinstorm.own_machine=1';
const CAP_IPC_LOCK = 14n;
const BRIDGE_CLASS = '0x06';

/** @param root where /sys, /proc and /dev are; tests make their own. */
export function readHost(root = '/'): Host {
  const at = (path: string): string => join(root, path);
  const text = (path: string): string => readText(at(path));
  const meminfo = text('/proc/meminfo');
  const amount = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1] ?? 0);
  const limit = text(ENTRY_LIMIT).trim();
  const capabilities = /^CapEff:\s+([0-9a-f]+)$/m.exec(text('/proc/self/status'))?.[1] ?? '0';
  const memlock = /^Max locked memory\s+(\S+)/m.exec(text('/proc/self/limits'))?.[1];
  return {
    release: text('/proc/sys/kernel/osrelease').trim(),
    groups: readGroups(at),
    containerNode: access(at(CONTAINER_NODE)),
    dmaEntryLimit: limit === '' ? null : Number(limit),
    memoryLeftBytes: memoryLeftBytes(root),
    freeHugePages: amount('Hugepagesize') === 2048 ? amount('HugePages_Free') : 0,
    thp: /\[(always|madvise)\]/.test(text('/sys/kernel/mm/transparent_hugepage/enabled')),
    memlockBytes: memlock === 'unlimited' ? null : BigInt(memlock ?? 0),
    capIpcLock: ((BigInt(`0x${capabilities}`) >> CAP_IPC_LOCK) & 1n) === 1n,
    ownMachine: text('/proc/cmdline').trim().split(/\s+/).includes(OWN_MACHINE) && access(at(ENTRY_LIMIT)) === 'usable',
  };
}

/** Empty for what is not there or may not be read. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path).toSorted();
  } catch {
    return [];
  }
}

function access(path: string): Access {
  if (!existsSync(path)) return 'missing';
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return 'usable';
  } catch {
    return 'denied';
  }
}

function readGroups(at: (path: string) => string): Map<number, Group> {
  const folder = '/sys/kernel/iommu_groups';
  const groups = list(at(folder))
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      const number = Number(name);
      const devices = list(at(`${folder}/${name}/devices`)).map((address) => {
        const device = at(`${folder}/${name}/devices/${address}`);
        return {
          address,
          driver: linkName(join(device, 'driver')),
          bridge: readText(join(device, 'class')).startsWith(BRIDGE_CLASS),
        };
      });
      return { number, devices, node: access(at(groupNode(number))) };
    });
  return new Map(groups.toSorted((a, b) => a.number - b.number).map((group) => [group.number, group]));
}

function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

export function memoryLeftBytes(root = '/'): number {
  const at = (path: string): string => join(root, path);
  const available = /^MemAvailable:\s+(\d+)/m.exec(readText(at('/proc/meminfo')))?.[1];
  return Math.min(Number(available ?? 0) * 1024, cgroupLeftBytes(at));
}

/** Of control groups version 2, and of version 1 where it is mounted. Infinity without a limit. */
function cgroupLeftBytes(at: (path: string) => string): number {
  const cgroups = readText(at('/proc/self/cgroup')).split('\n');
  const unified = cgroups.find((line) => line.startsWith('0::'))?.slice('0::'.length) ?? '/';
  const memory = /^\d+:[^:]*\bmemory\b[^:]*:(.*)$/m.exec(cgroups.join('\n'))?.[1];
  const left = [
    ...above(unified).map((path) => [`/sys/fs/cgroup${path}/memory.max`, `/sys/fs/cgroup${path}/memory.current`]),
    ...above(memory ?? '/').map((path) => [
      `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`,
      `/sys/fs/cgroup/memory${path}/memory.usage_in_bytes`,
    ]),
  ].map(([most, used]) => {
    const limit = readText(at(most as string)).trim();
    return /^\d+$/.test(limit) ? Number(limit) - Number(readText(at(used as string)).trim()) : Infinity;
  });
  return Math.min(Infinity, ...left);
}

/** A control group and those it is in: `/a/b` gives `/a/b`, `/a` and the root. */
function above(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts
      .slice(0, parts.length - i)
      .map((part) => `/${part}`)
      .join(''),
  );
}
