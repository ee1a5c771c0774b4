/**
 * A case: a small program for the explore driver. A few actors with a few operations each, as data; the same for dfs,
 * random, pct and replay. Cases come from YAML (src/scenario/case.ts) or from tests.
 */
import type { FaultSite } from '../../model/env.ts';
import type { InvariantName } from '../../model/oracle.ts';
import type { ActorPlan, GuestPlan } from '../plan.ts';

/** One operation of an actor: a system call or what stands for one. Page numbers count from the start of the buffer. */
export type CaseOp =
  | {
      readonly op: 'map';
      readonly iova: number;
      readonly page: number;
      readonly pages: number;
      readonly container: number;
    }
  | {
      readonly op: 'unmap' | 'invalidate_vaddr';
      readonly iova: number;
      readonly pages: number;
      readonly container: number;
    }
  | { readonly op: 'unmap_all'; readonly container: number }
  | { readonly op: 'mlock' | 'munlock'; readonly page: number; readonly pages: number }
  | { readonly op: 'touch' | 'munmap'; readonly page: number; readonly pages: number }
  | { readonly op: 'hold'; readonly mode: 'read' | 'write' }
  | { readonly op: 'setrlimit'; readonly pages: number }
  | { readonly op: 'close'; readonly container: number }
  | { readonly op: 'update_vaddr'; readonly iova: number; readonly pages: number; readonly container: number }
  | { readonly op: 'pin' | 'unpin'; readonly iova: number; readonly pages: number; readonly container: number }
  | { readonly op: 'attach' | 'detach'; readonly container: number }
  | { readonly op: 'exec' }
  | { readonly op: 'exit' }
  | { readonly op: 'kill'; readonly actor: string };

export type CaseOpName = CaseOp['op'];

export interface CaseActor {
  readonly name: string;
  readonly task: ActorPlan['task'];
  readonly ops: readonly CaseOp[];
}

/** What an execution ended with; parts left out may be anything. */
export interface AllowedOutcome {
  /** Results by actor, as `resultText` writes them. */
  readonly results?: Readonly<Record<string, readonly string[]>>;
  readonly lockedVmPages?: number;
  readonly pinnedPages?: number;
  readonly userLockedVmPages?: number;
}

export interface ExploreCase {
  readonly name: string;
  readonly about: string;
  readonly memoryPages: number;
  readonly contiguityPages: number;
  readonly populated: boolean;
  /** null = unlimited. */
  readonly memlockPages: number | null;
  readonly capIpcLock: boolean;
  readonly iommu: GuestPlan['iommu'];
  readonly containers: number;
  /** An mdev group in each container: its only group, or beside the one behind an IOMMU. */
  readonly mdev: 'none' | 'only' | 'beside';
  /** How often each site may fail in one execution; whether it does is explored. */
  readonly faults: Readonly<Partial<Record<FaultSite, number>>>;
  /** Run one after the other, before exploration begins. */
  readonly setup: readonly { readonly actor: string; readonly op: CaseOp }[];
  readonly actors: readonly CaseActor[];
  /** Empty: the invariants alone decide. */
  readonly outcomes: readonly AllowedOutcome[];
  /** Invariants known to be violated, by variant id. */
  readonly expect: Readonly<Record<string, readonly InvariantName[]>>;
  /** The variant when none is asked for. */
  readonly variant: string;
}

/** What the fields mean when a case leaves them out. */
export const CASE_DEFAULTS: Omit<ExploreCase, 'name' | 'actors'> = {
  about: '',
  memoryPages: 8,
  contiguityPages: 1,
  populated: true,
  memlockPages: 16,
  capIpcLock: false,
  iommu: 'type1v2',
  containers: 1,
  mdev: 'none',
  faults: {},
  setup: [],
  outcomes: [],
  expect: {},
  variant: 'E',
};

/** An operation as traces show it. */
export function opText(o: CaseOp): string {
  switch (o.op) {
    case 'map':
      return `MAP_DMA ${o.pages}p at ${o.iova}${o.container === 0 ? '' : ` c${o.container}`}`;
    case 'unmap':
      return `UNMAP_DMA ${o.pages}p at ${o.iova}${o.container === 0 ? '' : ` c${o.container}`}`;
    case 'unmap_all':
      return `UNMAP_DMA all${o.container === 0 ? '' : ` c${o.container}`}`;
    case 'mlock':
    case 'munlock':
    case 'touch':
    case 'munmap':
      return `${o.op} ${o.pages}p at ${o.page}`;
    case 'hold':
      return o.mode === 'read' ? 'read under mmap_sem' : 'write under mmap_sem';
    case 'setrlimit':
      return `setrlimit ${o.pages}p`;
    case 'close':
      return `close${o.container === 0 ? '' : ` c${o.container}`}`;
    case 'invalidate_vaddr':
      return `UNMAP_DMA vaddr at ${o.iova}`;
    case 'update_vaddr':
      return `MAP_DMA vaddr at ${o.iova}`;
    case 'pin':
    case 'unpin':
      return `vfio_${o.op}_pages ${o.pages}p at ${o.iova}`;
    case 'attach':
    case 'detach':
      return `${o.op} a group${o.container === 0 ? '' : ` c${o.container}`}`;
    case 'kill':
      return `kill ${o.actor}`;
    default:
      return o.op;
  }
}
