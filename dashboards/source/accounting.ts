import type { Board } from './board.ts';
import { figure, lines, states } from './panels.ts';
import { gauge, quantile, rate, ratio, sumOf } from './query.ts';

export const accounting: Board = {
  uid: 'pinstorm-accounting',
  title: 'pinstorm / Accounting',
  description: 'Is the locked-memory account right at every moment, also while an update is deferred?',
  variables: ['quantiles'],
  sections: [
    {
      title: 'Correctness',
      panels: [
        figure({
          title: 'Account off by',
          description:
            'Pages by which locked_vm differs from what finished operations hold: work in progress, and deferred updates. At rest it ' +
            'must be 0; until then locked_vm is wrong by that much.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_locked_vm_drift_pages') }],
          sparkline: true,
          span: 4,
        }),
        figure({
          title: 'Unexpected violations',
          description: 'Violations of invariants that the scenario does not expect.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_invariant_violations_total{expected="no"}') }],
          steps: [
            ['green', null],
            ['red', 1],
          ],
          loud: true,
          span: 4,
        }),
        figure({
          title: 'Expected violations',
          description: 'Violations the scenario shows on purpose: what the variant gets wrong.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_invariant_violations_total{expected="yes"}') }],
          noValue: 'none expected',
          span: 4,
        }),
        figure({
          title: 'Trylock failures',
          description:
            'Share of trylocks of mmap_sem that found it taken. Only variants A to D account with a trylock.',
          unit: 'percentunit',
          queries: [{ expr: ratio(rate('pinstorm_trylock_failures_total'), rate('pinstorm_trylock_attempts_total')) }],
          sparkline: true,
          noValue: 'no trylocks',
          span: 4,
        }),
        figure({
          title: 'Refused by the limit',
          description: 'Operations refused so far because locked_vm would have exceeded RLIMIT_MEMLOCK.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_limit_refusals_total') }],
          span: 4,
        }),
        figure({
          title: 'Deferred, not yet applied',
          description:
            'Updates deferred because the trylock failed: until they are applied, locked_vm is wrong by them.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_deferred_backlog') }],
          sparkline: true,
          span: 4,
        }),
        lines({
          title: 'Violations by invariant',
          description: 'Violations per second, by invariant; expected ones too.',
          unit: 'cps',
          queries: [{ expr: rate('pinstorm_invariant_violations_total', ['invariant']), legend: '{{invariant}}' }],
          span: 12,
        }),
        lines({
          title: 'Pages pinned',
          description: 'Pages pinned and not unpinned, by the counters of the run (4 KiB each).',
          unit: 'short',
          queries: [
            {
              expr: `${sumOf('pinstorm_pages_pinned_total')} - ${sumOf('pinstorm_pages_unpinned_total')}`,
              legend: 'pinned now',
            },
            { expr: sumOf('pinstorm_locked_vm_drift_pages'), legend: 'account off by' },
          ],
          span: 12,
        }),
      ],
    },
    {
      title: 'Deferred accounting',
      panels: [
        lines({
          title: 'Trylock failure ratio',
          description: 'Failed trylocks per trylock.',
          unit: 'percentunit',
          queries: [
            {
              expr: ratio(rate('pinstorm_trylock_failures_total'), rate('pinstorm_trylock_attempts_total')),
              legend: 'failed',
            },
          ],
          span: 8,
        }),
        lines({
          title: 'Trylocks',
          description: 'Attempts to take mmap_sem for writing without waiting, and those that failed, per second.',
          unit: 'cps',
          queries: [
            { expr: rate('pinstorm_trylock_attempts_total'), legend: 'attempts' },
            { expr: rate('pinstorm_trylock_failures_total'), legend: 'failures' },
          ],
          span: 8,
        }),
        lines({
          title: 'Deferred updates',
          description:
            'Updates per second, by what became of them. Lost: no memory to queue it. Discarded: its guest died with its worker.',
          unit: 'cps',
          queries: [{ expr: rate('pinstorm_deferred_jobs_total', ['state']), legend: '{{state}}' }],
          span: 8,
        }),
        lines({
          title: 'Backlog',
          description: 'Deferred updates queued and not yet applied.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_deferred_backlog'), legend: 'not yet applied' }],
          span: 8,
        }),
        lines({
          title: 'Age of the oldest',
          description: 'How long the oldest deferred update has waited.',
          unit: 's',
          queries: [{ expr: `max (${gauge('pinstorm_deferred_oldest_age_seconds')})`, legend: 'oldest' }],
          span: 8,
        }),
        lines({
          title: 'Settlement, quantile $quantile',
          description:
            'From queueing an update to its application, and the part of it spent waiting for mmap_sem. The rest is the queue: ' +
            'Redis and BullMQ here, a kernel’s workqueue is far quicker.',
          unit: 's',
          queries: [
            { expr: quantile('$quantile', 'pinstorm_deferred_settle_seconds'), legend: 'queued to applied' },
            { expr: quantile('$quantile', 'pinstorm_deferred_lock_wait_seconds'), legend: 'waiting for mmap_sem' },
          ],
          log: true,
          span: 8,
        }),
      ],
    },
    {
      title: 'Work',
      panels: [
        lines({
          title: 'Limit refusals',
          description: 'Operations per second refused because locked_vm would have exceeded RLIMIT_MEMLOCK.',
          unit: 'cps',
          queries: [
            { expr: rate('pinstorm_limit_refusals_total'), legend: 'refused by the limit' },
            { expr: rate('pinstorm_entry_limit_refusals_total'), legend: 'refused by dma_entry_limit' },
          ],
          span: 8,
        }),
        lines({
          title: 'Pages',
          description: 'Pages pinned and unpinned per second.',
          unit: 'cps',
          queries: [
            { expr: rate('pinstorm_pages_pinned_total'), legend: 'pinned' },
            { expr: rate('pinstorm_pages_unpinned_total'), legend: 'unpinned' },
          ],
          span: 8,
        }),
        lines({
          title: 'Accounting steps',
          description:
            'Physically contiguous chunks pinned per second, each accounted for by itself, and times an actor waited because the ' +
            'ring of deferred updates was full.',
          unit: 'cps',
          queries: [
            { expr: rate('pinstorm_chunks_total'), legend: 'chunks' },
            { expr: rate('pinstorm_ring_full_waits_total'), legend: 'ring full' },
          ],
          span: 8,
        }),
        states({
          title: 'Invariants',
          description: 'Whether each invariant has been violated so far.',
          unit: 'none',
          queries: [
            {
              expr: `max by (invariant) (${gauge('pinstorm_invariant_violations_total')}) > bool 0`,
              legend: '{{invariant}}',
            },
          ],
          words: { '0': ['holds', 'green'], '1': ['violated', 'red'] },
          height: 8,
          span: 24,
        }),
      ],
    },
  ],
};
