/** The verdict in words: one sentence that says how the run went, and what to do about it. */
import { duration } from './format.ts';
import type { RunResults } from './results.ts';
import { stateOf } from './thresholds.ts';

/** One sentence: what the verdict is and what decided it. */
export function verdictSentence({ verdict, thresholds, accounting, complete, health }: RunResults): string {
  if (verdict.verdict === 'pass') {
    const held = thresholds.length === 0 ? '' : thresholds.length === 1 ? 'the threshold held' : 'every threshold held';
    const expected = accounting.violations.some((v) => v.expected && v.count > 0);
    const account =
      accounting.balance === 'unchecked'
        ? 'the account was not checked'
        : expected
          ? 'the account broke only the rules it was expected to break'
          : 'the account of locked memory was right';
    const late = health.saturated ? ' Latencies are not to be trusted: the generator was too late.' : '';
    return `Passed: ${held === '' ? '' : `${held}, and `}${account}.${late}`;
  }
  const [first = 'no reason was recorded'] = verdict.reasons;
  const others = verdict.reasons.length - 1;
  const rest = others < 1 ? '' : others === 1 ? ', and one more reason below' : `, and ${others} more reasons below`;
  if (verdict.verdict === 'fail') return `Failed: ${first}${rest}.`;
  return `Inconclusive: ${complete ? first : 'the run did not end, so what was measured proves nothing yet'}${complete ? rest : ''}.`;
}

/** What the reader can do next, the most important first; at least one thing. */
export function nextSteps(results: RunResults): string[] {
  const { accounting, coverage, health, thresholds, verdict, run, complete, stoppedByUser } = results;
  const steps: string[] = [];
  for (const { invariant, count, expected } of accounting.violations) {
    if (expected || count === 0) continue;
    steps.push(
      `Read the history of ${invariant} in the ledger below: it shows the interleaving. If variant ${run.variant} is known to do ` +
        'this, list the invariant under "expect" in the scenario; if not, it is a defect of the model or of the kernel it follows.',
    );
  }
  if (!complete) steps.push('Run it again to the end; the figures here are those of the part that was written.');
  if (coverage.workersLost > 0) {
    steps.push(
      'Look at the events for why a worker was lost, then run it again: guests of a lost worker are not in the figures.',
    );
  }
  if (coverage.guestsFailed > 0) steps.push('The table of guests says which guests failed and with which error.');
  if (health.saturated) {
    steps.push(`Do not trust these latencies: ${health.saturation?.advice ?? 'use fewer guests or more workers'}.`);
  }
  for (const t of thresholds) {
    const name = `${t.metric} ${t.expression}`;
    const state = stateOf(t);
    if (state === 'not judged') {
      steps.push(`${name} was not judged: nothing was measured. See why nothing got that far, or append "or empty".`);
    } else if (state === 'crossed') {
      steps.push(`${name} was crossed: ${t.unit === 'ns' ? whereTimeGoes(results) : whyErrors(results, t.metric)}`);
    }
  }
  if (stoppedByUser)
    steps.push('It was stopped before its end: run it again to the end for a verdict on the whole scenario.');
  if (steps.length > 0) return steps;
  if (verdict.verdict === 'pass') {
    return [
      'Nothing has to be done. To see what another accounting policy changes: pinstorm compare SCENARIO --variants D,E.',
    ];
  }
  return ['Run it again to the end.'];
}

/** What a crossed threshold of errors or counts calls for. */
function whyErrors({ accounting, run }: RunResults, metric: string): string {
  if (!metric.startsWith('op_errors')) return 'the counters say what happened how often.';
  const [note] = accounting.notes;
  const said = note === undefined ? '' : ` ("${note}")`;
  const limit = accounting.limitRefusals > 0 ? 'raise the limit (pinstorm advise says to what), or ' : '';
  return (
    `operations failed${said}: ${limit}if variant ${run.variant} is meant to refuse them, list the error under "expect" in ` +
    'the scenario, for example {map: ENOMEM}.'
  );
}

/** The largest part of the time, judged by the 99th percentiles. */
function whereTimeGoes({ split }: RunResults): string {
  const parts: (readonly [string, number])[] = [
    ...Object.entries(split.lockWait).map(([mode, q]) => [`waiting for ${lockName(mode)}`, q.p99Ns] as const),
    ...Object.entries(split.lockHold).map(([mode, q]) => [`holding ${lockName(mode)}`, q.p99Ns] as const),
    ...(split.scheduleLag === null
      ? []
      : [['starting late because the actor was still busy', split.scheduleLag.p99Ns] as const]),
  ];
  const [largest] = parts.toSorted((a, b) => b[1] - a[1]);
  if (largest === undefined) return 'no part of the latency was measured.';
  return `of the parts of a latency, ${largest[0]} is the longest (p99 ${duration(largest[1])}).`;
}

const LOCK_NAMES: Readonly<Record<string, string>> = {
  mmap_read: 'mmap_sem for read',
  mmap_write: 'mmap_sem for write',
  container: "the container's mutex",
  kworker: 'mmap_sem in a kworker',
};

/** A lock mode as people call it. */
export const lockName = (mode: string): string => LOCK_NAMES[mode] ?? mode;
