/**
 * The progress line of an experiment: how many of its runs are done and how long the rest may take.
 */
import { stderr } from '../console/output.ts';
import { duration } from '../report/format.ts';

export function experimentProgress(
  quiet: boolean,
  what = 'hosts simulated',
): { update: (done: number, of: number) => void; end: () => void } {
  const startMs = performance.now();
  return {
    update(done, of) {
      if (quiet) return;
      const restMs = ((performance.now() - startMs) / done) * (of - done);
      const bar = '='.repeat(Math.round((done / of) * 30)).padEnd(30);
      const left = done === 0 ? '' : `, ${duration(restMs * 1e6)} left`;
      stderr.draw(`[${bar}] ${done} of ${of} ${what}${left}`);
    },
    end() {
      if (!quiet) stderr.wipe();
    },
  };
}
