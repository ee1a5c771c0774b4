/** What a run's results say of the failure it went through. */
import { EXIT } from '../../src/base/errors.ts';
import type { RunResults } from '../../src/report/results.ts';

export interface Judgement {
  /** Accounting updates that were queued and neither applied nor discarded with their guest, on workers that count. */
  lost: number;
  /** Those applied more often than queued. */
  doubled: number;
  /** Everything else that is not as it must be. */
  wrong: string[];
}

/** Judges a run that must have ended whole. */
export function judge({ accounting, coverage, verdict }: RunResults): Judgement {
  const { queued, applied, discarded } = accounting.deferred;
  const missing = queued - applied - discarded;
  const wrong: string[] = [];
  const must = (what: string, holds: boolean): void => {
    if (!holds) wrong.push(what);
  };
  // On a busy machine the generator may have been late, which is said, and is not about the failure.
  must(`exit status ${verdict.exitCode}`, verdict.exitCode === EXIT.ok || verdict.exitCode === EXIT.saturated);
  must(`balance ${accounting.balance}`, accounting.balance === 'exact');
  must('guests are not conserved', coverage.guestsFinished === coverage.guestsPlanned && coverage.guestsLost === 0);
  const expected = (invariant: string): boolean => invariant === 'wrap';
  for (const { invariant, count } of accounting.violations)
    must(`${invariant} ${count}`, expected(invariant) || count === 0);
  if (wrong.length > 0) wrong.push(...verdict.reasons, ...accounting.notes);
  return { lost: Math.max(0, missing), doubled: Math.max(0, -missing), wrong };
}
