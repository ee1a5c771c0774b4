/** The HTML report of a comparison or a sweep: what differs in words, plots side by side, every figure in a table. */
import { basename } from 'node:path';
import { plural } from '../../base/plural.ts';
import {
  ALIKE,
  cellName,
  changeOf,
  changeText,
  effectText,
  findingsOf,
  settingParts,
  showFigure,
  type Experiment,
  type ExperimentCell,
  type Figure,
} from '../experiment.ts';
import { section } from './chart-sections.ts';
import { html, type Markup } from './markup.ts';
import { page } from './page.ts';

/** Metrics that open the report, when they are there. */
const FIRST = [/^throughput$/, / p99$/, / p50$/, / mean$/, /^duration$/, / total$/];

export function renderExperiment(experiment: Experiment): string {
  const { kind, scenario, cells, axes } = experiment;
  const metrics = metricsOf(experiment);
  const curve = kind === 'sweep' && axes.some(({ numeric, values }) => numeric && values.length > 1);
  const title = `${kind === 'compare' ? 'Comparison' : 'Sweep'} of ${basename(scenario).replace(/\.ya?ml$/, '')}`;
  return page({
    entry: 'experiment',
    title: `${title} (pinstorm)`,
    name: title,
    bar: html`<span class="pill">${cells.length} cells, ${repetitionsOf(cells)}</span>`,
    contents: [
      ['verdict', 'In words'],
      ...(curve ? [['curves', 'Curves'] as const] : []),
      ['plots', 'Side by side'],
      ['figures', 'All figures'],
      ['reproduce', 'Reproduce'],
    ],
    main: html`${verdictSection(experiment, title)}
    ${curve && section('curves', 'Curves', isRandom(cells) ? 'The line is the median of the repetitions, the band its confidence interval.' : ALIKE, html`<figure data-chart="sweep"></figure>`)}
    ${section(
      'plots',
      'Side by side',
      `${keysOf(cells)}${isRandom(cells) ? 'The dot is the median of the repetitions, the bar its confidence interval, each tick one repetition.' : ALIKE}`,
      html`<div class="columns">${metrics.slice(0, 8).map((metric) => dotPlot(metric, experiment))}</div>`,
    )}
    ${section('figures', 'All figures', null, figureTable(experiment, metrics))}
    ${section(
      'reproduce',
      'Reproduce',
      null,
      html`<div class="copy">
        <pre tabindex="0"><code>${experiment.commandLine.join(' ')}</code></pre>
      </div>`,
    )}`,
    foot: html`Made by pinstorm ${experiment.version} from the experiment of ${experiment.startedAt}. One file, nothing
    is loaded from anywhere.`,
    data: experiment,
  });
}

const isRandom = (cells: readonly ExperimentCell[]): boolean => cells.some(({ setting }) => setting.random);

const repetitionsOf = ([cell]: readonly ExperimentCell[]): string =>
  `${plural(cell?.seeds.length ?? 0, 'repetition')} each`;

/** What differs, in words. */
function verdictSection(experiment: Experiment, title: string): Markup {
  const { kind, cells, complete } = experiment;
  const findings = findingsOf(experiment);
  const failed = cells.some(({ exitCode = 0 }) => exitCode !== 0);
  const worst =
    failed || findings.some(({ change }) => change === 'worse')
      ? 'fail'
      : findings.some(({ change }) => change === 'better')
        ? 'pass'
        : 'running';
  const violated = cells.filter(({ violations }) => violations.length > 0);
  return html`<section
    class="verdict v-${kind === 'compare' || failed ? worst : 'running'}"
    id="verdict"
    aria-labelledby="verdict-title"
  >
    <h1 id="verdict-title">${title}</h1>
    <p class="meta">${cells.length} cells, ${repetitionsOf(cells)} with the same seeds for all, in simulated time</p>
    <p class="meta">${settingParts(cells).join('; ')}</p>
    ${
      !complete && html`<p class="notice" role="note">It was stopped: these are the repetitions that were complete.</p>`
    }
    <ul>
      ${kind === 'compare' ? findings.map(({ sentence }) => html`<li>${sentence}</li>`) : sweepSentences(experiment)}
      ${violated.map((cell) => html`<li>${cellName(cell)} violated unexpectedly: ${cell.violations.join(', ')}.</li>`)}
      ${cells.flatMap((cell) => (cell.failures ?? []).map((text) => html`<li>${cellName(cell)}: ${text}.</li>`))}
    </ul>
    <p class="lead">
      ${
        isRandom(cells)
          ? 'Medians over the repetitions with their confidence interval; differences are judged by a Mann-Whitney test over the repetitions. Samples of different repetitions are never pooled.'
          : ALIKE
      }
      ${kind === 'compare' && `Differences below ${effectText(experiment.minEffect)} are neither better nor worse.`}
    </p>
  </section>`;
}

/** Every metric that is not zero everywhere: those that differ first, by how much, then the telling ones. */
function metricsOf({ cells }: Experiment): string[] {
  const all = [...new Set(cells.flatMap(({ metrics }) => Object.keys(metrics)))];
  const telling = all.filter((metric) => cells.some(({ metrics }) => (metrics[metric]?.median ?? 0) !== 0));
  const rank = (metric: string): number => {
    const at = FIRST.findIndex((pattern) => pattern.test(metric));
    return at < 0 ? FIRST.length : at;
  };
  const differs = (metric: string): number => {
    const figures = cells.flatMap(({ metrics }) => metrics[metric] ?? []);
    const sizes = figures.map(({ against }) =>
      against?.significant === true && against.ratio !== null ? Math.abs(Math.log(Math.max(against.ratio, 1e-9))) : 0,
    );
    return Math.max(0, ...sizes);
  };
  return telling.toSorted((a, b) => differs(b) - differs(a) || rank(a) - rank(b));
}

function sweepSentences({ knees, cells, minEffect }: Experiment): Markup[] {
  const out = knees.map(({ labels, key, at }) => {
    const where = cellName({ labels });
    const what = at === null ? `throughput has no knee in this range of ${key}` : `throughput flattens at ${key} ${at}`;
    return html`<li>${where === '' ? what : `${where}: ${what}`}.</li>`;
  });
  if (knees.length > 0 && cells[0]?.seeds.length === 1 && cells.some(({ setting }) => setting.random)) {
    out.push(html`<li>Each knee rests on 1 repetition: use --repeat 5 to see how far it moves.</li>`);
  }
  const rated = cells.flatMap((cell) => {
    const figure = cell.metrics['throughput'];
    return figure === undefined ? [] : [{ cell, figure }];
  });
  const [best] = rated.toSorted((a, b) => b.figure.median - a.figure.median);
  if (best !== undefined && rated.length > 1) {
    const near = rated.filter(({ figure }) => figure.median >= best.figure.median * (1 - minEffect));
    const names = near.slice(0, 4).map(({ cell }) => cellName(cell));
    const more = near.length > names.length ? ` and ${near.length - names.length} more` : '';
    const within = near.length > 1 ? ` (within ${effectText(minEffect)})` : '';
    out.push(
      html`<li>
        The highest throughput is that of ${names.join('; ')}${more}${within}:
        ${showFigure(best.figure.median, best.figure.unit)}.
      </li>`,
    );
  }
  return out;
}

/** A cell by its values alone, beside a heading that names the keys. */
const valuesOf = ({ labels }: ExperimentCell): string => Object.values(labels).join(', ');

/** The settings that the rows are named by, once for all. */
const keysOf = ([cell]: readonly ExperimentCell[]): string => `Rows: ${Object.keys(cell?.labels ?? {}).join(', ')}. `;

const WIDTH = 440;
const ROW = 26;
const NAME_WIDTH = 120;

/** A small plot of one metric: a row for each cell. */
function dotPlot(metric: string, { cells, minEffect }: Experiment): Markup {
  const rows = cells.flatMap((cell) => {
    const figure = cell.metrics[metric];
    return figure === undefined ? [] : [{ name: valuesOf(cell), figure }];
  });
  const most = Math.max(...rows.map(({ figure }) => Math.max(figure.interval.high, ...figure.values)), 0);
  const x = (value: number): string =>
    (NAME_WIDTH + (most === 0 ? 0 : value / most) * (WIDTH - NAME_WIDTH - 70)).toFixed(1);
  const shown = rows.slice(0, 24);
  const text = shown.map(({ name, figure }) => `${name} ${showFigure(figure.median, figure.unit)}`).join(', ');
  return html`<figure class="dots">
    <figcaption>${metric}</figcaption>
    <svg viewBox="0 0 ${WIDTH} ${shown.length * ROW + 6}" role="img" aria-label="${metric}: ${text}">
      ${shown.map(({ name, figure }, i) => {
        const y = i * ROW + ROW / 2;
        const { low, high } = figure.interval;
        return html`<text class="name" x="${NAME_WIDTH - 10}" y="${y + 4}">${name.slice(0, 18)}</text>
          <line class="base" x1="${NAME_WIDTH}" x2="${WIDTH - 70}" y1="${y}" y2="${y}"></line>
          ${figure.values.map((value) => html`<line class="one" x1="${x(value)}" x2="${x(value)}" y1="${y - 6}" y2="${y + 6}"></line>`)}
          <line class="band ${changeOf(figure, minEffect)}" x1="${x(low)}" x2="${x(high)}" y1="${y}" y2="${y}"></line>
          <circle class="${changeOf(figure, minEffect)}" cx="${x(figure.median)}" cy="${y}" r="5"></circle>
          <text class="value" x="${WIDTH - 64}" y="${y + 4}">${showFigure(figure.median, figure.unit)}</text>`;
      })}
    </svg>
    ${rows.length > shown.length && html`<p class="lead">And ${rows.length - shown.length} more cells in the table.</p>`}
  </figure>`;
}

function figureTable({ cells, kind, minEffect }: Experiment, metrics: readonly string[]): Markup {
  const cell = (figure: Figure | undefined, first: boolean): Markup => {
    if (figure === undefined) return html`<td class="n">–</td>`;
    const { low, high, coverage } = figure.interval;
    const change = changeOf(figure, minEffect);
    const mark = { better: 'ok', worse: 'crossed', same: 'neutral', small: 'neutral', unknown: 'neutral' }[change];
    const words = { better: ' better', worse: ' worse', same: '', small: '', unknown: '' }[change];
    const pValue = figure.against?.p ?? null;
    const p = pValue === null ? '' : `p ${pValue.toPrecision(2)}`;
    return html`<td class="n">
      ${showFigure(figure.median, figure.unit)}${
        figure.values.length > 1 &&
        html`<br /><small
            >${showFigure(low, figure.unit)} to ${showFigure(high, figure.unit)} (${Math.round(coverage * 100)}
            %)</small
          >`
      }${
        !first &&
        figure.against !== null &&
        html`<br /><span class="${mark}"
            >${change === 'same' ? (figure.against.p === null ? 'the same' : '~ not significant') : `${changeText(figure)}${words}`}</span
          >
          <small>${p}</small>`
      }
    </td>`;
  };
  return html`<div class="scroll" tabindex="0" role="region" aria-label="All figures">
    <table>
      <thead>
        <tr>
          <th scope="col">Metric</th>
          ${cells.map((one, i) => html`<th scope="col" class="n">${cellName(one)}${kind === 'compare' && i === 0 ? ' (base)' : ''}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${metrics.map(
          (metric) =>
            html`<tr>
              <th scope="row">${metric}</th>
              ${cells.map(({ metrics: own }, i) => cell(own[metric], i === 0))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
