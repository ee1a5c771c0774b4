/** The history of the accounting: every known defect against every variant. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from '../console/shipped.ts';
import { unhurried } from '../console/unhurried.ts';
import { DfsStrategy } from '../engine/explore/dfs.ts';
import { type Found, searching } from '../engine/explore/search.ts';
import type { Variant } from '../model/env.ts';
import { VARIANTS } from '../model/kernels/index.ts';
import type { Defect } from '../scenario/case.ts';
import {
  DEFAULT_MAX_STEPS,
  loadProgram,
  makerOf,
  type Program,
  type Report,
  reportFailure,
  tokenFor,
} from './explore-program.ts';

export interface Cell {
  readonly variant: string;
  /** The variant has what the case needs: before 4.10, and in iommufd, there is no mdev pin of type1. */
  readonly applies: boolean;
  /** History says the variant had it. */
  readonly expected: boolean;
  /** The invariants that were violated first; empty: none was. */
  readonly found: readonly string[];
  /** Nothing was found, and nothing is left to search. */
  readonly exhausted: boolean;
  readonly interleavings: number;
  readonly agrees: boolean;
}

export interface Row {
  readonly file: string;
  readonly program: Program;
  readonly defect: Defect;
  readonly cells: readonly Cell[];
  /** The first failure of each variant that has one. */
  readonly failures: ReadonlyMap<string, Found>;
}

/** Executions of one cell at most. */
const MAX_SCHEDULES = 100_000;
const DIRECTORY = path.join(ROOT, 'cases', 'history');

/** The case files of the history, in order. */
export const historyFiles = (): string[] =>
  readdirSync(DIRECTORY)
    .filter((f) => f.endsWith('.yaml'))
    .toSorted()
    .map((f) => path.join(DIRECTORY, f));

/** Runs one case on every variant. The invariants alone decide; the case only says what to expect of them. */
export async function runRow(file: string, variants: readonly Variant[] = VARIANTS): Promise<Row> {
  const program = await loadProgram(file);
  const { defect } = program;
  if (defect === null) throw new Error(`${file} says of no defect that it shows it`);
  const failures = new Map<string, Found>();
  const cells: Cell[] = [];
  for (const variant of variants) cells.push(await cellOf(program, defect, variant, failures));
  return { file, program, defect, cells, failures };
}

async function cellOf(program: Program, defect: Defect, variant: Variant, failures: Map<string, Found>): Promise<Cell> {
  const expected = defect.variants.includes(variant.id);
  if (program.plan.mdev !== 'none' && variant.external === null) {
    const nothing = { found: [], exhausted: true, interleavings: 0 };
    return { variant: variant.id, applies: false, expected, ...nothing, agrees: !expected };
  }
  const x = makerOf(program, variant)(program.plan);
  const bounds = { maxSteps: DEFAULT_MAX_STEPS, maxSchedules: MAX_SCHEDULES };
  const result = await unhurried(searching(x, new DfsStrategy(), bounds));
  const [first] = result.failures.values();
  if (first !== undefined) failures.set(variant.id, first);
  return {
    variant: variant.id,
    applies: true,
    expected,
    found: [...result.failures.keys()],
    exhausted: result.verdict === 'exhausted',
    interleavings: result.interleavings,
    agrees: expected === result.failures.size > 0 && (expected || result.verdict === 'exhausted'),
  };
}

/** The token of what a variant failed with first, as it was found; null where it did not fail. */
export function tokenOf(row: Row, variant: string): string | null {
  const found = row.failures.get(variant);
  return found === undefined
    ? null
    : tokenFor(row.program, variant, { ...found, kind: found.failure.kind, dropped: [] });
}

/** The failure of a row under one variant, small, drawn and with its token; null where nothing fails. */
export async function reportOf(row: Row, variant: Variant): Promise<Report | null> {
  const found = row.failures.get(variant.id);
  return found === undefined ? null : reportFailure(row.program, variant, found, DEFAULT_MAX_STEPS);
}
