/** The HTML report of a run: one file that needs nothing else, made from the run directory alone. */
import { duration } from '../format.ts';
import { readContents, type RunContents } from '../contents.ts';
import { guestSections, section, timeSections } from './chart-sections.ts';
import { html, type Markup } from './markup.ts';
import { page } from './page.ts';
import * as sections from './sections.ts';

/** @throws UserError 104 when `directory` is not a run directory. */
export const reportOf = (directory: string): string => renderReport(readContents(directory));

const CONTENTS = [
  ['verdict', 'Verdict'],
  ['thresholds', 'Thresholds'],
  ['latency', 'Latency over time'],
  ['spectrum', 'Percentiles'],
  ['heatmap', 'Heatmap'],
  ['locks', 'Locks'],
  ['deferred', 'Deferred accounting'],
  ['throughput', 'Throughput'],
  ['phases', 'Phases of the guests'],
  ['guests', 'Guests'],
  ['accounting', 'Ledger'],
  ['health', "Generator's health"],
  ['events', 'Events'],
  ['configuration', 'Configuration'],
  ['reproduce', 'Reproduce'],
] as const;

export function renderReport(contents: RunContents): string {
  const { results, record, charts, missing } = contents;
  const { run } = results;
  const startedAt = record?.run.startedAt ?? run.startedAt;
  return page({
    entry: 'report',
    title: `${run.name}: ${results.verdict.verdict} (pinstorm)`,
    name: run.name,
    bar: sections.pill(results),
    contents: CONTENTS,
    main: html`${sections.verdict(results, missing)}
    ${section('thresholds', 'Thresholds', null, sections.thresholds(results))}
    ${timeSections(sections.latencyTable(results))} ${guestSections()}
    ${section('accounting', 'Accounting ledger', 'What locked_vm should be, what was deferred, and every invariant that was violated.', sections.ledger(results))}
    ${section('health', "The generator's health", 'Whether the figures are those of the model or of the machine that ran it.', html`${sections.generatorHealth(results)} ${(results.health.perWorker?.length ?? 0) > 0 && sections.workerFigures(results)}`)}
    ${section('events', 'Events', null, sections.events(charts.events))}
    ${section('configuration', 'Configuration', null, configuration(contents))}
    ${section('reproduce', 'Reproduce', 'The same seed and scenario give the same guests and the same operations.', reproduce(contents))}`,
    foot: html`Made by pinstorm ${run.version} from the run of ${startedAt}, plan ${run.planHash.slice(0, 16)}. One
    file, nothing is loaded from anywhere.`,
    data: charts,
  });
}

function configuration({ results, record, scenario }: RunContents): Markup {
  const { run, health } = results;
  const fact = (name: string, value: string): Markup =>
    html`<div>
      <dt>${name}</dt>
      <dd>${value}</dd>
    </div>`;
  return html`<dl class="facts">
      ${fact('Scenario', run.name)} ${fact('Variant', run.variant)} ${fact('Seed', String(run.seed))}
      ${fact('Clock', `${run.driver === 'virtual' ? 'simulated time' : 'real time'}, pace ${run.pace}`)}
      ${fact('Length', duration(results.durationNs))}
      ${fact('Cost profile', `${health.profile.name}, ${health.profile.calibrated ? 'calibrated' : 'not calibrated'}`)}
      ${record && fact('Expected violations', record.expect.length === 0 ? 'none' : record.expect.join(', '))}
      ${fact('Plan', run.planHash)}
      ${fact('pinstorm', `${run.version}${record === null ? '' : `, Node.js ${record.node}`}`)}
      ${record && fact('Machine', `${record.machine.cpu}, ${record.machine.cores} cores, ${(record.machine.memoryBytes / 2 ** 30).toFixed(1)} GiB, ${record.machine.system}`)}
    </dl>
    ${
      scenario !== null &&
      scenario !== '' &&
      html`<details>
        <summary>The scenario, with every default filled in</summary>
        <pre tabindex="0">${scenario}</pre>
      </details>`
    }`;
}

function reproduce({ results, record, scenario }: RunContents): Markup {
  const command = (record?.run.commandLine ?? results.run.commandLine).map(shellWord).join(' ');
  const { run } = results;
  const again = `pinstorm ${run.driver === 'virtual' ? 'simulate' : 'run'} scenario.yaml`;
  const copy = (text: string, label: string): Markup =>
    html`<div class="copy">
      <pre tabindex="0"><code>${text}</code></pre>
      <button type="button" data-copy="${text}" aria-label="Copy ${label}">Copy</button>
    </div>`;
  return html`${
      command !== '' &&
      html`<p>As it was started:</p>
        ${copy(command, 'the command')}`
    }
    ${
      scenario !== null &&
      scenario !== '' &&
      html`<p>From the run directory, whatever became of the scenario file:</p>
        ${copy(again, 'the command for the run directory')}`
    }
    <p class="lead">Equal plan hashes are equal loads: <code>${run.planHash}</code>.</p>`;
}

const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
