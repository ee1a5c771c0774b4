/**
 * Thresholds in k6's grammar: a metric with optional tags, and `aggregate operator number`.
 *
 *     op_duration{op:map}         p(99) < 2ms
 *     trylock_failures            rate < 100
 *     op_errors{op:map}           rate < 1%
 *     locked_vm_drift_pages       value == 0
 *     op_duration{op:map}         p(99) < 2ms over 30s            every 30 s of the run
 *     op_duration{op:map}         p(99) < 20ms during boot        a stage of the scenario
 *     op_errors                   rate < 1% over 5s during boot   every 5 s of it
 *     op_errors{op:map,expected:enomem}   rate == 0               refusals with ENOMEM are no errors
 *     op_duration{op:close}       p(99) < 2s or empty             holds too when there was nothing to measure
 *
 * Latencies need a unit, so that nobody has to know which one is meant; everything else is a plain number or per cent.
 */
import { suggestion } from '../base/suggest.ts';
import type { Nanoseconds } from '../base/units.ts';
import { formatDuration, parseDuration, UnitTextError } from '../base/units-text.ts';
import {
  actualSeries,
  intendedSeries,
  LOCK_MODES,
  lockHoldSeries,
  lockWaitSeries,
  OPS,
  OUTCOMES,
  SERIES,
  SERIES_BY_NAME,
  SINGLE_SERIES,
  type OpName,
  type OutcomeName,
  type SeriesId,
} from './ops.ts';
import { OWN_COUNTERS } from './stats.ts';

/** Gauges a threshold may name: their value at the end of the run. */
export const THRESHOLD_GAUGES = ['locked_vm_drift_pages', 'deferred_backlog'] as const;
export type ThresholdGauge = (typeof THRESHOLD_GAUGES)[number];

export const COMPARISONS = ['===', '==', '!=', '>=', '<=', '>', '<'] as const;
export type Comparison = (typeof COMPARISONS)[number];

/** What is measured: a trend of latencies, a counter, a share of all, or a gauge. */
export type Measured =
  | { readonly kind: 'trend'; readonly series: readonly SeriesId[] }
  | { readonly kind: 'counter'; readonly counter: string | null; readonly series: readonly SeriesId[] }
  | { readonly kind: 'rate'; readonly part: Amount; readonly whole: Amount }
  | { readonly kind: 'gauge'; readonly gauge: ThresholdGauge };
export type Amount = { readonly series: readonly SeriesId[] } | { readonly counter: string };

export interface Threshold {
  /** As written, without spaces: `op_duration{op:map}`. */
  readonly metric: string;
  /** As written, spaces normalised: `p(99) < 2ms over 30s`. */
  readonly expression: string;
  /** It must hold in every window of this length, ns of the scenario's time; null: over the whole run or stage. */
  readonly windowNs: number | null;
  /** It must hold during this stage; null: during the whole run. */
  readonly stage: string | null;
  /** It holds when there was nothing to measure; otherwise that leaves it not judged. */
  readonly mayBeEmpty: boolean;
  readonly measured: Measured;
  readonly aggregate: 'avg' | 'min' | 'max' | 'percentile' | 'count' | 'rate' | 'value';
  /** 0 .. 100, for `percentile`. */
  readonly percentile: number;
  readonly comparison: Comparison;
  /** ns for trends, otherwise a plain number; a share is 0 .. 1. */
  readonly limit: number;
}

/** A threshold that cannot be read. `offset` counts characters within the part, for error messages with a column. */
export class ThresholdError extends Error {
  override readonly name = 'ThresholdError';
  readonly part: 'metric' | 'expression';
  readonly offset: number;
  readonly hint: string;
  constructor(part: 'metric' | 'expression', offset: number, message: string, hint: string) {
    super(message);
    this.part = part;
    this.offset = offset;
    this.hint = hint;
  }
}

const AGGREGATES: Readonly<Record<Measured['kind'], readonly string[]>> = {
  trend: ['avg', 'min', 'max', 'med', 'p(N)'],
  counter: ['count', 'rate'],
  rate: ['rate'],
  gauge: ['value'],
};
const TIME_UNITS_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9 };

/** Names of all metrics a threshold may name, for messages and documentation. */
export function thresholdMetrics(modelCounters: readonly string[]): string[] {
  return [
    'op_duration',
    'op_duration_intended',
    'lock_wait',
    'lock_hold',
    ...SINGLE_SERIES,
    'ops',
    'op_errors',
    'trylock_failure_ratio',
    ...THRESHOLD_GAUGES,
    ...modelCounters,
    ...OWN_COUNTERS,
  ];
}

/** The shortest window, ns. */
const WINDOW_MIN_NS = 1e6;

/**
 * @param stages names of the scenario's stages; left out: any name is taken.
 * @throws ThresholdError for an unknown metric, tag or stage, or an expression that does not fit the metric.
 */
export function parseThreshold(
  metric: string,
  written: string,
  modelCounters: readonly string[],
  stages?: readonly string[],
): Threshold {
  const measured = parseMetric(metric, modelCounters);
  const { mayBeEmpty, spanned } = parseEmpty(written);
  const { expression, windowNs, stage } = parseSpan(spanned, stages);
  const shape = /^\s*([a-z]+)\s*(?:\(([^)]*)\))?\s*(===|==|!=|>=|<=|>|<)\s*(\S.*?)\s*$/.exec(expression);
  if (shape === null) {
    throw new ThresholdError(
      'expression',
      0,
      `'${expression}' is not a threshold`,
      `write an aggregate, a comparison and a number, for example '${exampleFor(measured.kind)}'`,
    );
  }
  const [, name, argument, comparison, number] = shape as unknown as [string, string, string?, Comparison?, string?];
  const allowed = AGGREGATES[measured.kind];
  const call = argument === undefined ? name : `${name}(N)`;
  if (!allowed.includes(call)) {
    throw new ThresholdError(
      'expression',
      expression.indexOf(name),
      `'${call}' does not fit the metric ${metric}`,
      `use ${allowed.join(', ')}, for example '${exampleFor(measured.kind)}'`,
    );
  }
  const percentile = name === 'med' ? 50 : argument === undefined ? 0 : Number(argument.trim() || 'none');
  if (!(percentile >= 0 && percentile <= 100)) {
    throw new ThresholdError(
      'expression',
      expression.indexOf('(') + 1,
      `percentile '${argument}' is not between 0 and 100`,
      `write for example 'p(99.9) < 2ms'`,
    );
  }
  return {
    metric: metric.replace(/\s+/g, ''),
    expression:
      `${argument === undefined ? name : `p(${argument.trim()})`} ${comparison} ${number}` +
      `${windowNs === null ? '' : ` over ${formatDuration(windowNs as Nanoseconds)}`}${stage === null ? '' : ` during ${stage}`}${mayBeEmpty ? ' or empty' : ''}`,
    windowNs,
    stage,
    mayBeEmpty,
    measured,
    aggregate: name === 'med' || name === 'p' ? 'percentile' : (name as Threshold['aggregate']),
    percentile,
    comparison: comparison as Comparison,
    limit: parseLimit(number as string, measured.kind, expression),
  };
}

/** Takes `or empty` off the end of an expression. */
function parseEmpty(written: string): { mayBeEmpty: boolean; spanned: string } {
  const [spanned = written] = /^.*(?=\s+or\s+empty\s*$)/s.exec(written) ?? [];
  return { mayBeEmpty: spanned !== written, spanned };
}

/** Takes `over DURATION` and `during STAGE` off the end of an expression, in either order, each once. */
function parseSpan(
  written: string,
  stages: readonly string[] | undefined,
): { expression: string; windowNs: number | null; stage: string | null } {
  const misplaced = /\bor\s+empty\b/.exec(written);
  if (misplaced !== null) {
    throw new ThresholdError(
      'expression',
      misplaced.index,
      "'or empty' comes last",
      "write for example 'p(99) < 2ms during boot or empty'",
    );
  }
  let expression = written;
  let windowNs: number | null = null;
  let stage: string | null = null;
  for (;;) {
    const clause = /^(.*\S)\s+(over|during)(?:\s+(\S+))?\s*$/s.exec(expression);
    if (clause === null) return { expression, windowNs, stage };
    const [, before, word, given = ''] = clause as unknown as [string, string, 'over' | 'during', string?];
    const at = before.length + expression.slice(before.length).search(/\S/);
    const fail = (message: string, hint: string): ThresholdError => new ThresholdError('expression', at, message, hint);
    if ((word === 'over' ? windowNs : stage) !== null) throw fail(`'${word}' is given twice`, 'keep one of them');
    expression = before;
    if (word === 'during') {
      if (given === '') throw fail("'during' needs the name of a stage", "write for example 'p(99) < 2ms during boot'");
      if (stages !== undefined && !stages.includes(given)) {
        const known = stages.length === 0 ? "name the scenario's parts under stages:" : `use ${stages.join(', ')}`;
        throw fail(`unknown stage '${given}'`, known);
      }
      stage = given;
      continue;
    }
    try {
      windowNs = parseDuration(given);
    } catch (error) {
      if (!(error instanceof UnitTextError)) throw error;
      throw fail(`'over ${given}': ${error.message}`, "write for example 'p(99) < 2ms over 30s'");
    }
    if (windowNs < WINDOW_MIN_NS) throw fail(`a window of ${given} is too short`, 'the minimum is 1ms');
  }
}

/** Limits of latency thresholds, ns: give them to the statistics as exact edges. */
export function exactEdgesNs(thresholds: readonly Threshold[]): number[] {
  return thresholds.filter((t) => t.measured.kind === 'trend').map((t) => t.limit);
}

function parseLimit(text: string, kind: Measured['kind'], expression: string): number {
  const offset = expression.lastIndexOf(text);
  const fail = (message: string, hint: string) => new ThresholdError('expression', offset, message, hint);
  const parts = /^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(\S*)$/i.exec(text);
  if (parts === null) throw fail(`'${text}' is not a number`, `write for example '${exampleFor(kind)}'`);
  const value = Number(parts[1]);
  const unit = parts[2] as string;
  if (kind === 'trend') {
    if (unit === '' && value !== 0) {
      throw fail(`'${text}' has no unit`, `a latency needs one: ${text}ns, ${text}us, ${text}ms or ${text}s`);
    }
    const scale = unit === '' ? 1 : TIME_UNITS_NS[unit];
    if (scale === undefined) throw fail(`unknown unit '${unit}'`, 'use ns, us, ms, s or m');
    if (value < 0) throw fail(`'${text}' is negative`, 'a latency is 0 or more');
    return value * scale;
  }
  if (unit === '%' && kind === 'rate') return value / 100;
  if (unit !== '') throw fail(`unexpected '${unit}'`, `write for example '${exampleFor(kind)}'`);
  return value;
}

function exampleFor(kind: Measured['kind']): string {
  return { trend: 'p(99) < 2ms', counter: 'count < 100', rate: 'rate < 1%', gauge: 'value == 0' }[kind];
}

function parseMetric(text: string, modelCounters: readonly string[]): Measured {
  const shape = /^\s*([a-z0-9_]+)\s*(?:\{([^}]*)\})?\s*$/.exec(text);
  if (shape === null) {
    throw new ThresholdError('metric', 0, `'${text}' is not a metric`, `write a name and tags: op_duration{op:map}`);
  }
  const name = shape[1] as string;
  /** Where a tag or its value stands in the text. */
  const at = (part: string) => text.indexOf(part, text.indexOf('{'));
  const tags = new Map<string, string>();
  for (const pair of (shape[2] ?? '').split(',').filter((p) => p.trim() !== '')) {
    const [key, value, rest] = pair.split(':').map((p) => p.trim());
    if (!key || !value || rest !== undefined) {
      throw new ThresholdError('metric', at(pair), `'${pair.trim()}' is not a tag`, 'write {tag:value}');
    }
    tags.set(key, value);
  }
  const tag = (key: string, known: readonly string[], several = false): readonly number[] | null => {
    const value = tags.get(key);
    if (value === undefined) return null;
    tags.delete(key);
    const index = known.indexOf(value);
    if (index >= 0) return [index];
    if (several) {
      const parts = value.split('+');
      if (parts.every((part) => known.includes(part))) return parts.map((part) => known.indexOf(part));
    }
    throw new ThresholdError('metric', at(value), `unknown ${key} '${value}'`, `use ${known.join(', ')}`);
  };
  const measured = measuredBy(name, tag, modelCounters);
  if (measured === null) {
    const known = thresholdMetrics(modelCounters);
    throw new ThresholdError('metric', 0, `unknown metric '${name}'`, suggestion(name, known));
  }
  const [leftOver] = tags.keys();
  if (leftOver !== undefined) {
    throw new ThresholdError('metric', at(leftOver), `${name} has no tag '${leftOver}'`, 'remove the tag');
  }
  return measured;
}

/** `several`: values joined by `+` are taken, too. */
type TagReader = (key: string, known: readonly string[], several?: boolean) => readonly number[] | null;

/** Everything but the harness' own null operation, unless it is asked for. */
const MODEL_OPS = OPS.flatMap((op, i) => (op === 'null' ? [] : [i]));
const ALL_OUTCOMES = OUTCOMES.map((_, i) => i);

function measuredBy(name: string, tag: TagReader, modelCounters: readonly string[]): Measured | null {
  const opSeries = (of: typeof actualSeries, outcomes: readonly number[]): SeriesId[] => {
    const ops = tag('op', OPS) ?? MODEL_OPS;
    const wanted = tag('outcome', OUTCOMES) ?? outcomes;
    return ops.flatMap((op) => wanted.map((outcome) => of(op, outcome)));
  };
  const modes = () => tag('mode', LOCK_MODES) ?? LOCK_MODES.map((_, i) => i);
  switch (name) {
    // A refused operation returns early: unless asked for, only successful ones count as latency.
    case 'op_duration':
      return { kind: 'trend', series: opSeries(actualSeries, [0]) };
    case 'op_duration_intended':
      return { kind: 'trend', series: opSeries(intendedSeries, [0]) };
    case 'lock_wait':
      return { kind: 'trend', series: modes().map(lockWaitSeries) };
    case 'lock_hold':
      return { kind: 'trend', series: modes().map(lockHoldSeries) };
    case 'ops':
      return { kind: 'counter', counter: null, series: opSeries(actualSeries, ALL_OUTCOMES) };
    case 'op_errors': {
      const ops = tag('op', OPS) ?? MODEL_OPS;
      const expected = tag('expected', OUTCOMES, true) ?? [];
      const of = (outcomes: readonly number[]) => ops.flatMap((op) => outcomes.map((o) => actualSeries(op, o)));
      const errors = ALL_OUTCOMES.slice(1).filter((outcome) => !expected.includes(outcome));
      return { kind: 'rate', part: { series: of(errors) }, whole: { series: of(ALL_OUTCOMES) } };
    }
    case 'trylock_failure_ratio':
      return { kind: 'rate', part: { counter: 'trylock_failures' }, whole: { counter: 'trylock_attempts' } };
  }
  if ((SINGLE_SERIES as readonly string[]).includes(name)) {
    return { kind: 'trend', series: [SERIES_BY_NAME.get(name) as SeriesId] };
  }
  const gauge = THRESHOLD_GAUGES.find((g) => g === name);
  if (gauge !== undefined) return { kind: 'gauge', gauge };
  if (modelCounters.includes(name) || (OWN_COUNTERS as readonly string[]).includes(name)) {
    return { kind: 'counter', counter: name, series: [] };
  }
  return null;
}

/** What must happen for there to be anything to measure; `wall clock`: it is never measured in simulated time. */
export type Condition = 'deferred update' | 'trylock' | 'wall clock';

/** What a threshold cannot be measured without; null: nothing in particular. */
export function conditionOf({ measured }: Threshold): Condition | null {
  if (measured.kind === 'rate') return 'counter' in measured.whole ? 'trylock' : null;
  if (measured.kind !== 'trend') return null;
  const ofKworkers = [lockWaitSeries, lockHoldSeries].map((of) => of(LOCK_MODES.indexOf('kworker')));
  const needs = (ids: readonly (SeriesId | undefined)[]): boolean => measured.series.every((id) => ids.includes(id));
  if (needs([SERIES_BY_NAME.get('lateness')])) return 'wall clock';
  const deferred = (['deferred_settle', 'deferred_lock_wait'] as const).map((name) => SERIES_BY_NAME.get(name));
  return needs([...deferred, ...ofKworkers]) ? 'deferred update' : null;
}

/** The outcomes besides ok that a threshold of errors does not count as errors. */
export function expectedOutcomes({ measured }: Threshold): OutcomeName[] {
  if (measured.kind !== 'rate' || !('series' in measured.whole) || !('series' in measured.part)) return [];
  const { part, whole } = measured;
  const expected = new Set(whole.series.filter((id) => !part.series.includes(id)).map((id) => SERIES[id]?.outcome));
  return OUTCOMES.filter((outcome) => outcome !== 'ok' && expected.has(outcome));
}

/** The operations a threshold is of; null: not of operations. A threshold without the tag is of all of them. */
export function opsOfThreshold({ measured }: Threshold): readonly OpName[] | null {
  const series = measured.kind === 'rate' ? ('series' in measured.whole ? measured.whole.series : []) : [];
  const all = measured.kind === 'trend' || measured.kind === 'counter' ? measured.series : series;
  const ops = new Set(all.flatMap((id) => SERIES[id]?.op ?? []));
  return ops.size === 0 ? null : [...ops];
}
