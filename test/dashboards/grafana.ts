/**
 * The boards as read from their JSON, and the part of Grafana that turns them into queries: variables and intervals.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat?: string;
  readonly format?: string;
  readonly instant?: boolean;
}

export interface Step {
  readonly value: number | null;
  readonly color: string;
}

export interface FieldDefaults {
  readonly unit?: string;
  readonly min?: number;
  readonly max?: number;
  readonly decimals?: number;
  readonly noValue?: string;
  readonly mappings?: readonly {
    readonly options: Readonly<Record<string, { readonly text: string; readonly color: string }>>;
  }[];
  readonly thresholds?: { readonly steps: readonly Step[] };
  readonly custom?: {
    readonly scaleDistribution?: { readonly type: string };
    readonly stacking?: { readonly mode: string };
    readonly thresholdsStyle?: { readonly mode: string };
  };
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly Target[];
  readonly options?: {
    readonly yAxis?: { readonly unit?: string };
    readonly textMode?: string;
    readonly colorMode?: string;
    readonly graphMode?: string;
  };
  readonly transformations?: readonly { readonly id: string; readonly options: Readonly<Record<string, unknown>> }[];
  readonly fieldConfig?: {
    readonly defaults: FieldDefaults;
    readonly overrides: readonly {
      readonly matcher: { readonly id: string; readonly options: string };
      readonly properties: readonly { readonly id: string; readonly value: unknown }[];
    }[];
  };
}

export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
  readonly regex?: string;
  readonly allValue?: string;
  readonly current?: { readonly value: string | readonly string[] };
}

export interface Annotation {
  readonly name: string;
  readonly iconColor: string;
  readonly target: Target;
  readonly textFormat: string;
  readonly useValueForTime?: boolean;
}

export interface Board {
  readonly id: null;
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly schemaVersion: number;
  readonly graphTooltip: number;
  readonly tags: readonly string[];
  readonly links: readonly { readonly type: string; readonly tags: readonly string[] }[];
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
  readonly annotations: { readonly list: readonly Annotation[] };
}

/** The committed boards, by the name of their file. */
export function readBoards(): Record<string, Board> {
  const files = readdirSync('dashboards').filter((file) => file.endsWith('.json'));
  return Object.fromEntries(
    files.map((file) => [
      file.slice(0, -'.json'.length),
      JSON.parse(readFileSync(`dashboards/${file}`, 'utf8')) as Board,
    ]),
  );
}

/** The panels that ask something. */
export const panelsOf = ({ panels }: Board): Panel[] => panels.filter(({ type }) => type !== 'row');

/** One series of an answer of Prometheus. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  /** Epoch seconds and value. */
  readonly values: readonly (readonly [number, number])[];
}

/** Seconds. */
export interface Range {
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly scrapeInterval: number;
}

/** A query as Grafana sends it: variables and intervals filled in. */
export function fill(expr: string, values: Readonly<Record<string, string>>, range: Range): string {
  const { from, to, step, scrapeInterval } = range;
  const known: Record<string, string> = {
    ...values,
    __range: `${Math.ceil(to - from)}s`,
    __interval: `${step}s`,
    __rate_interval: `${Math.max(step + scrapeInterval, 4 * scrapeInterval)}s`,
  };
  return expr.replaceAll(/\$\{?(\w+)\}?/g, (whole, name: string) => {
    const value = known[name];
    if (value === undefined) throw new Error(`the variable ${whole} of ${expr} is not known`);
    return value;
  });
}

/** Name of a series as Grafana writes it. */
export const legendOf = (format: string | undefined, metric: Series['metric']): string =>
  format === undefined
    ? JSON.stringify(metric)
    : format.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => metric[label] ?? '');

export class Prometheus {
  readonly #base: string;
  constructor(port: number) {
    this.#base = `http://127.0.0.1:${port}/api/v1`;
  }

  async #ask<T>(path: string, parameters: Readonly<Record<string, string>>): Promise<T> {
    const response = await fetch(`${this.#base}/${path}?${new URLSearchParams(parameters).toString()}`);
    const answer = (await response.json()) as { status: string; error?: string; data: T };
    if (answer.status !== 'success') throw new Error(`${answer.error}: ${parameters['query'] ?? path}`);
    return answer.data;
  }

  async instant(query: string, time: number): Promise<Series[]> {
    const { result } = await this.#ask<{ result: { metric: Series['metric']; value: [number, string] }[] }>('query', {
      query,
      time: String(time),
    });
    return result.map(({ metric, value: [at, value] }) => ({ metric, values: [[at, Number(value)]] }));
  }

  async range(query: string, { from, to, step }: Range): Promise<Series[]> {
    const { result } = await this.#ask<{ result: { metric: Series['metric']; values: [number, string][] }[] }>(
      'query_range',
      { query, start: String(from), end: String(to), step: String(step) },
    );
    return result.map(({ metric, values }) => ({ metric, values: values.map(([at, v]) => [at, Number(v)]) }));
  }

  labelValues(label: string, match: string, { from, to }: Range): Promise<string[]> {
    return this.#ask(`label/${label}/values`, { 'match[]': match, start: String(from), end: String(to) });
  }

  /** Names of all metrics it has, without those it makes itself. */
  async names(): Promise<string[]> {
    const names = await this.#ask<string[]>('label/__name__/values', {});
    return names.filter((name) => name.startsWith('pinstorm_'));
  }
}

/** The choices of a variable, as Grafana gets them: [text, value]. */
export async function choices(
  variable: Variable,
  prometheus: Prometheus,
  values: Readonly<Record<string, string>>,
  range: Range,
): Promise<(readonly [text: string, value: string])[]> {
  const query = typeof variable.query === 'string' ? variable.query : variable.query.query;
  if (variable.type === 'custom') return query.split(',').map((value) => [value, value]);
  if (variable.type !== 'query') throw new Error(`${variable.name}: nothing to choose from`);
  const labels = /^label_values\((.*), *(\w+)\)$/.exec(query);
  if (labels) {
    const found = await prometheus.labelValues(labels[2]!, fill(labels[1]!, values, range), range);
    return found.map((value) => [value, value]);
  }
  const result = /^query_result\((.*)\)$/.exec(query);
  if (!result) throw new Error(`${variable.name}: unknown kind of query ${query}`);
  const series = await prometheus.instant(fill(result[1]!, values, range), range.to);
  const regex = new RegExp(variable.regex!.slice(1, -1));
  return series.map(({ metric, values: [sample] }) => {
    // As Grafana writes a sample: {label="value",...} value timestamp-in-ms.
    const text = Object.entries(metric).map(([label, value]) => `${label}="${value}"`);
    const line = `${text.length > 0 ? `{${text.join(',')}}` : '{}'} ${sample![1]} ${sample![0] * 1000}`;
    const match = regex.exec(line.replace(/^\{\}/, ''));
    if (!match) throw new Error(`${variable.name}: ${variable.regex} does not match ${line}`);
    const { text: name = match[1]!, value = match[1]! } = match.groups ?? {};
    return [name, value];
  });
}
