/** Small cases for tests, and how to run one. */
import { CASE_DEFAULTS, type CaseActor, type CaseOp, type ExploreCase } from '../../../src/engine/explore/case.ts';
import { type DfsOptions, DfsStrategy } from '../../../src/engine/explore/dfs.ts';
import { Execution } from '../../../src/engine/explore/execution.ts';
import { search, type SearchOptions, type SearchResult } from '../../../src/engine/explore/search.ts';
import type { Variant } from '../../../src/model/env.ts';
import { resolveVariant } from '../../../src/model/kernels/index.ts';

export const map = (iova: number, pages: number, container = 0, page = 0): CaseOp => ({
  op: 'map',
  iova,
  page,
  pages,
  container,
});
export const unmap = (iova: number, pages: number, container = 0): CaseOp => ({ op: 'unmap', iova, pages, container });
export const hold = (mode: 'read' | 'write'): CaseOp => ({ op: 'hold', mode });
export const mlock = (page: number, pages: number): CaseOp => ({ op: 'mlock', page, pages });
export const munlock = (page: number, pages: number): CaseOp => ({ op: 'munlock', page, pages });
export const exec: CaseOp = { op: 'exec' };
export const exit: CaseOp = { op: 'exit' };
export const close: CaseOp = { op: 'close', container: 0 };

export const actor = (name: string, task: CaseActor['task'], ...ops: CaseOp[]): CaseActor => ({ name, task, ops });

export function caseOf(
  name: string,
  actors: readonly CaseActor[],
  more: Partial<Omit<ExploreCase, 'name' | 'actors'>> = {},
): ExploreCase {
  return { ...CASE_DEFAULTS, name, actors, ...more };
}

export const UNBOUNDED: SearchOptions = { maxSteps: 10_000, maxSchedules: 1_000_000 };

/** Every invariant that may be violated without ending the search. */
export const ANY: ReadonlySet<string> = new Set([
  'balance',
  'limit-bypass',
  'over-penalty',
  'wrap',
  'lost-update',
  'double-update',
  'leak-at-release',
  'mm-outlives-process',
]);

export function dfs(
  plan: ExploreCase,
  variant: string | Variant,
  how: DfsOptions = {},
  more: Partial<SearchOptions> = {},
): SearchResult {
  const v = typeof variant === 'string' ? resolveVariant(variant) : variant;
  return search(new Execution(plan, v), new DfsStrategy(how), { ...UNBOUNDED, ...more });
}
