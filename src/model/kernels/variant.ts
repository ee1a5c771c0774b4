/**
 * A variant: one accounting policy as a kernel era had it. Data plus the few functions that differ.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import type { GupRules } from '../gup-rules.ts';
import type { RwsemRules } from '../rwsem.ts';
import type { ExternalRules } from '../paths/external.ts';
import type { MapArgs } from '../paths/map.ts';
import type { UnmapArgs } from '../paths/unmap.ts';
import type { PinCall } from '../paths/pin.ts';

/** iommufd instead of type1. */
export interface IommufdRules {
  /** Who pays: `creator` nobody if the creator has CAP_IPC_LOCK, else its user; `mm` likewise, but its mm; `none` nobody. */
  readonly account: 'creator' | 'mm' | 'none';
  /** The system calls of type1, as /dev/vfio/vfio offers them. */
  readonly compat: boolean;
}

export interface Variant {
  /** Short id, for example `D`. */
  readonly id: string;
  /** Kernel versions that had it, for people. */
  readonly kernels: string;
  /** Versions `linux-X.Y` that resolve to it: first and last, inclusive; null = open. */
  readonly versions: readonly (readonly [first: string, last: string | null])[];
  /** One line: what makes it itself. */
  readonly identity: string;
  readonly rwsem: RwsemRules;
  /** What GUP does to memory in that era. */
  readonly gup: GupRules;

  /** Pages are pinned in batches of up to 512 (5.12). */
  readonly batched: boolean;
  /** An unmap unpins each contiguous run with one call (6.18). */
  readonly bulkUnpin: boolean;
  /** Where pages are not batched: each is got under mmap_sem for read (4.16) instead of without the lock. */
  readonly lockedGup: boolean;
  /** Each chunk is pinned under an mm reference of its own (B). */
  readonly chunkReference: boolean;
  /** A failed trylock defers the update (A-D). */
  readonly deferring: boolean;
  /** locked_vm is an atomic counter, changed without mmap_sem (J). */
  readonly lockFree: boolean;
  /** A pin loop charges blocks of so many pages ahead (J-cache); 0 none. */
  readonly reservePages: number;
  /** What MAP_DMA records of its caller in the mapping. */
  readonly recordsTask: 'none' | 'thread' | 'leader';
  readonly recordsCap: boolean;
  readonly recordsMm: boolean;
  /** What UNMAP_DMA does with a mapping made in another address space. */
  readonly foreignUnmap: 'allowed' | 'stops';
  /** dma_entry_limit exists (5.1-rc4, 4.14.115, 4.19.38, 5.0.11). */
  readonly entryLimit: boolean;
  /** MAP_DMA tests the aperture and reserved windows (5.4). */
  readonly aperture: boolean;
  /** UNMAP_ALL and vaddr update exist (5.12). */
  readonly vaddrUpdate: boolean;
  /** A pin or attach that finds a mapping without a valid vaddr waits for one (5.12) or is refused (6.3). */
  readonly invalidVaddr: 'waits' | 'busy';
  /** How mdev drivers pin pages; null before 4.10, which has no mdev. */
  readonly external: ExternalRules | null;
  /** A failing replay at the attach of a group takes back what it has done (5.9). */
  readonly replayUnwinds: boolean;
  /** Wraps and truncations give EOVERFLOW instead of EINVAL (6.19). */
  readonly overflowErrors: boolean;

  readonly iommufd: IommufdRules | null;
  /** What takes the place of the type1 paths, if anything does. 0 or a negative errno. */
  mapDma?(k: Ctx, container: Ref, args: MapArgs): Path<number>;
  unmapDma?(k: Ctx, container: Ref, args: UnmapArgs): Path<number>;
  addDomain?(k: Ctx, container: Ref): Path<number>;
  removeDomain?(k: Ctx, container: Ref): Path<void>;
  release?(k: Ctx, container: Ref): Path<void>;

  /** vfio_pin_pages_remote: pins and accounts one chunk. Pages pinned, or a negative errno. */
  pinPages(k: Ctx, call: PinCall): Path<number>;
  /** Charges `npage` pages of a pinned chunk. 0 or a negative errno. */
  acctPin(k: Ctx, call: PinCall, npage: number): Path<number>;
  /** After a pin loop, whether it went well or not, still under the container's lock. */
  endPin?(k: Ctx, call: PinCall): Path<void>;
  /** Accounting outside the pin loop (unmap, release, unwinding, mdev): against whoever the mapping says. */
  acctDma(k: Ctx, dma: Ref, npage: number): Path<number>;
}
