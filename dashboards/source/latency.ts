import type { Board } from './board.ts';
import { heat, lines } from './panels.ts';
import { bucketsOf, countOf, increase, quantile, rate, ratio, RUN, totalOf } from './query.ts';

// A refused operation returns early and would flatter the figure.
const ACTUAL = 'pinstorm_op_duration_seconds{op=~"$op",outcome="ok"}';
const INTENDED = 'pinstorm_op_duration_intended_seconds{op=~"$op",outcome="ok"}';
const ALL = [
  ['0.5', 'p50'],
  ['0.9', 'p90'],
  ['0.99', 'p99'],
  ['0.999', 'p99.9'],
] as const;

/** By operation and variant: the variant is known to the info series only. */
const byOpAndVariant = (q: string): string =>
  `histogram_quantile(${q}, sum by (le, op, variant) (rate(${bucketsOf(ACTUAL)}[$__rate_interval]) ` +
  `* on (job, instance) group_left (variant) pinstorm_run_info{run_id=~"$${RUN.variable}", role="coordinator"}))`;

export const latency: Board = {
  uid: 'pinstorm-latency',
  title: 'pinstorm / Latency',
  description: 'How long operations take, at every percentile, and how much of it is waiting for locks.',
  variables: ['op', 'quantiles', 'within'],
  sections: [
    {
      title: 'Operations',
      panels: [
        heat({
          title: 'Latency heatmap',
          description:
            'Successful operations by latency from their actual start; the colour says how many fell into a bucket.',
          unit: 's',
          queries: [{ expr: increase(bucketsOf(ACTUAL), ['le']) }],
          span: 12,
        }),
        lines({
          title: 'p50 to p99.9',
          description: 'Of the selected operations together, from merged histograms.',
          unit: 's',
          queries: ALL.map(([q, legend]) => ({ expr: quantile(q, ACTUAL), legend })),
          log: true,
          height: 9,
          span: 12,
        }),
        lines({
          title: 'Quantile $quantile by operation and variant',
          description: 'The selected quantile of each kind of operation.',
          unit: 's',
          queries: [{ expr: byOpAndVariant('$quantile'), legend: '{{op}} {{variant}}' }],
          log: true,
          span: 12,
        }),
        lines({
          title: 'Intended beside actual start',
          description:
            'The selected quantile from when an operation was wanted (solid) and from when it started (dashed). Where they part, ' +
            'operations queued: who wanted them waited longer than the operation took.',
          unit: 's',
          queries: [
            { expr: quantile('$quantile', INTENDED, ['op']), legend: '{{op}} intended' },
            { expr: quantile('$quantile', ACTUAL, ['op']), legend: '{{op}} actual' },
          ],
          log: true,
          dashed: '/ actual$/',
          span: 12,
        }),
        lines({
          title: 'Share of operations within $within s',
          description: 'Exact: the edge is one of the buckets’. Each latency a threshold names is an edge.',
          unit: 'percentunit',
          queries: [
            {
              expr: ratio(
                rate(bucketsOf(ACTUAL).replace('{', '{le="$within",'), ['op']),
                rate(countOf(ACTUAL), ['op']),
              ),
              legend: '{{op}}',
            },
          ],
          max: 1,
          span: 12,
        }),
        lines({
          title: 'Schedule lag',
          description: 'From the intended to the actual start of all operations.',
          unit: 's',
          queries: ALL.map(([q, legend]) => ({ expr: quantile(q, 'pinstorm_schedule_lag_seconds'), legend })),
          log: true,
          span: 12,
        }),
      ],
    },
    {
      title: 'Locks',
      panels: [
        lines({
          title: 'Lock wait against hold, quantile $quantile',
          description: 'Waiting for a lock (solid) and holding it (dashed), by lock and mode.',
          unit: 's',
          queries: [
            { expr: quantile('$quantile', 'pinstorm_lock_wait_seconds', ['mode']), legend: '{{mode}} wait' },
            { expr: quantile('$quantile', 'pinstorm_lock_hold_seconds', ['mode']), legend: '{{mode}} hold' },
          ],
          log: true,
          dashed: '/ hold$/',
          span: 12,
        }),
        lines({
          title: 'Actors that wait, actors that hold',
          description:
            'Seconds of waiting and of holding per second: how many actors do so on average, by lock and mode.',
          unit: 'short',
          queries: [
            { expr: rate(totalOf('pinstorm_lock_wait_seconds'), ['mode']), legend: '{{mode}} wait' },
            { expr: rate(totalOf('pinstorm_lock_hold_seconds'), ['mode']), legend: '{{mode}} hold' },
          ],
          dashed: '/ hold$/',
          span: 12,
        }),
        heat({
          title: 'Lock wait heatmap',
          description:
            'Waits for mmap_sem and the containers’ mutexes; acquisitions that did not wait are in the lowest buckets.',
          unit: 's',
          queries: [{ expr: increase(bucketsOf('pinstorm_lock_wait_seconds'), ['le']) }],
          span: 12,
        }),
        lines({
          title: 'Acquisitions of mmap_sem',
          description:
            'Times mmap_sem was taken for writing and for reading, and acquisitions of any lock that had to wait, per second.',
          unit: 'cps',
          queries: [
            { expr: rate('pinstorm_mmap_write_acquisitions_total'), legend: 'write' },
            { expr: rate('pinstorm_mmap_read_acquisitions_total'), legend: 'read' },
            { expr: rate('pinstorm_lock_waits_total'), legend: 'had to wait' },
          ],
          height: 9,
          span: 12,
        }),
      ],
    },
  ],
};
