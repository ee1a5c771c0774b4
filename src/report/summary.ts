/** The end-of-run summary, in k6's order, at most 80 columns: a pure function of the results. */
import { isDeepStrictEqual } from 'node:util';
import { plural } from '../base/plural.ts';
import { withoutEscapes } from '../base/printable.ts';
import { clip, duration, paint, percent, quantity, whole, wrap, type Style } from './format.ts';
import type { Quantiles, RunResults, ThresholdResult, WorkerFigures } from './results.ts';
import { stateOf, type ThresholdState } from './thresholds.ts';
import { judgesLatencies, missingDeferred } from './verdict.ts';

const WIDTH = 80;
const LABEL = 30;
const CELL = 8;
const HISTORY_LINES = 12;

export function renderSummary(given: RunResults, style: Style): string {
  // The colours are ours alone.
  const results = withoutEscapes(given);
  const out = new Lines(style);
  const { run } = results;
  const clock = run.driver === 'virtual' ? 'simulated' : run.pace === 1 ? 'real time' : `pace ${run.pace}`;
  out.add(paint(style, 'bold', clip(`pinstorm ${run.name}`, WIDTH)));
  out.add(clip(`variant ${run.variant}, seed ${run.seed}, ${duration(results.durationNs)} (${clock})`, WIDTH));
  if (!results.complete) {
    out.add(paint(style, 'yellow', 'The run did not end: rebuilt from what its directory holds.'));
  }
  thresholdRows(out, results);
  accounting(out, results);
  latency(out, results);
  histogram(out, results);
  throughput(out, results);
  deferred(out, results);
  health(out, results);
  workers(out, results);
  verdict(out, results);
  return out.text();
}

class Lines {
  readonly style: Style;
  readonly #lines: string[] = [];

  constructor(style: Style) {
    this.style = style;
  }

  add(line: string): void {
    this.#lines.push(line);
  }

  section(title: string): void {
    this.#lines.push('', `  ${paint(this.style, 'bold', title)}`);
  }

  /** A label, dotted leaders, a value. */
  row(label: string, value: string): void {
    const name = clip(label, 36);
    this.add(`    ${name}${this.leaders(Math.max(LABEL - name.length, 4))} ${value}`);
  }

  /** Running text, indented and wrapped. */
  prose(text: string, indent = 4): void {
    for (const line of wrap(clip(text, 4000), WIDTH - indent)) this.add(' '.repeat(indent) + line);
  }

  leaders(length: number): string {
    return paint(this.style, 'dim', ` ${'.'.repeat(Math.max(length - 1, 1))}`);
  }

  mark(ok: boolean): string {
    if (this.style.unicode) return paint(this.style, ok ? 'green' : 'red', ok ? '✓' : '✗');
    return paint(this.style, ok ? 'green' : 'red', ok ? '[ok]' : '[FAIL]');
  }

  stateMark(state: ThresholdState): string {
    if (state !== 'not judged') return this.mark(state === 'held');
    return paint(this.style, 'yellow', this.style.unicode ? '?' : '[not judged]');
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

function thresholdRows(out: Lines, { thresholds: all }: RunResults): void {
  if (all.length === 0) return;
  out.section('THRESHOLDS');
  // Each operation has a threshold of errors: those that held are one line for each sentence.
  const quiet = new Map<string, string[]>();
  for (const t of all) {
    const [, op] = /^op_errors\{op:(\w+)\}$/.exec(t.metric) ?? [];
    if (op !== undefined && stateOf(t) === 'held') quiet.set(t.expression, [...(quiet.get(t.expression) ?? []), op]);
  }
  for (const [expression, ops] of quiet) {
    out.prose(`op_errors of ${ops.join(', ')}`);
    out.add(`      ${out.mark(true)} ${clip(`${expression}   each`, WIDTH - 14)}`);
  }
  const rest = all.filter((t) => !/^op_errors\{op:\w+\}$/.test(t.metric) || stateOf(t) !== 'held');
  for (const metric of new Set(rest.map((t) => t.metric))) {
    out.add(`    ${clip(metric, WIDTH - 4)}`);
    for (const t of rest.filter((one) => one.metric === metric)) {
      out.add(
        `      ${out.stateMark(stateOf(t))} ${clip(`${t.expression}   observed ${observed(t)}${when(t)}`, WIDTH - 14)}`,
      );
    }
  }
}

function observed({ observed: value, unit }: ThresholdResult): string {
  if (value === null) return 'nothing';
  if (unit === 'ns') return duration(value);
  if (unit === 'share') return percent(value);
  return unit === 'per_second' ? `${quantity(value)}/s` : quantity(value);
}

/** The window the figure is of. */
function when({ window }: ThresholdResult): string {
  if (window === undefined) return '';
  return ` at ${duration(window.startSeconds * 1e9)} to ${duration(window.endSeconds * 1e9)}`;
}

const times = (n: number): string => (n === 1 ? 'once' : `${whole(n)} times`);

function accounting(out: Lines, { accounting: a }: RunResults): void {
  out.section('ACCOUNTING');
  const drift = a.driftPages === 0 ? '' : `, off by ${whole(a.driftPages)} pages`;
  const mark = a.balance === 'unchecked' ? '' : `${out.mark(a.balance === 'exact')} `;
  out.row('balance', `${mark}${a.balance}${drift}`);
  for (const v of a.violations) {
    out.row(v.invariant, `${out.mark(v.expected)} violated ${times(v.count)}${v.expected ? ' (expected)' : ''}`);
    // What was expected needs no proof here: the HTML report has it.
    if (v.history === null || v.expected) continue;
    const lines = v.history.trimEnd().split('\n');
    for (const line of lines.slice(0, HISTORY_LINES)) out.add(`      | ${clip(line, WIDTH - 8)}`);
    if (lines.length > HISTORY_LINES) out.add(`      | ... ${lines.length - HISTORY_LINES} more lines in results.json`);
  }
  const { queued, applied, lost, discarded } = a.deferred;
  const missing = missingDeferred(a.deferred);
  const rest = [
    ...(discarded > 0 ? [`${whole(discarded)} discarded with their guests`] : []),
    ...(missing !== 0 ? [missing > 0 ? `${whole(missing)} missing` : `${whole(-missing)} too many`] : []),
    ...(lost > 0 ? [`${whole(lost)} never queued (no memory)`] : []),
  ];
  out.row('deferred', `${out.mark(missing === 0)} ${whole(queued)} queued, ${whole(applied)} applied`);
  for (const part of rest) out.row('', part);
  out.row('limit refusals', whole(a.limitRefusals));
  for (const note of a.notes) out.prose(note);
  out.prose(a.explanation);
}

const fits = (label: string): boolean => label.length <= LABEL - 5;

function latency(out: Lines, results: RunResults): void {
  out.section('LATENCY');
  const heads = ['count', 'p50', 'p90', 'p99', 'p99.9', 'max'];
  out.add(' '.repeat(4 + LABEL - 2) + heads.map((h) => h.padStart(CELL)).join(''));
  const row = (label: string, q: Quantiles | null) => {
    if (q === null) return;
    const cells = [quantity(q.count), ...[q.p50Ns, q.p90Ns, q.p99Ns, q.p999Ns, q.maxNs].map(duration)];
    const width = LABEL - 2;
    const name = clip(label, width - 3);
    out.add(`    ${name}${out.leaders(width - name.length)}${cells.map((c) => c.padStart(CELL)).join('')}`);
  };
  for (const { op, outcome, intended, actual } of results.latency) {
    const name = outcome === 'ok' ? op : `${op} ${outcome}`;
    if (isDeepStrictEqual(intended, actual)) {
      row(name, intended);
    } else {
      const [first, second] = [`${name}, intended start`, `${name}, actual start`];
      const long = fits(first);
      row(long ? first : name, intended);
      if (intended === null) row(fits(second) ? second : name, actual);
      else row(long ? second : '  from its actual start', actual);
    }
  }
  if (results.latency.length === 0) out.add('    no operation ended');
  const { split } = results;
  row('schedule lag', split.scheduleLag);
  for (const [mode, q] of Object.entries(split.lockWait)) row(`lock wait, ${mode}`, q);
  for (const [mode, q] of Object.entries(split.lockHold)) row(`lock hold, ${mode}`, q);
  row('deferred settlement', split.deferredSettle);
  row('its lock wait', split.deferredLockWait);
}

/** Rows of the histogram; with more, the decades are not split. */
const HISTOGRAM_ROWS = 12;

/** The latencies of the busiest operation as bars: two humps show what no percentile does. */
function histogram(out: Lines, { latency: all }: RunResults): void {
  const [busiest] = all
    .filter(({ op, outcome, ranges = [] }) => op !== 'null' && outcome === 'ok' && ranges.length > 1)
    .toSorted((a, b) => (b.intended?.count ?? 0) - (a.intended?.count ?? 0));
  if (busiest === undefined) return;
  let { ranges = [] } = busiest;
  if (ranges.length > HISTOGRAM_ROWS) {
    const decades = new Map<number, number>();
    for (const { belowNs, count } of ranges) {
      const bound = 10 ** Math.ceil(Math.log10(belowNs));
      decades.set(bound, (decades.get(bound) ?? 0) + count);
    }
    ranges = [...decades].map(([belowNs, count]) => ({ belowNs, count }));
  }
  const total = ranges.reduce((n, { count }) => n + count, 0);
  const most = Math.max(...ranges.map(({ count }) => count));
  out.add('');
  out.add(`    ${clip(busiest.op, 20)}, intended start, by latency`);
  for (const { belowNs, count } of ranges) {
    const bar = (out.style.unicode ? '█' : '#').repeat(Math.max(1, Math.round((count / most) * 44)));
    out.add(`      < ${duration(belowNs).padStart(6)} ${percent(count / total).padStart(8)}  ${bar}`);
  }
}

function throughput(out: Lines, results: RunResults): void {
  out.section('THROUGHPUT');
  const seconds = results.durationNs / 1e9;
  const row = (label: string, n: number) =>
    out.row(label, `${quantity(n).padEnd(CELL)}${seconds > 0 ? `${quantity(n / seconds)}/s` : ''}`.trimEnd());
  const counts = results.latency.map((l) => ({ ...l, count: (l.actual ?? l.intended)?.count ?? 0 }));
  row(
    'operations',
    counts.filter((l) => l.op !== 'null').reduce((sum, l) => sum + l.count, 0),
  );
  for (const { op, outcome, count } of counts) row(`  ${outcome === 'ok' ? op : `${op} ${outcome}`}`, count);
  const { counters } = results;
  row('pages pinned', counters['pages_pinned'] ?? 0);
  row('pages unpinned', counters['pages_unpinned'] ?? 0);
}

function deferred(out: Lines, { counters, deferredBacklogMax }: RunResults): void {
  const attempts = counters['trylock_attempts'] ?? 0;
  out.section('DEFERRED');
  const failures = counters['trylock_failures'] ?? 0;
  const share = attempts > 0 ? ` (${percent(failures / attempts)})` : '';
  out.row('trylock failures', `${whole(failures)} of ${whole(attempts)}${share}`);
  if (deferredBacklogMax !== null) out.row('largest backlog', whole(deferredBacklogMax));
  const full = counters['ring_full_waits'] ?? 0;
  if (full > 0) out.row('waits for a full ring', whole(full));
}

function health(out: Lines, { run, health: h, counters, coverage: c }: RunResults): void {
  out.section('HEALTH');
  if (h.lateness !== null) out.row('lateness', `p50 ${duration(h.lateness.p50Ns)}, p99 ${duration(h.lateness.p99Ns)}`);
  out.row('latencies', `${out.mark(!h.saturated)} ${h.saturated ? 'not to be trusted' : 'trusted'}`);
  if (h.saturation !== null) out.prose(`${h.saturation.reason}; ${h.saturation.advice}.`);
  if (h.nullOperation !== null) {
    out.row('null operation', `p50 ${duration(h.nullOperation.p50Ns)}, p99 ${duration(h.nullOperation.p99Ns)}`);
  }
  if (h.eventLoopDelayP99Ns !== null) out.row('event-loop delay', `p99 ${duration(h.eventLoopDelayP99Ns)}`);
  if (h.clocks !== undefined) {
    out.row('clock skew', `${h.clocks.skewMs.toFixed(2)} ms to Redis, ±${(h.clocks.roundTripMs / 2).toFixed(2)} ms`);
  }
  const clamped = counters['values_clamped'] ?? 0;
  if (clamped > 0) out.row('latencies out of range', whole(clamped));
  const stopped = (c.guestsStopped ?? 0) > 0 ? `, ${whole(c.guestsStopped ?? 0)} stopped` : '';
  const lost = c.guestsLost > 0 ? `, ${whole(c.guestsLost)} lost` : '';
  const failed = c.guestsFailed > 0 ? `, ${whole(c.guestsFailed)} failed` : '';
  const again = (c.guestsRerun ?? 0) > 0 ? `, ${whole(c.guestsRerun ?? 0)} run again` : '';
  out.row(
    'guests',
    `${whole(c.guestsFinished)} of ${whole(c.guestsPlanned)} finished${stopped}${failed}${lost}${again}`,
  );
  if (run.driver === 'virtual') {
    const cpus = h.cores === 0 ? 'unlimited CPUs' : `${plural(h.cores, 'CPU')} each`;
    out.row('emulated', `${plural(h.workers, 'host')}, ${cpus}`);
  } else {
    out.row('machine', `${plural(h.workers, 'worker')}, ${plural(h.threads, 'thread')}, ${plural(h.cores, 'core')}`);
  }
  out.row('cost profile', clip(h.profile.name, 40));
  if (!h.profile.calibrated) {
    out.prose('The profile is not calibrated: shapes and invariants hold, nanoseconds are model units.');
  }
}

const WORKER_ROWS = 8;

/** The workers of a run, the latest first: one slow machine among many spoils the figures of all. */
function workers(out: Lines, { health: { perWorker = [] } }: RunResults): void {
  if (perWorker.length < 2) return;
  out.section('WORKERS');
  const cells = (...texts: string[]): string => texts.map((text) => text.padStart(11)).join('');
  out.add(`${' '.repeat(35)}${cells('guests', 'operations', 'CPU', 'late p99')}`);
  const late = ({ lateness }: WorkerFigures): number => lateness?.p99Ns ?? 0;
  const sorted = perWorker.toSorted((a, b) => late(b) - late(a));
  for (const worker of sorted.slice(0, WORKER_ROWS)) {
    const { name, guests, operations, cpuSeconds, lateness, lost } = worker;
    const label = clip(lost === null ? name : `${name} (lost)`, 29);
    const figures = [
      whole(guests),
      quantity(operations),
      duration(Math.round(cpuSeconds * 1e9)),
      lateness === null ? '-' : duration(lateness.p99Ns),
    ];
    out.add(`    ${label}${out.leaders(LABEL - label.length)} ${cells(...figures)}`);
  }
  if (sorted.length > WORKER_ROWS) out.add(`    and ${sorted.length - WORKER_ROWS} more, none later: see results.json`);
}

function verdict(out: Lines, { verdict: v, health: h, run, thresholds }: RunResults): void {
  out.section('VERDICT');
  const color = v.verdict === 'pass' ? 'green' : v.verdict === 'fail' ? 'red' : 'yellow';
  out.add(`    ${paint(out.style, color, v.verdict)}, exit status ${v.exitCode}`);
  for (const reason of v.reasons) out.prose(`- ${reason}`);
  if (h.saturated && !judgesLatencies(run.strict ?? false, thresholds)) {
    out.prose('The verdict is on the account and the counts. Latencies are not to be trusted: see HEALTH.');
  }
}
