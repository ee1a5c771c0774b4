/** docs/history, made from the cases and from what explore finds. */
import { historyText } from '../../src/study/history-text.ts';
import type { Variant } from '../../src/model/env.ts';
import type { Report } from '../../src/run/explore-program.ts';
import type { Row } from '../../src/run/known-defects.ts';

const fence = (text: string, language = 'text'): string => `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;

export function historyPage(row: Row, variant: Variant, report: Report): string {
  const { defect } = row;
  const found = row.cells.filter((c) => c.found.length > 0).map((c) => c.variant);
  const clean = row.cells.filter((c) => c.applies && c.found.length === 0 && c.exhausted);
  const kinds = [...new Set(row.cells.flatMap((c) => c.found))];
  const most = Math.max(0, ...clean.map((c) => c.interleavings));
  return [
    `# ${defect.id}: ${defect.title}`,
    defect.story,
    `Source: ${defect.source}.${defect.hypothesis ? ' A hypothesis, derived from the code; the model confirms it.' : ''}`,
    `**Found** on ${found.join(', ')}, by the invariants ${kinds.map((k) => `\`${k}\``).join(' and ')}. **Exhausted** without a violation on ${
      clean.map((c) => c.variant).join(', ') || 'none'
    }${clean.length > 0 ? ` (up to ${most} interleavings each)` : ''}.`,
    `## What goes wrong`,
    `Variant ${variant.id} (${variant.kernels}), ${report.preemptions === 1 ? '1 preemption' : `${report.preemptions} preemptions`}: ${report.detail}.`,
    fence(report.chart),
    `## The fix`,
    defect.fix,
    `## Replay it`,
    fence(
      `pinstorm explore cases/history/${row.program.plan.name}.yaml --variant ${variant.id}\npinstorm replay ${report.token}`,
      'sh',
    ),
  ].join('\n\n');
}

export function historyReadme(rows: readonly Row[]): string {
  const list = rows.map((r) => `- [${r.defect.id}](${r.program.plan.name}.md): ${r.defect.title}`);
  const hypotheses = rows.filter((r) => r.defect.hypothesis);
  return [
    '# The history of this accounting, as explore finds it',
    'Each known defect is a case of a few operations (cases/history), run on every variant under every interleaving. The invariants know no defect by name. `pinstorm history` prints this table and compares it with what commit messages and mails say.',
    fence(historyText(rows)),
    list.join('\n'),
    `## Hypotheses`,
    `Some defects nobody upstream is known to have described; they were derived from reading the code. The model's verdict on them:`,
    hypotheses
      .map((r) => {
        const found = r.cells.filter((c) => c.found.length > 0).map((c) => c.variant);
        return `- ${r.defect.id}, ${r.defect.title}: confirmed on ${found.join(', ')}`;
      })
      .join('\n'),
    `## What is not here`,
    `K6 (B is slower) and K24 (writers starve other pin loops) are matters of time: see \`pinstorm compare\`. K18 and K22 are wrong pages and wrong counts inside one batch or tree of a release candidate, K19 is a reference count of the zero page, K23 a missing reschedule: the model has none of these. No case can bring together what needs memory of another kind (BAR, zero page, file), a capability that is dropped on the way, a copy or a change of process of iommufd, or two users; the unit tests and the recordings of real kernels do. Dirty-page tracking, DMA by the CPU through a container, and IOVA ranges that a new group takes away are not modelled. K20, K25 and K26 are limits by design, K21 ends in BUG_ON by design.`,
  ].join('\n\n');
}
