/** A comparison and a sweep made up for tests, with every kind of finding in them. */
import { median, medianInterval } from '../../src/base/statistics.ts';
import type { Experiment, ExperimentCell, Figure } from '../../src/report/experiment.ts';

export function figure(unit: Figure['unit'], values: number[], against: Figure['against']): Figure {
  return { unit, median: median(values), interval: medianInterval(values), values, against };
}

const around = (centre: number): number[] => [0.98, 1, 1.01, 0.99, 1.02].map((part) => centre * part);

export const SETTING = {
  profile: { name: 'default', calibrated: false },
  hosts: 1,
  cpus: 8,
  kernels: '4.10',
  random: true,
};

const HEAD = {
  schemaVersion: 2 as const,
  commandLine: ['pinstorm', 'compare'],
  startedAt: '2026-01-02T03:04:05.678Z',
  version: '0.1.0',
  complete: true,
  minEffect: 0.01,
};

/** Four variants beside A: worse, better, both, and the same. */
export function comparison(scenario = 'scenarios/boot-storm.yaml'): Experiment {
  const cell = (variant: string, latency: number | null, rate: number | null): ExperimentCell => {
    const against = (ratio: number | null): Figure['against'] =>
      variant === 'A' ? null : { ratio: ratio ?? 1, p: ratio === null ? 0.6 : 0.008, significant: ratio !== null };
    return {
      labels: { variant },
      variant,
      seeds: [1, 2, 3, 4, 5],
      setting: SETTING,
      violations: variant === 'D' ? ['over-penalty'] : [],
      metrics: {
        'map p99': figure('ns', around(1e6 * (latency ?? 1)), against(latency)),
        throughput: figure('per_second', around(5000 * (rate ?? 1)), against(rate)),
        deferred: figure('count', [0, 0, 0, 0, 0], against(null)),
      },
    };
  };
  const cells = [
    cell('A', null, null),
    cell('B', 1.25, null),
    cell('D', 0.8, 1.2),
    cell('E', 0.8, 0.8),
    cell('F', null, null),
  ];
  const axes = [{ key: 'variant', values: cells.map(({ variant }) => variant), numeric: false }];
  return { ...HEAD, kind: 'compare', scenario, axes, cells, knees: [] };
}

/** Throughput of two variants over the number of guests. */
export function sweep(): Experiment {
  const guests = [1, 2, 4, 8];
  const cells = ['A', 'E'].flatMap((variant) =>
    guests.map((n): ExperimentCell => ({
      labels: { variant, guests: String(n) },
      variant,
      seeds: [1, 2, 3, 4, 5],
      setting: SETTING,
      violations: [],
      metrics: { throughput: figure('per_second', around(Math.min(n, variant === 'A' ? 4 : 8) * 1000), null) },
    })),
  );
  const axes = [
    { key: 'variant', values: ['A', 'E'], numeric: false },
    { key: 'guests', values: guests.map(String), numeric: true },
  ];
  const knees = [
    { labels: { variant: 'A' }, key: 'guests', at: 4 },
    { labels: { variant: 'E' }, key: 'guests', at: null },
  ];
  return { ...HEAD, kind: 'sweep', scenario: 'scenarios/boot-storm.yaml', axes, cells, knees };
}
