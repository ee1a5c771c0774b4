/** PromQL of the boards. Every metric a board shows is asked for through these functions, for the selected run only. */

/**
 * The series of the selected run: only the info series carries its id, so the rest is picked by where it was scraped. A
 * coordinator serves the sums of its workers; their own endpoints, if scraped too, must not be added to them.
 */
export const run = (variable = 'run', offset = ''): string =>
  `pinstorm_run_info{run_id=~"$${variable}", role="coordinator"}${offset}`;

/** Narrows a selection of series, with their job and instance labels, to a run. */
const ofRun = (expression: string, who: Who): string =>
  `${expression} and on (job, instance) ${run(who.variable, who.offset)}`;

/** Which run, and how far its time lies before that of the panel. */
export interface Who {
  readonly variable: string;
  readonly offset: string;
}
export const RUN: Who = { variable: 'run', offset: '' };
/** The baseline of the Compare board, moved so that both runs start at the same place. */
export const BASELINE: Who = { variable: 'baseline', offset: ' offset ${shift}s' };

/** A gauge as it is. */
export const gauge = (metric: string, who = RUN): string => ofRun(`${metric}${who.offset}`, who);

/** Sum of a gauge or counter, by labels. */
export const sumOf = (metric: string, by: readonly string[] = [], who = RUN): string =>
  `sum${grouped(by)} (${gauge(metric, who)})`;

/** Increase per second of a counter, summed. */
export const rate = (counter: string, by: readonly string[] = [], who = RUN): string =>
  `sum${grouped(by)} (${ofRun(`rate(${counter}[$__rate_interval]${who.offset})`, who)})`;

/** Increase of a counter in each interval, summed. */
export const increase = (counter: string, by: readonly string[] = []): string =>
  `sum${grouped(by)} (${ofRun(`increase(${counter}[$__rate_interval])`, RUN)})`;

/** A share of two rates. None, instead of a division by zero, where nothing happened. */
export const ratio = (part: string, whole: string): string => `${part} / (${whole} > 0)`;

/** A quantile from the buckets of a histogram, over all threads, workers and targets. Quantiles are never averaged. */
export const quantile = (q: string, histogram: string, by: readonly string[] = [], who = RUN): string =>
  `histogram_quantile(${q}, ${rate(bucketsOf(histogram), ['le', ...by], who)})`;

/** The same of the whole run so far: its buckets count from 0. */
export const quantileOfRun = (q: string, histogram: string, by: readonly string[], who = RUN): string =>
  `histogram_quantile(${q}, sum${grouped(['le', ...by])} (${wholeRun(bucketsOf(histogram), who)}))`;

/** The last value of a counter of the run within the range of the board. */
export const wholeRun = (counter: string, who = RUN): string =>
  `max_over_time((${ofRun(counter, { ...who, offset: '' })})[$__range:$__interval]${who.offset})`;

/** `name{labels}` to `name_bucket{labels}`, likewise for `_count` and `_sum`. */
const withSuffix = (metric: string, suffix: string): string => metric.replace(/^\w+/, (name) => `${name}_${suffix}`);
export const bucketsOf = (histogram: string): string => withSuffix(histogram, 'bucket');
export const countOf = (histogram: string): string => withSuffix(histogram, 'count');
export const totalOf = (histogram: string): string => withSuffix(histogram, 'sum');

const grouped = (by: readonly string[]): string => (by.length === 0 ? '' : ` by (${by.join(', ')})`);
