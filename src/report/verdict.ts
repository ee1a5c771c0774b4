/**
 * The verdict of a run and its exit status. Several things can be wrong at once; one number must say the most
 * important:
 *
 *   112  a violated invariant is a proven fact about the model, however little of the run is left to judge
 *   113  the run is incomplete: neither a pass nor a crossed threshold would mean anything
 *    99  a threshold was crossed, by figures that can be trusted
 *   113  a threshold was never measured: a pass would mean nothing
 *   105  the user stopped it: nothing was wrong so far, but it is not the pass of the whole run
 *   114  the generator was too late for its latencies to be trusted, and a latency was to be judged
 *
 * (104, invalid input, comes before any run.) The account and counts do not depend on lateness and are always judged;
 * only thresholds of latencies, and `--strict`, need a generator in time. A user's stop leaves guests unfinished and
 * thresholds without samples; only guests *lost* are missing coverage.
 */
import { EXIT, type ExitCode } from '../base/errors.ts';
import { plural } from '../base/plural.ts';
import { duration } from './format.ts';
import type { Accounting, Coverage, Health, ThresholdResult, Verdict } from './results.ts';
import { stateOf } from './thresholds.ts';

export interface VerdictInput {
  readonly complete: boolean;
  readonly stoppedByUser: boolean;
  /** Latencies are judged whether or not a threshold is of one. */
  readonly strict: boolean;
  readonly coverage: Coverage;
  readonly accounting: Pick<Accounting, 'violations' | 'deferred'>;
  readonly health: Pick<Health, 'saturated' | 'saturation' | 'perWorker'>;
  readonly thresholds: readonly ThresholdResult[];
}

/**
 * Deferred updates that were queued, and neither applied nor discarded with their guests. Negative: applied too often.
 */
export function missingDeferred({ queued, applied, discarded }: Accounting['deferred']): number {
  return queued - applied - discarded;
}

/** Whether the verdict depends on latencies: a threshold is of one, or `--strict` asks. */
export const judgesLatencies = (strict: boolean, thresholds: readonly Pick<ThresholdResult, 'unit'>[]): boolean =>
  strict || thresholds.some(({ unit }) => unit === 'ns');

export function decide(input: VerdictInput): Verdict {
  const { accounting, coverage, complete, health, stoppedByUser, strict, thresholds } = input;
  const found: { verdict: 'fail' | 'inconclusive'; exitCode: ExitCode; reason: string }[] = [];
  const against = (exitCode: ExitCode, reason: string) => {
    const proven = exitCode === EXIT.violated || exitCode === EXIT.threshold;
    found.push({ verdict: proven ? 'fail' : 'inconclusive', exitCode, reason });
  };

  for (const { invariant, count, expected } of accounting.violations) {
    if (!expected && count > 0) against(EXIT.violated, `invariant ${invariant} violated ${times(count)}`);
  }
  const missing = missingDeferred(accounting.deferred);
  // What an unfinished run has not applied yet is not missing.
  if (missing > 0 && complete) against(EXIT.violated, `${missing} deferred updates were queued and never applied`);
  if (missing < 0) against(EXIT.violated, `${-missing} deferred updates were applied more often than queued`);

  if (!complete) against(EXIT.inconclusive, incomplete(input));
  const { guestsPlanned, guestsLost, guestsFailed, minShare, workersLost } = coverage;
  const kept = guestsPlanned === 0 ? 1 : 1 - guestsLost / guestsPlanned;
  if (kept < minShare) {
    const of = `${guestsLost} of ${guestsPlanned} guests`;
    against(
      EXIT.inconclusive,
      `${of} were lost (${plural(workersLost, 'worker')}): coverage ${percent(kept)} < ${percent(minShare)}`,
    );
  }
  if (guestsFailed > 0) against(EXIT.inconclusive, `${guestsFailed} guests ended with an unexpected error`);

  const { saturated } = health;
  const judged = judgesLatencies(strict, thresholds);
  for (const t of thresholds) {
    if (stateOf(t) !== 'crossed' || (saturated && t.unit === 'ns')) continue;
    const stopped =
      t.stoppedAtSeconds === undefined ? '' : `, which stopped the run at ${duration(t.stoppedAtSeconds * 1e9)}`;
    against(EXIT.threshold, `threshold crossed: ${t.metric} ${t.expression}${stopped}`);
  }
  for (const t of thresholds) {
    if (stateOf(t) === 'not judged' && !stoppedByUser) {
      against(EXIT.inconclusive, `threshold not judged: ${t.metric} ${t.expression}: nothing was measured`);
    }
  }
  if (stoppedByUser) against(EXIT.stopped, `stopped by the user before its end${saturated ? ', and saturated' : ''}`);
  if (saturated && judged) {
    against(EXIT.saturated, `the generator was saturated: ${health.saturation?.reason ?? 'it was too late'}`);
  }

  const [decisive] = found;
  return {
    verdict: decisive?.verdict ?? 'pass',
    exitCode: decisive?.exitCode ?? EXIT.ok,
    reasons: found.map((f) => f.reason),
  };
}

/** Why the results are not those of the whole run: it did not end, or a worker never closed its account. */
function incomplete({ coverage, health }: VerdictInput): string {
  const lost = (health.perWorker ?? []).filter((worker) => worker.lost !== null).map(({ name }) => name);
  const { guestsPlanned, guestsFinished, guestsStopped = 0, guestsFailed, guestsLost } = coverage;
  const ended = guestsFinished + guestsStopped + guestsFailed + guestsLost >= guestsPlanned;
  if (!ended || lost.length === 0) return 'the run did not end: these are its results so far';
  return `worker${lost.length === 1 ? '' : 's'} ${lost.join(', ')} ${lost.length === 1 ? 'was' : 'were'} lost before the final account`;
}

const times = (n: number): string => (n === 1 ? 'once' : `${n} times`);
const percent = (share: number): string => `${+(share * 100).toFixed(2)} %`;
