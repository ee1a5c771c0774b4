/** Fills the places for charts that the page has, and draws them again when the data or the theme changes. */
import { type ChartData, type Slot, unpackGuest } from '../chart-data.ts';
import { whole } from '../format.ts';
import { choice, dataTable, element, moment } from './dom.ts';
import { GuestTable } from './guests.ts';
import { Heatmap } from './heatmap.ts';
import { Lanes } from './lanes.ts';
import { type Line, type Mark, percentilePlace, Plot, type PlotSpec, showValue, type Unit } from './plot.ts';

const OP_SERIES = /^actual\.(\w+)\.(\w+)$/;
const MARK_COLORS: Readonly<Record<string, string>> = {
  violation: '--bad',
  worker_lost: '--bad',
  guest_failed: '--bad',
  threshold: '--warn',
  stop: '--c6',
  stage: '--c6',
};

/** A chart of the page. */
interface Panel {
  /** Draws what the data holds now. */
  draw(data: ChartData): void;
  redraw(): void;
}

type MakePanel = (host: HTMLElement) => Panel;

/** Makes every chart the page has a place for. */
export function setUpPanels(): readonly Panel[] {
  return Object.entries(PANELS).flatMap(([name, make]) =>
    [...document.querySelectorAll<HTMLElement>(`[data-chart="${name}"]`)].map(make),
  );
}

const PANELS: Readonly<Record<string, MakePanel>> = {
  latency: choosing('Operation', operations, 'Latency over time', (data, series) => {
    const [from, to] = [`intended.${series}`, `actual.${series}`];
    const lines = (['p50', 'p99', 'p99.9'] as const).flatMap((label, i): Line[] => [
      { label: `${label} intended`, color: COLORS[i] as string, values: quantile(data.slots, from, i + 1) },
      { label: `${label} actual`, color: COLORS[i] as string, dashed: true, values: quantile(data.slots, to, i + 1) },
    ]);
    return overTime(data, { unit: 'ns', logarithmic: true, lines, empty: 'No latencies over time were recorded.' });
  }),
  spectrum: choosing('Operation', operations, 'Percentile spectrum', (data, series) =>
    spectrumSpec(data, [
      ['from the intended start', `intended.${series}`, '--c2', false],
      ['from the actual start', `actual.${series}`, '--c1', true],
    ]),
  ),
  heatmap: heatmapPanel,
  'locks-time': choosing('Lock', locks, 'Lock wait and hold over time', (data, mode) =>
    overTime(data, {
      unit: 'ns',
      logarithmic: true,
      lines: [
        { label: 'wait p99', color: '--c2', values: quantile(data.slots, `lock_wait.${mode}`, 2) },
        { label: 'wait p50', color: '--c2', dashed: true, values: quantile(data.slots, `lock_wait.${mode}`, 1) },
        { label: 'hold p99', color: '--c4', values: quantile(data.slots, `lock_hold.${mode}`, 2) },
        { label: 'hold p50', color: '--c4', dashed: true, values: quantile(data.slots, `lock_hold.${mode}`, 1) },
      ],
      empty: 'No lock was taken.',
    }),
  ),
  'locks-spectrum': choosing('Lock', locks, 'Lock wait and hold by percentile', (data, mode) =>
    spectrumSpec(data, [
      ['wait', `lock_wait.${mode}`, '--c2', false],
      ['hold', `lock_hold.${mode}`, '--c4', false],
    ]),
  ),
  backlog: plain('Deferred backlog', (data) =>
    overTime(data, {
      unit: 'count',
      lines: [
        {
          label: 'updates not yet applied',
          color: '--c2',
          filled: true,
          values: data.slots.map((s) => s.gauges['deferred_backlog'] ?? null),
        },
      ],
      empty: 'The backlog was not recorded.',
    }),
  ),
  trylock: plain('Deferred updates and trylocks', (data) => {
    const some = (name: string): boolean => data.slots.some((s) => (s.counters[name] ?? 0) > 0);
    const lines: Line[] = [
      { label: 'deferred', color: '--c2', values: rate(data.slots, 'deferred_queued') },
      { label: 'applied', color: '--c4', dashed: true, values: rate(data.slots, 'deferred_applied') },
    ];
    const shares: Line[] = some('trylock_attempts')
      ? [{ label: 'trylocks failed', color: '--c3', values: data.slots.map((s) => failureShare(s)), joined: true }]
      : [];
    const spec = {
      unit: 'perSecond' as const,
      lines: some('deferred_queued') || shares.length > 0 ? lines : [],
      shareLines: shares,
    };
    return overTime(data, {
      ...spec,
      empty: 'No update was deferred: each took mmap_sem at once or waited for it.',
    });
  }),
  throughput: plain('Operations per second', (data) => {
    const names = operations(data)
      .filter(([series]) => !series.startsWith('null.'))
      .slice(0, 5);
    const lines = names.map(([series, label], i): Line => ({
      label,
      color: COLORS[i] as string,
      values: data.slots.map((s) => perSecond(s, s.series[`actual.${series}`]?.[0] ?? 0)),
    }));
    return overTime(data, { unit: 'perSecond', lines, empty: 'No operation ended.' });
  }),
  states: plain('Guests by state', statesSpec),
  lanes: (host) => {
    const lanes = new Lanes(host);
    return { draw: (data) => lanes.draw(data), redraw: () => lanes.redraw() };
  },
  guests: (host) => {
    const table = new GuestTable(host);
    return { draw: (data) => table.draw(data.guests.map(unpackGuest)), redraw: () => {} };
  },
};

const COLORS = ['--c1', '--c2', '--c3', '--c4', '--c5'] as const;

/** Series `OP.OUTCOME` that have samples, the busiest first, as people call them. */
function operations(data: ChartData): [string, string][] {
  return Object.entries(data.spectra)
    .flatMap(([name, { count }]) => {
      const match = OP_SERIES.exec(name);
      return match === null ? [] : [{ op: match[1] as string, outcome: match[2] as string, count }];
    })
    .toSorted((a, b) => Number(a.op === 'null') - Number(b.op === 'null') || b.count - a.count)
    .map(({ op, outcome }) => [`${op}.${outcome}`, outcome === 'ok' ? op : `${op} ${outcome.toUpperCase()}`]);
}

const LOCKS: readonly [string, string][] = [
  ['mmap_write', 'mmap_sem for write'],
  ['mmap_read', 'mmap_sem for read'],
  ['container', "the container's mutex"],
  ['kworker', 'mmap_sem in a kworker'],
];

function locks(data: ChartData): [string, string][] {
  return LOCKS.filter(([mode]) => `lock_wait.${mode}` in data.spectra || `lock_hold.${mode}` in data.spectra);
}

/** A chart of everything. */
function plain(label: string, spec: (data: ChartData) => PlotSpec): MakePanel {
  return (host) => {
    const plot = new Plot(host, label);
    let last: PlotSpec | null = null;
    host.append(dataTable(`Table: ${label.toLowerCase()}`, () => tableOf(last)));
    return { draw: (data) => plot.draw((last = spec(data))), redraw: () => plot.redraw() };
  };
}

/** A chart of one thing out of several. */
function choosing(
  what: string,
  options: (data: ChartData) => [string, string][],
  label: string,
  spec: (data: ChartData, chosen: string) => PlotSpec,
): MakePanel {
  return (host) => {
    const controls = element('div', { class: 'controls' });
    host.append(controls);
    const plot = new Plot(host, label);
    let last: PlotSpec | null = null;
    let latest: ChartData | null = null;
    let chosen = '';
    let known = '';
    host.append(dataTable(`Table: ${label.toLowerCase()}`, () => tableOf(last)));
    const draw = (): void => {
      if (latest !== null) plot.draw((last = spec(latest, chosen)));
    };
    return {
      draw(data) {
        latest = data;
        const all = options(data);
        if (!all.some(([value]) => value === chosen)) chosen = all[0]?.[0] ?? '';
        // The order may change while a run goes on; the list is rebuilt only when something joins it.
        const names = all
          .map(([value]) => value)
          .toSorted()
          .join();
        if (names !== known) {
          known = names;
          const select = choice(what, all, chosen, (value) => {
            chosen = value;
            draw();
          });
          controls.replaceChildren(
            ...(all.length > 1 ? [select] : all.length === 1 ? [`${what}: ${all[0]?.[1] ?? ''}`] : []),
          );
        }
        draw();
      },
      redraw: () => plot.redraw(),
    };
  };
}

function heatmapPanel(host: HTMLElement): Panel {
  const controls = element('div', { class: 'controls' });
  host.append(controls);
  const heatmap = new Heatmap(host);
  host.append(dataTable('Table: samples by latency', () => heatmap.totals()));
  let latest: ChartData | null = null;
  let chosen = '';
  let known = '';
  const draw = (): void => {
    if (latest !== null) heatmap.draw(latest, chosen);
  };
  return {
    draw(data) {
      latest = data;
      const all: [string, string][] = [
        ...operations(data).flatMap(([series, label]): [string, string][] => [
          [`intended.${series}`, `${label}, from the intended start`],
          [`actual.${series}`, `${label}, from the actual start`],
        ]),
        ...locks(data).flatMap(([mode, label]): [string, string][] => [
          [`lock_wait.${mode}`, `wait for ${label}`],
          [`lock_hold.${mode}`, `hold of ${label}`],
        ]),
        ['deferred_settle', 'deferred settlement'],
        ['schedule_lag', 'schedule lag'],
        ['lateness', 'lateness of the generator'],
      ];
      const present = all.filter(([name]) => name in data.spectra);
      if (!present.some(([name]) => name === chosen)) chosen = present[0]?.[0] ?? '';
      const names = present
        .map(([name]) => name)
        .toSorted()
        .join();
      if (names !== known) {
        known = names;
        const select = choice('Series', present, chosen, (value) => {
          chosen = value;
          draw();
        });
        controls.replaceChildren(...(present.length > 0 ? [select] : []));
      }
      draw();
    },
    redraw: () => heatmap.redraw(),
  };
}

function overTime(data: ChartData, spec: Omit<PlotSpec, 'xs' | 'x' | 'xEnd' | 'marks'>): PlotSpec {
  const marks = data.events.flatMap(({ at, kind }): Mark[] => {
    const name = MARK_COLORS[kind];
    return name === undefined ? [] : [{ at, color: name }];
  });
  return {
    ...spec,
    x: 'time',
    xs: data.slots.map(({ start, end }) => (start + end) / 2),
    xEnd: data.durationSeconds,
    marks,
  };
}

/** @param which 1 p50, 2 p99, 3 p99.9. */
function quantile(slots: readonly Slot[], series: string, which: number): (number | null)[] {
  return slots.map((slot) => {
    const ns = slot.series[series]?.[which];
    // A logarithmic axis has no zero.
    return ns === undefined ? null : Math.max(ns, 1);
  });
}

const perSecond = ({ start, end }: Slot, n: number): number | null => (end > start ? n / (end - start) : null);
const rate = (slots: readonly Slot[], counter: string): (number | null)[] =>
  slots.map((s) => perSecond(s, s.counters[counter] ?? 0));

function failureShare({ counters }: Slot): number | null {
  const attempts = counters['trylock_attempts'] ?? 0;
  return attempts === 0 ? null : (counters['trylock_failures'] ?? 0) / attempts;
}

const STATES = [
  ['running', '--c1'],
  ['finished', '--c4'],
  ['stopped', '--c3'],
  ['failed', '--bad'],
  ['lost', '--c5'],
  ['pending', '--p-wait'],
] as const;

/** A stack: each line is the sum of the states below it. */
function statesSpec(data: ChartData): PlotSpec {
  const known = STATES.filter(([state]) => data.slots.some((s) => (s.guests[state] ?? 0) > 0));
  const sums = data.slots.map(() => 0);
  const lines = known.map(([state, name]): Line => {
    const values = data.slots.map((s, i) => (sums[i] = (sums[i] ?? 0) + (s.guests[state] ?? 0)));
    return { label: state, color: name, filled: true, values, shown: data.slots.map((s) => s.guests[state] ?? 0) };
  });
  return overTime(data, {
    unit: 'count',
    lines: lines.toReversed(),
    empty: 'The states of the guests were not recorded.',
  });
}

/** Spectra on one axis: each has points of its own, so the axis holds them all. */
function spectrumSpec(
  data: ChartData,
  wanted: readonly (readonly [label: string, series: string, color: string, dashed: boolean])[],
): PlotSpec {
  const found = wanted.flatMap(([label, series, color, dashed]) => {
    const one = data.spectra[series];
    return one === undefined
      ? []
      : [
          {
            label,
            color,
            dashed,
            at: new Map(one.points.map(([share, ns]) => [percentilePlace(share, one.count), Math.max(ns, 1)])),
          },
        ];
  });
  const xs = [...new Set(found.flatMap(({ at }) => [...at.keys()]))].toSorted((a, b) => a - b);
  const lines = found.map(({ label, color, dashed, at }): Line => ({
    label,
    color,
    dashed,
    joined: true,
    values: xs.map((x) => at.get(x) ?? null),
  }));
  return { x: 'percentile', xs, unit: 'ns', logarithmic: true, lines, empty: 'No samples were recorded.' };
}

/** The numbers behind a chart. */
function tableOf(spec: PlotSpec | null): {
  readonly heads: readonly string[];
  readonly rows: readonly (readonly string[])[];
} {
  if (spec === null) return { heads: [], rows: [] };
  const unitOf = (line: Line, share: boolean): Unit => line.unit ?? (share ? 'share' : spec.unit);
  const lines = [
    ...spec.lines.map((line) => ({ line, share: false })),
    ...(spec.shareLines ?? []).map((line) => ({ line, share: true })),
  ];
  const first = spec.x === 'time' ? 'Middle of the slot' : spec.x === 'percentile' ? 'Percentile' : 'At';
  const place = (x: number): string => {
    if (spec.x === 'time') return moment(x, spec.xEnd ?? 1);
    return spec.x === 'percentile' ? `${Number((100 * (1 - 10 ** -x)).toPrecision(8))}%` : whole(x);
  };
  return {
    heads: [first, ...lines.map(({ line }) => line.label)],
    rows: spec.xs.map((x, i) => [
      place(x),
      ...lines.map(({ line, share }) => showValue((line.shown ?? line.values)[i], unitOf(line, share))),
    ]),
  };
}
