import type { Board } from './board.ts';
import { lines, rows } from './panels.ts';
import { BASELINE, countOf, gauge, quantile, quantileOfRun, rate, ratio, RUN, sumOf, type Who } from './query.ts';

const LATENCY = 'pinstorm_op_duration_seconds{op=~"$op",outcome="ok"}';
const OPS = countOf('pinstorm_op_duration_seconds{op=~"$op"}');

/** The same question about both runs; the baseline is drawn dashed. */
const both = (ask: (who: Who) => string, legend = ''): { expr: string; legend: string }[] =>
  [
    { who: RUN, name: 'run' },
    { who: BASELINE, name: 'baseline' },
  ].map(({ who, name }) => ({ expr: ask(who), legend: `${legend}${legend && ' '}${name}` }));
const dashed = '/baseline$/';

export const compare: Board = {
  uid: 'pinstorm-compare',
  title: 'pinstorm / Compare',
  description:
    'A run over a baseline, moved so that both start at the same place. One pair of runs shows what happened, not whether it ' +
    'would happen again: for that there is pinstorm compare, with repetitions and confidence intervals.',
  variables: ['baseline', 'shift', 'op', 'quantiles'],
  sections: [
    {
      title: 'Both runs',
      panels: [
        rows({
          title: 'Run and baseline',
          description: 'What is compared. When more than the variant differs, the difference has more than one cause.',
          unit: 'none',
          queries: [
            {
              expr:
                'max by (run_id, scenario, variant, pace, profile, calibrated) ' +
                '(max_over_time(pinstorm_run_info{run_id=~"$run|$baseline", role="coordinator"}[30d]))',
            },
          ],
          columns: {
            run_id: 'run',
            scenario: 'scenario',
            variant: 'variant',
            pace: 'pace',
            profile: 'cost profile',
            calibrated: 'calibrated',
          },
          height: 9,
          span: 10,
        }),
        rows({
          title: 'Whole run, quantile $quantile',
          description:
            'The selected quantile of each kind of operation over the whole run as far as the board’s range holds it, of both runs, ' +
            'and run divided by baseline: above 1 the run is slower.',
          unit: 's',
          queries: [
            { expr: quantileOfRun('$quantile', LATENCY, ['op']) },
            { expr: quantileOfRun('$quantile', LATENCY, ['op'], BASELINE) },
            {
              expr: `${quantileOfRun('$quantile', LATENCY, ['op'])} / ${quantileOfRun('$quantile', LATENCY, ['op'], BASELINE)}`,
            },
          ],
          joinBy: 'op',
          columns: { op: 'operation', 'Value #A': 'run', 'Value #B': 'baseline', 'Value #C': 'run / baseline' },
          units: { 'run / baseline': 'none' },
          height: 9,
          span: 14,
        }),
        lines({
          title: 'Throughput',
          description: 'Operations that end per second, of every outcome.',
          unit: 'ops',
          queries: both((who) => rate(OPS, [], who)),
          dashed,
          span: 12,
        }),
        lines({
          title: 'Quantile $quantile by operation',
          description: 'Latency of successful operations from their actual start.',
          unit: 's',
          queries: both((who) => quantile('$quantile', LATENCY, ['op'], who), '{{op}}'),
          log: true,
          dashed,
          span: 12,
        }),
        lines({
          title: 'Run divided by baseline, quantile $quantile',
          description: 'Moment by moment, by operation. Above 1 the run is slower.',
          unit: 'none',
          queries: [
            {
              expr: `${quantile('$quantile', LATENCY, ['op'])} / ${quantile('$quantile', LATENCY, ['op'], BASELINE)}`,
              legend: '{{op}}',
            },
          ],
          span: 12,
        }),
        lines({
          title: 'Lock wait, quantile $quantile',
          description: 'Waiting for a lock, by lock and mode.',
          unit: 's',
          queries: both((who) => quantile('$quantile', 'pinstorm_lock_wait_seconds', ['mode'], who), '{{mode}}'),
          log: true,
          dashed,
          span: 12,
        }),
        lines({
          title: 'Trylock failure ratio',
          description: 'Failed trylocks per trylock; none for variants that wait for the lock.',
          unit: 'percentunit',
          queries: both((who) =>
            ratio(rate('pinstorm_trylock_failures_total', [], who), rate('pinstorm_trylock_attempts_total', [], who)),
          ),
          dashed,
          span: 8,
        }),
        lines({
          title: 'Deferred backlog',
          description: 'Deferred updates not yet applied.',
          unit: 'none',
          queries: both((who) => sumOf('pinstorm_deferred_backlog', [], who)),
          dashed,
          span: 8,
        }),
        lines({
          title: 'Limit refusals',
          description: 'Operations per second refused because locked_vm would have exceeded RLIMIT_MEMLOCK.',
          unit: 'ops',
          queries: both((who) => rate('pinstorm_limit_refusals_total', [], who)),
          dashed,
          span: 8,
        }),
        lines({
          title: 'Lateness p99',
          description: 'Whether both runs were driven equally well: a difference here explains differences above.',
          unit: 's',
          queries: both((who) => quantile('0.99', 'pinstorm_lateness_seconds', [], who)),
          dashed,
          limit: 0.01,
          span: 12,
        }),
        lines({
          title: 'Guests that run',
          description: 'Both runs must put on the same load to be comparable.',
          unit: 'none',
          queries: both((who) => `sum (${gauge('pinstorm_guests{state="running"}', who)})`),
          dashed,
          span: 12,
        }),
      ],
    },
  ],
};
