/** Panels in the few forms the boards use. Each has a description; units are Grafana's. */
import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  HeatmapCellLayout,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  ScaleDistribution,
  ScaleDistributionConfigBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  FieldColorBuilder,
  FieldColorModeId,
  MappingType,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type DynamicConfigValue,
  type Panel,
  type Threshold,
} from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import { DataqueryBuilder, PromQueryFormat, QueryEditorMode } from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

/** Resolved by the variable of the board: no id of one server's datasource is in the JSON. */
export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

export interface Query {
  readonly expr: string;
  /** Name of the series, with labels as {{label}}. */
  readonly legend?: string;
}

interface Common {
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly queries: readonly Query[];
  /** Columns of 24. */
  readonly span: number;
  readonly height?: number;
}

/** From the upper end of each step on, in this colour. The first begins at minus infinity. */
type Steps = readonly (readonly [color: string, from: number | null])[];

const target = ({ expr, legend }: Query, index: number): DataqueryBuilder => {
  const query = new DataqueryBuilder()
    .refId(String.fromCharCode(65 + index))
    .datasource(DATASOURCE)
    .editorMode(QueryEditorMode.Code)
    .expr(expr);
  return legend === undefined ? query : query.legendFormat(legend);
};

const steps = (list: Steps): ThresholdsConfigBuilder =>
  new ThresholdsConfigBuilder()
    .mode(ThresholdsMode.Absolute)
    .steps(list.map(([color, value]): Threshold => ({ color, value })));

export interface Lines extends Common {
  readonly stacked?: boolean;
  /** Logarithmic axis, for latencies that span decades. */
  readonly log?: boolean;
  readonly max?: number;
  /** A limit drawn as a dashed line. */
  readonly limit?: number;
  /** Series whose names match are drawn dashed. */
  readonly dashed?: string;
  /** Colours of series whose meaning has one, by name. */
  readonly colors?: Readonly<Record<string, string>>;
}

export function lines(options: Lines): Builder<Panel> {
  const { title, description, unit, queries, span, height = 8 } = options;
  const panel = new timeseries.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(unit)
    .span(span)
    .height(height)
    .targets(queries.map((query, i) => target(query, i).range()))
    .lineWidth(options.stacked ? 1 : 2)
    .fillOpacity(options.stacked ? 40 : 0)
    .showPoints(VisibilityMode.Auto)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassicByName))
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  if (options.log) panel.scaleDistribution(new ScaleDistributionConfigBuilder().type(ScaleDistribution.Log).log(10));
  else panel.min(0);
  if (options.max !== undefined) panel.max(options.max);
  if (options.stacked) panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'));
  if (options.limit !== undefined) {
    panel
      .thresholds(
        steps([
          ['transparent', null],
          ['red', options.limit],
        ]),
      )
      .thresholdsStyle(new GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed));
  }
  if (options.dashed !== undefined) {
    const style: DynamicConfigValue = { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 6] } };
    panel.overrideByRegexp(options.dashed, [style, { id: 'custom.lineWidth', value: 1 }]);
  }
  for (const [name, fixedColor] of Object.entries(options.colors ?? {})) {
    panel.overrideByName(name, [{ id: 'color', value: { mode: FieldColorModeId.Fixed, fixedColor } }]);
  }
  return panel;
}

export interface Figure extends Common {
  readonly steps?: Steps;
  /** What to show instead of a value, with its colour. */
  readonly words?: Readonly<Record<string, readonly [text: string, color: string]>>;
  /** Show the name of the series instead of its value. */
  readonly name?: boolean;
  /** The background carries the colour. */
  readonly loud?: boolean;
  readonly sparkline?: boolean;
  readonly decimals?: number;
  readonly noValue?: string;
}

export function figure(options: Figure): Builder<Panel> {
  const { title, description, unit, queries, span, height = 4, words } = options;
  const panel = new stat.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(unit)
    .span(span)
    .height(height)
    .targets(queries.map((query, i) => target(query, i).range()))
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .graphMode(options.sparkline ? BigValueGraphMode.Area : BigValueGraphMode.None)
    .colorMode(options.loud ? BigValueColorMode.Background : BigValueColorMode.Value)
    .textMode(options.name ? BigValueTextMode.Name : BigValueTextMode.Auto)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .thresholds(steps(options.steps ?? [['text', null]]));
  if (options.decimals !== undefined) panel.decimals(options.decimals);
  if (options.noValue !== undefined) panel.noValue(options.noValue);
  if (words !== undefined) panel.mappings([valueWords(words)]);
  return panel;
}

const valueWords = (words: NonNullable<Figure['words']>) => ({
  type: MappingType.ValueToText as const,
  options: Object.fromEntries(
    Object.entries(words).map(([value, [text, color]], index) => [value, { text, color, index }]),
  ),
});

/** Buckets over time: the colour says how many operations fell into a bucket. */
export function heat(options: Common): Builder<Panel> {
  const { title, description, unit, queries, span, height = 9 } = options;
  return new heatmap.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .span(span)
    .height(height)
    .targets(queries.map((query, i) => target(query, i).range().format(PromQueryFormat.Heatmap).legendFormat('{{le}}')))
    .calculate(false)
    .rowsFrame(new heatmap.RowsHeatmapOptionsBuilder().layout(HeatmapCellLayout.Le))
    .yAxis(
      new heatmap.YAxisConfigBuilder()
        .unit(unit)
        .scaleDistribution(new ScaleDistributionConfigBuilder().type(ScaleDistribution.Log).log(2)),
    )
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme('Oranges')
        .scale(heatmap.HeatmapColorScale.Exponential)
        .exponent(0.5)
        .steps(64),
    )
    .filterValues(new heatmap.FilterValueRangeBuilder().le(1e-9))
    .cellGap(1)
    .tooltip(new heatmap.HeatmapTooltipBuilder().mode(TooltipDisplayMode.Single).yHistogram(true).showColorScale(true))
    .showLegend();
}

/** What holds and what does not, over time. */
export function states(options: Common & Pick<Figure, 'words'>): Builder<Panel> {
  const { title, description, queries, span, height = 6, words = {} } = options;
  return new statetimeline.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(options.unit)
    .span(span)
    .height(height)
    .targets(queries.map((query, i) => target(query, i).range()))
    .mappings([valueWords(words)])
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .thresholds(steps([['text', null]]))
    .showValue(VisibilityMode.Never)
    .mergeValues(true)
    .rowHeight(0.8)
    .lineWidth(0)
    .fillOpacity(80)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    );
}

export interface Rows extends Common {
  /** Columns in order: label of the series to heading, `Value #A` for the value of query A. Others are left out. */
  readonly columns: Readonly<Record<string, string>>;
  /** Queries are joined on this label; left out with a single query. */
  readonly joinBy?: string;
  /** Units of columns by heading. */
  readonly units?: Readonly<Record<string, string>>;
}

export function rows(options: Rows): Builder<Panel> {
  const { title, description, queries, span, height = 6, columns, joinBy } = options;
  const names = Object.keys(columns);
  const panel = new table.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(options.unit)
    .span(span)
    .height(height)
    .targets(queries.map((query, i) => target(query, i).instant().format(PromQueryFormat.Table)));
  if (joinBy !== undefined) {
    panel.withTransformation({ id: 'joinByField', options: { byField: joinBy, mode: 'outer' } });
  }
  panel.withTransformation({ id: 'filterFieldsByName', options: { include: { names } } }).withTransformation({
    id: 'organize',
    options: {
      excludeByName: {},
      indexByName: Object.fromEntries(names.map((name, i) => [name, i])),
      renameByName: columns,
    },
  });
  for (const [heading, unit] of Object.entries(options.units ?? {})) {
    panel.overrideByName(heading, [{ id: 'unit', value: unit }]);
  }
  return {
    build() {
      const built = panel.build();
      // An option of older versions that the builder still sets.
      const { footer: _footer, ...kept } = built.options as Record<string, unknown>;
      return { ...built, options: kept };
    },
  };
}
