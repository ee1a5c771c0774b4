/**
 * khugepaged on one address space: looks at 2 MiB of page table under mmap_sem for read, and where the pages can become
 * one huge page, copies them under mmap_sem for write. Source: mm/khugepaged.c (hpage_collapse_scan_pmd,
 * collapse_huge_page), 4.10 to 6.12.
 *
 * A page that somebody holds a reference on, as VFIO does on what it has pinned, is never collapsed: the scan counts
 * references and gives up under the read lock alone (SCAN_PAGE_COUNT).
 *
 * differs: the memory keeps its page size in the model, so it can be collapsed again; newer kernels only try to get the
 * lock to begin a scan.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { downRead, downWriteKillable, upRead, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';

const PMD_PAGES = 512;

/** Looks at `areas` times 2 MiB, of which every `suitable`th one is collapsed; 0 none. The number collapsed. */
export function* khugepagedScan(k: Ctx, mm: Ref, areas: number, suitable: number): Path<number> {
  let collapsed = 0;
  for (let area = 1; area <= areas; area += 1) {
    yield* downRead(k, mm);
    if (k.atMany(S.WalkPte, mm, PMD_PAGES)) yield;
    yield* upRead(k, mm);
    if (suitable === 0 || area % suitable !== 0) continue;
    if ((yield* downWriteKillable(k, mm)) !== 0) return collapsed;
    if (k.at(S.Collapse, mm)) yield;
    yield* upWrite(k, mm);
    collapsed += 1;
  }
  return collapsed;
}
