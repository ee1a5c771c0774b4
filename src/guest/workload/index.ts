/** The workloads by name. Adding one: write its file, list it here. */
import { attachDetach } from './attach-detach.ts';
import { balloon, virtioMem } from './balloon.ts';
import { boot } from './boot.ts';
import { fault } from './fault.ts';
import { forkLoop } from './fork.ts';
import { hotplug } from './hotplug.ts';
import { hugeGuest } from './huge-guest.ts';
import { khugepaged } from './khugepaged.ts';
import { mapUnmap } from './map-unmap.ts';
import { mdevPin } from './mdev-pin.ts';
import { mlockLoop } from './mlock-loop.ts';
import { mmapMunmap } from './mmap-munmap.ts';
import { nullWorkload } from './null.ts';
import { parallelPin } from './parallel-pin.ts';
import { smaps } from './smaps.ts';
import { vaddrUpdate } from './vaddr-update.ts';
import type { Workload } from './workload.ts';

export type { Workload } from './workload.ts';

export const WORKLOADS: ReadonlyMap<string, Workload> = new Map(
  [
    nullWorkload,
    hugeGuest,
    mapUnmap,
    boot,
    fault,
    mlockLoop,
    mmapMunmap,
    mdevPin,
    attachDetach,
    parallelPin,
    hotplug,
    balloon,
    virtioMem,
    forkLoop,
    khugepaged,
    smaps,
    vaddrUpdate,
  ].map((w) => [w.name, w]),
);
