/**
 * The shortest history of a violation: a live run has millions of steps, so the interleaving is looked for in the small
 * cases of known defects instead, by exhaustive search on the variant that ran.
 */
import { basename } from 'node:path';
import type { CaseOp } from '../engine/explore/case.ts';
import type { OpName } from '../metrics/ops.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import type { RunResults, Violation } from '../report/results.ts';
import { loadProgram } from './explore-program.ts';
import { historyFiles, reportOf, runRow } from './known-defects.ts';

/** The operation of a run that an operation of a case stands for; without it the case says nothing of the run. */
const NEEDS: Readonly<Partial<Record<CaseOp['op'], OpName>>> = {
  pin: 'pin',
  unpin: 'unpin',
  attach: 'attach',
  detach: 'detach',
  exec: 'exec',
  exit: 'exit',
  kill: 'exit',
  update_vaddr: 'vaddr_update',
  invalidate_vaddr: 'vaddr_update',
};

/** The results with a history for every violated invariant that a known defect of the variant explains. */
export async function withHistories(results: RunResults): Promise<RunResults> {
  const { accounting, run, latency } = results;
  const open = accounting.violations.filter(({ count, history }) => count > 0 && history === null);
  if (open.length === 0) return results;
  const wanted = new Set(open.map(({ invariant }) => invariant));
  const found = await knownHistories(run.variant, wanted, new Set(latency.map(({ op }) => op)));
  const violations = accounting.violations.map((v): Violation => ({
    ...v,
    history: v.history ?? found.get(v.invariant) ?? null,
  }));
  return { ...results, accounting: { ...accounting, violations } };
}

/** By invariant, the first case that violates it with operations the run has too. */
async function knownHistories(
  variantId: string,
  wanted: ReadonlySet<string>,
  ran: ReadonlySet<OpName>,
): Promise<ReadonlyMap<string, string>> {
  const variant = resolveVariant(variantId);
  const histories = new Map<string, string>();
  for (const file of historyFiles()) {
    const { plan, defect } = await loadProgram(file);
    const needed = plan.actors.flatMap(({ ops }) => ops.flatMap(({ op }) => NEEDS[op] ?? []));
    if (defect?.variants.includes(variant.id) !== true || !needed.every((op) => ran.has(op))) continue;
    const row = await runRow(file, [variant]);
    const report = await reportOf(row, variant);
    if (report === null || !wanted.has(report.kind) || histories.has(report.kind)) continue;
    histories.set(
      report.kind,
      [
        `${defect.title} (${defect.id}): the smallest case known, not the steps of this run.`,
        '',
        report.chart.trimEnd(),
        '',
        `pinstorm explore cases/history/${basename(file)} --variant ${variantId}`,
        `pinstorm replay ${report.token}`,
      ].join('\n'),
    );
    if (histories.size === wanted.size) break;
  }
  return histories;
}
