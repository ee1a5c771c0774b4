import type { Board } from './board.ts';
import { figure, lines, states } from './panels.ts';
import { gauge, quantile, rate, ratio, sumOf } from './query.ts';

const each = (metric: string) => [{ expr: gauge(metric), legend: '{{worker}}' }];
const eachRate = (counter: string) => [{ expr: rate(counter, ['worker']), legend: '{{worker}}' }];

export const workers: Board = {
  uid: 'pinstorm-workers',
  title: 'pinstorm / Workers and Redis',
  description: 'Does the generator itself keep up: workers side by side, the coordinator, Redis?',
  sections: [
    {
      title: 'Workers',
      panels: [
        lines({
          title: 'Workers by state',
          description: 'Done: the final account is in. Lost: died or silent for 10 s.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_workers', ['state']), legend: '{{state}}' }],
          stacked: true,
          colors: { alive: 'green', done: 'blue', lost: 'red' },
          span: 8,
        }),
        states({
          title: 'Alive',
          description: 'Which workers are there, and which were lost, since when.',
          unit: 'none',
          queries: each('pinstorm_worker_up'),
          words: { '0': ['lost', 'red'], '1': ['alive', 'green'] },
          height: 8,
          span: 8,
        }),
        lines({
          title: 'Silence',
          description:
            'Time since the last message of the worker; one comes each second. At the dashed line it is given up.',
          unit: 's',
          queries: each('pinstorm_worker_silence_seconds'),
          limit: 10,
          span: 8,
        }),
        lines({
          title: 'Lateness',
          description: 'How late the worker resumed its actors, on average.',
          unit: 's',
          queries: [
            {
              expr: ratio(
                rate('pinstorm_worker_lateness_seconds_sum', ['worker']),
                rate('pinstorm_worker_lateness_seconds_count', ['worker']),
              ),
              legend: '{{worker}}',
            },
          ],
          span: 8,
        }),
        lines({
          title: 'Utilisation of threads',
          description: 'Share of their time in which the driver threads of the worker had something to do.',
          unit: 'percentunit',
          queries: [
            {
              // Workers report once a second: over a window of few seconds more idle time may arrive than fits into it.
              expr: `clamp_min(1 - ${rate('pinstorm_worker_thread_idle_seconds_total', ['worker'])} / ${sumOf('pinstorm_worker_threads', ['worker'])}, 0)`,
              legend: '{{worker}}',
            },
          ],
          max: 1,
          span: 8,
        }),
        lines({
          title: 'Event loop',
          description: 'Delay of the event loop, p99 since the start of the process.',
          unit: 's',
          queries: each('pinstorm_worker_event_loop_delay_p99_seconds'),
          span: 8,
        }),
        lines({
          title: 'Operations',
          description: 'Operations that end per second on the worker.',
          unit: 'ops',
          queries: eachRate('pinstorm_worker_ops_total'),
          span: 8,
        }),
        lines({
          title: 'Guests',
          description: 'Guests that run on the worker.',
          unit: 'none',
          queries: each('pinstorm_worker_guests_running'),
          stacked: true,
          span: 8,
        }),
        lines({
          title: 'Deferred updates',
          description: 'Not yet applied, by worker.',
          unit: 'none',
          queries: each('pinstorm_worker_deferred_backlog'),
          span: 8,
        }),
      ],
    },
    {
      title: 'Processes',
      panels: [
        lines({
          title: 'CPU',
          description: 'By worker, and of the coordinator; 100 % is one core.',
          unit: 'percentunit',
          queries: [
            ...eachRate('pinstorm_worker_cpu_seconds_total'),
            { expr: rate('pinstorm_process_cpu_seconds_total'), legend: 'coordinator' },
          ],
          span: 8,
        }),
        lines({
          title: 'Memory',
          description: 'Resident memory, by worker, and of the coordinator.',
          unit: 'bytes',
          queries: [
            ...each('pinstorm_worker_resident_memory_bytes'),
            { expr: sumOf('pinstorm_process_resident_memory_bytes'), legend: 'coordinator' },
          ],
          span: 8,
        }),
        lines({
          title: 'Event loop of the coordinator',
          description: 'p99 of the delay of its event loop, as measured by Node.',
          unit: 's',
          queries: [{ expr: gauge('pinstorm_nodejs_eventloop_lag_p99_seconds'), legend: 'coordinator' }],
          span: 8,
        }),
        lines({
          title: 'Idle threads',
          description:
            'Driver threads that have nothing to do, on average, of all there are. Workers report once a second, so that it wavers over windows of few seconds.',
          unit: 'short',
          queries: [
            { expr: rate('pinstorm_thread_idle_seconds_total'), legend: 'idle' },
            { expr: sumOf('pinstorm_threads'), legend: 'all' },
          ],
          span: 10,
        }),
        lines({
          title: 'Lateness p99',
          description:
            'How late actors were resumed, over all workers. The dashed line is where the run counts as saturated.',
          unit: 's',
          queries: [{ expr: quantile('0.99', 'pinstorm_lateness_seconds'), legend: 'p99' }],
          limit: 0.01,
          span: 10,
        }),
        figure({
          title: 'Latencies out of range',
          description:
            'Latencies below 0 or above 1 h, kept as the nearer end. Any at all mean that figures are wrong.',
          unit: 'none',
          queries: [{ expr: sumOf('pinstorm_values_clamped_total') }],
          steps: [
            ['green', null],
            ['red', 1],
          ],
          height: 8,
          span: 4,
        }),
      ],
    },
    {
      title: 'Redis',
      panels: [
        lines({
          title: 'Round trip',
          description: 'One PING of the coordinator each second.',
          unit: 's',
          queries: [{ expr: gauge('pinstorm_redis_round_trip_seconds'), legend: 'round trip' }],
          span: 6,
        }),
        lines({
          title: 'Commands',
          description: 'Commands per second of all clients of the server.',
          unit: 'cps',
          queries: [{ expr: rate('pinstorm_redis_commands_total'), legend: 'commands' }],
          span: 6,
        }),
        lines({
          title: 'Memory',
          description: 'Memory of the whole server.',
          unit: 'bytes',
          queries: [{ expr: gauge('pinstorm_redis_used_memory_bytes'), legend: 'used' }],
          span: 6,
        }),
        lines({
          title: 'Queues',
          description:
            'Jobs of the guest queue by state (a job is a slice of guests), and deferred updates not yet applied.',
          unit: 'none',
          queries: [
            { expr: sumOf('pinstorm_guest_jobs', ['state']), legend: 'guests {{state}}' },
            { expr: sumOf('pinstorm_deferred_backlog'), legend: 'deferred updates' },
          ],
          span: 6,
        }),
      ],
    },
  ],
};
