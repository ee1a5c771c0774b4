import type { Board } from './board.ts';
import { figure, lines, rows, states } from './panels.ts';
import { countOf, gauge, quantile, rate, ratio, run, sumOf } from './query.ts';

const OPS = countOf('pinstorm_op_duration_seconds{op!="null"}');
const REFUSED = countOf('pinstorm_op_duration_seconds{op!="null",outcome!="ok"}');

export const overview: Board = {
  uid: 'pinstorm-overview',
  title: 'pinstorm / Overview',
  description: 'Is the run all right, how far is it, and may its figures be trusted?',
  sections: [
    {
      title: 'Verdict',
      panels: [
        figure({
          title: 'Verdict so far',
          description:
            'What the run would say if it ended like this now; the number behind it is the exit status. The final verdict is in ' +
            'the run directory.',
          unit: 'none',
          queries: [{ expr: `max (${gauge('pinstorm_run_exit_status')})` }],
          words: {
            '0': ['pass', 'green'],
            '99': ['threshold crossed', 'orange'],
            '105': ['stopped', 'blue'],
            '112': ['invariant violated', 'red'],
            '113': ['inconclusive', 'purple'],
            '114': ['generator saturated', 'orange'],
          },
          loud: true,
          span: 5,
        }),
        figure({
          title: 'Phase',
          description: 'Gathering workers, running guests, finishing (deferred updates, final accounts), over.',
          unit: 'none',
          queries: [{ expr: `topk(1, ${gauge('pinstorm_run_phase_start_timestamp_seconds')})`, legend: '{{phase}}' }],
          name: true,
          span: 3,
        }),
        figure({
          title: 'Progress',
          description: 'Elapsed share of the planned length. None where the plan leaves the length open.',
          unit: 'percentunit',
          decimals: 0,
          queries: [
            {
              expr:
                `clamp_max((timestamp(${gauge('pinstorm_run_exit_status')}) - on (job, instance) ` +
                `pinstorm_run_start_timestamp_seconds{run_id=~"$run"}) / on (job, instance) pinstorm_run_planned_seconds, 1)`,
            },
          ],
          noValue: 'open',
          span: 3,
        }),
        figure({
          title: 'Operations',
          description: 'Operations of every kind and outcome that end per second.',
          unit: 'ops',
          queries: [{ expr: rate(OPS) }],
          sparkline: true,
          span: 4,
        }),
        figure({
          title: 'Unexpected violations',
          description:
            'Violations of accounting invariants that the scenario does not expect: each fails the run (112).',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_invariant_violations_total{expected="no"}') }],
          steps: [
            ['green', null],
            ['red', 1],
          ],
          loud: true,
          span: 3,
        }),
        figure({
          title: 'Lateness p99',
          description:
            'How late the generator resumed its actors. From 10 ms over the whole run its figures are its own (114).',
          unit: 's',
          queries: [{ expr: quantile('0.99', 'pinstorm_lateness_seconds') }],
          steps: [
            ['green', null],
            ['orange', 0.005],
            ['red', 0.01],
          ],
          sparkline: true,
          span: 3,
        }),
        figure({
          title: 'Workers lost',
          description:
            'Workers that died or fell silent. Their guests run again elsewhere; where they cannot, the run is inconclusive (113).',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_workers{state="lost"}') }],
          steps: [
            ['green', null],
            ['red', 1],
          ],
          loud: true,
          span: 3,
        }),
      ],
    },
    {
      title: 'Load',
      panels: [
        lines({
          title: 'Guests by state',
          description: 'Synthetic guests: planned ones are pending until they start.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_guests', ['state']), legend: '{{state}}' }],
          stacked: true,
          colors: { pending: 'text', running: 'green', finished: 'blue', failed: 'orange', lost: 'red' },
          span: 12,
        }),
        lines({
          title: 'Throughput by operation',
          description: 'Operations that end per second, of every outcome, without the harness’ own null operation.',
          unit: 'ops',
          queries: [{ expr: rate(OPS, ['op']), legend: '{{op}}' }],
          span: 12,
        }),
        lines({
          title: 'Operations that failed',
          description: 'Operations per second that did not end well, by kind and errno.',
          unit: 'ops',
          queries: [{ expr: rate(REFUSED, ['op', 'outcome']), legend: '{{op}} {{outcome}}' }],
          span: 8,
        }),
        lines({
          title: 'Share that failed',
          description: 'Share of operations that did not end well, by kind.',
          unit: 'percentunit',
          queries: [{ expr: ratio(rate(REFUSED, ['op']), rate(OPS, ['op'])), legend: '{{op}}' }],
          span: 8,
        }),
        lines({
          title: 'Behind the plan',
          description:
            'From the intended to the actual start of operations: how far the load lags behind what was wanted.',
          unit: 's',
          queries: ['0.5', '0.99'].map((q) => ({
            expr: quantile(q, 'pinstorm_schedule_lag_seconds'),
            legend: `p${Number(q) * 100}`,
          })),
          span: 8,
        }),
      ],
    },
    {
      title: 'Thresholds and saturation',
      panels: [
        states({
          title: 'Thresholds',
          description: 'Each threshold judged over the run so far, once a second.',
          unit: 'none',
          queries: [{ expr: gauge('pinstorm_threshold_ok'), legend: '{{metric}} {{expr}}' }],
          words: { '0': ['crossed', 'red'], '1': ['holds', 'green'] },
          span: 12,
        }),
        lines({
          title: 'Lateness of the generator',
          description:
            'How late actors were resumed. The dashed line is where the run counts as saturated, p99 over the whole run.',
          unit: 's',
          queries: ['0.5', '0.99'].map((q) => ({
            expr: quantile(q, 'pinstorm_lateness_seconds'),
            legend: `p${Number(q) * 100}`,
          })),
          limit: 0.01,
          height: 6,
          span: 8,
        }),
        figure({
          title: 'Generator',
          description: 'Whether the generator judges itself too late for its figures to be trusted.',
          unit: 'none',
          queries: [{ expr: `max (${gauge('pinstorm_saturated')})` }],
          words: { '0': ['keeps up', 'green'], '1': ['saturated', 'red'] },
          height: 6,
          span: 4,
        }),
        rows({
          title: 'Run',
          description:
            'What is run. With an uncalibrated profile, shapes, counts and invariants hold; nanoseconds are model units.',
          unit: 'none',
          queries: [
            {
              expr: `${run()} * on (job, instance) group_left (version) pinstorm_build_info * on (job, instance) group_left () pinstorm_threads`,
            },
          ],
          columns: {
            run_id: 'run',
            scenario: 'scenario',
            variant: 'variant',
            pace: 'pace',
            profile: 'cost profile',
            calibrated: 'calibrated',
            version: 'pinstorm',
            Value: 'threads',
          },
          height: 4,
          span: 24,
        }),
      ],
    },
  ],
};
