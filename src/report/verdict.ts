/**
 * The verdict of a run and its exit status. Several things can be wrong at once; one number must say the most important:
 *
 *   112  a violated invariant is a proven fact about the model, however little of the run is left to judge
 *   113  the run is incomplete: neither a pass nor a crossed threshold would mean anything
 *   114  the run is complete but its latencies are the generator's own, so thresholds prove nothing
 *    99  a threshold was crossed, by figures that can be trusted
 *   105  the user stopped it: nothing was wrong so far, but it is not the pass of the whole run
 *
 * (104, invalid input, comes before any run.) A user's stop leaves guests unfinished; only guests *lost* are missing coverage.
 */
import { EXIT, type ExitCode } from '../base/errors.ts';
import { duration } from './format.ts';
import type { Accounting, Coverage, Health, ThresholdResult, Verdict } from './results.ts';

export interface VerdictInput {
  readonly complete: boolean;
  readonly stoppedByUser: boolean;
  readonly coverage: Coverage;
  readonly accounting: Pick<Accounting, 'violations' | 'deferred'>;
  readonly health: Pick<Health, 'saturated' | 'saturation'>;
  readonly thresholds: readonly ThresholdResult[];
}

/** Deferred updates that were queued, and neither applied nor discarded with their guests. Negative: applied too often. */
export function missingDeferred({ queued, applied, discarded }: Accounting['deferred']): number {
  return queued - applied - discarded;
}

export function decide(input: VerdictInput): Verdict {
  const found: { verdict: 'fail' | 'inconclusive'; exitCode: ExitCode; reason: string }[] = [];
  const against = (exitCode: ExitCode, reason: string) => {
    const proven = exitCode === EXIT.violated || exitCode === EXIT.threshold;
    found.push({ verdict: proven ? 'fail' : 'inconclusive', exitCode, reason });
  };

  for (const { invariant, count, expected } of input.accounting.violations) {
    if (!expected && count > 0) against(EXIT.violated, `invariant ${invariant} violated ${times(count)}`);
  }
  const missing = missingDeferred(input.accounting.deferred);
  // What an unfinished run has not applied yet is not missing.
  if (missing > 0 && input.complete)
    against(EXIT.violated, `${missing} deferred updates were queued and never applied`);
  if (missing < 0) against(EXIT.violated, `${-missing} deferred updates were applied more often than queued`);

  if (!input.complete) against(EXIT.inconclusive, 'the run did not end: these are its results so far');
  const { guestsPlanned, guestsLost, guestsFailed, minShare, workersLost } = input.coverage;
  const kept = guestsPlanned === 0 ? 1 : 1 - guestsLost / guestsPlanned;
  if (kept < minShare) {
    const of = `${guestsLost} of ${guestsPlanned} guests`;
    against(
      EXIT.inconclusive,
      `${of} were lost (${workersLost} workers): coverage ${percent(kept)} < ${percent(minShare)}`,
    );
  }
  if (guestsFailed > 0) against(EXIT.inconclusive, `${guestsFailed} guests ended with an unexpected error`);

  if (input.health.saturated) {
    against(EXIT.saturated, `the generator was saturated: ${input.health.saturation?.reason ?? 'it was too late'}`);
  }
  for (const t of input.thresholds) {
    const stopped =
      t.stoppedAtSeconds === undefined ? '' : `, which stopped the run at ${duration(t.stoppedAtSeconds * 1e9)}`;
    if (!t.ok) against(EXIT.threshold, `threshold crossed: ${t.metric} ${t.expression}${stopped}`);
  }
  if (input.stoppedByUser) against(EXIT.stopped, 'stopped by the user before its end');

  const [decisive] = found;
  return {
    verdict: decisive?.verdict ?? 'pass',
    exitCode: decisive?.exitCode ?? EXIT.ok,
    reasons: found.map((f) => f.reason),
  };
}

const times = (n: number): string => (n === 1 ? 'once' : `${n} times`);
const percent = (share: number): string => `${+(share * 100).toFixed(2)} %`;
