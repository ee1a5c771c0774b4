/** What all boards have in common: variables, annotations, links, ids. */
import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  AnnotationQueryBuilder,
  CustomVariableBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableHide,
  VariableRefresh,
  VariableSort,
  type Dashboard,
  type Panel,
  type VariableModel,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { DATASOURCE } from './panels.ts';
import { gauge } from './query.ts';

/** The schema the boards are written for; Grafana migrates older ones when it loads them. */
export const SCHEMA_VERSION = 42;
const TAG = 'pinstorm';
/** How far back runs are looked for, whatever the range of the board. */
const RUNS_KEPT = '30d';

const queryVariable = (name: string, label: string, description: string, query: string): QueryVariableBuilder =>
  new QueryVariableBuilder(name)
    .label(label)
    .description(description)
    .datasource(DATASOURCE)
    .query({ query, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.Disabled);

/** Runs, newest first. The text says scenario and variant, the value is the run id. */
const runs = (name: string, label: string, description: string): QueryVariableBuilder => {
  const facts = `max by (run_id, scenario, variant) (max_over_time(pinstorm_run_info{role="coordinator"}[${RUNS_KEPT}]))`;
  const starts = `max by (run_id) (max_over_time(pinstorm_run_start_timestamp_seconds[${RUNS_KEPT}]))`;
  const named = `label_join(${facts} * on (run_id) group_left () ${starts}, "name", " ", "scenario", "variant", "run_id")`;
  return queryVariable(name, label, description, `query_result(sort_desc(max by (name, run_id) (${named})))`).regex(
    '/name="(?<text>[^"]+)", ?run_id="(?<value>[^"]+)"/',
  );
};

const startOf = (variable: string): string =>
  `max(max_over_time(pinstorm_run_start_timestamp_seconds{run_id=~"$${variable}"}[${RUNS_KEPT}]))`;

/** Seconds from the start of the baseline to that of the run. */
const shift = queryVariable(
  'shift',
  'Shift',
  'Seconds the baseline is moved by',
  `query_result(round(${startOf('run')} - ${startOf('baseline')}))`,
)
  .regex('/(-?[0-9]+) [0-9]+$/')
  .hide(VariableHide.HideVariable);

const op = queryVariable(
  'op',
  'Operation',
  'Kinds of operations',
  'label_values(pinstorm_op_duration_seconds_count{op!="null"}, op)',
)
  .sort(VariableSort.AlphabeticalAsc)
  .multi(true)
  .includeAll(true)
  .allValue('.+')
  .current({ selected: true, text: 'All', value: '$__all' });

const QUANTILES = ['0.5', '0.9', '0.99', '0.999'];
const quantiles = new CustomVariableBuilder('quantile')
  .label('Quantile')
  .description('Quantile where a panel shows one')
  .values(QUANTILES.join(','))
  .options(QUANTILES.map((value) => ({ selected: value === '0.99', text: value, value })))
  .current({ selected: true, text: '0.99', value: '0.99' });

const within = queryVariable(
  'within',
  'Within',
  'Edge of a bucket in seconds: the share of operations up to it is exact. Thresholds have edges of their own.',
  'label_values(pinstorm_op_duration_seconds_bucket{le!="+Inf"}, le)',
)
  .sort(VariableSort.NumericalAsc)
  .current({ selected: true, text: '0.001024', value: '0.001024' });

const VARIABLES = { op, quantiles, within, baseline: runs('baseline', 'Baseline', 'Run to compare with'), shift };
export type VariableName = keyof typeof VARIABLES;

interface Mark {
  readonly name: string;
  readonly color: string;
  readonly expr: string;
  readonly text: string;
  /** The value is the instant in milliseconds; otherwise it lasts while the value is above 0. */
  readonly instant?: boolean;
}

const MARKS: readonly Mark[] = [
  {
    name: 'Start',
    color: 'green',
    expr: '1000 * pinstorm_run_start_timestamp_seconds{run_id=~"$run"}',
    text: 'guests start',
    instant: true,
  },
  {
    name: 'Stage',
    color: 'blue',
    expr: `1000 * (${gauge('pinstorm_stage_start_timestamp_seconds')})`,
    text: '{{stage}}',
    instant: true,
  },
  {
    name: 'Phase',
    color: 'purple',
    expr: `1000 * (${gauge('pinstorm_run_phase_start_timestamp_seconds')})`,
    text: '{{phase}}',
    instant: true,
  },
  {
    name: 'Threshold crossed',
    color: 'orange',
    expr: `(${gauge('pinstorm_threshold_ok')}) == bool 0`,
    text: '{{metric}} {{expr}}',
  },
  {
    name: 'Worker lost',
    color: 'red',
    expr: `(${gauge('pinstorm_worker_up')}) == bool 0`,
    text: '{{worker}}',
  },
];

const annotation = ({ name, color, expr, text, instant = false }: Mark): AnnotationQueryBuilder =>
  new AnnotationQueryBuilder()
    .name(name)
    .datasource(DATASOURCE)
    .enable(true)
    .iconColor(color)
    .expr(expr)
    // The query proper; the fields beside it are what older versions of Grafana read.
    .target(new DataqueryBuilder().refId('Anno').expr(expr).range())
    .titleFormat(name)
    .textFormat(text)
    .step('10s')
    .useValueForTime(instant);

export interface Section {
  readonly title: string;
  readonly panels: readonly Builder<Panel>[];
}

export interface Board {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables?: readonly VariableName[];
  readonly sections: readonly Section[];
}

const variablesOf = (names: readonly VariableName[]): Builder<VariableModel>[] => [
  new DatasourceVariableBuilder('datasource').label('Prometheus').type('prometheus'),
  runs('run', 'Run', 'Scenario, variant and id; the newest first'),
  ...names.map((name) => VARIABLES[name]),
];

/** The builders give every variable the fields that only variables of intervals have. */
function withoutIntervals({ auto: _auto, auto_min: _min, auto_count: _count, ...rest }: VariableModel): VariableModel {
  return rest;
}

/** The JSON of a board, as Grafana provisions it. */
export function build(board: Board): Dashboard {
  const builder = new DashboardBuilder(board.title)
    .uid(board.uid)
    .description(board.description)
    .tags([TAG])
    .editable()
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: 'now-15m', to: 'now' })
    .refresh('5s')
    .variables(variablesOf(board.variables ?? []))
    .annotations(MARKS.map(annotation))
    .link(
      new DashboardLinkBuilder('pinstorm')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .includeVars(true)
        .keepTime(true),
    );
  for (const { title, panels } of board.sections) {
    builder.withRow(new RowBuilder(title));
    for (const panel of panels) builder.withPanel(panel);
  }
  const dashboard = builder.build();
  const list = dashboard.templating?.list?.map(withoutIntervals) ?? [];
  // Provisioning takes a board by its uid; the numeric id is the server's own.
  const panels = dashboard.panels?.map((panel, i) => ({ ...panel, id: i + 1 })) ?? [];
  return { ...dashboard, id: null, version: 1, schemaVersion: SCHEMA_VERSION, templating: { list }, panels };
}
