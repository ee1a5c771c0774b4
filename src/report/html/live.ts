/**
 * The live page of a run: the frame, and the parts that are words, which the server sends again while the run goes on.
 */
import type { WorkerHealth } from '../../metrics/run-metrics.ts';
import type { ChartData, EventMark } from '../chart-data.ts';
import { duration, whole } from '../format.ts';
import type { RunIdentity, RunResults } from '../results.ts';
import { chart, guestSections, section, timeSections } from './chart-sections.ts';
import { html, type Markup } from './markup.ts';
import { page } from './page.ts';
import * as sections from './sections.ts';

const TABS = [
  ['charts', 'Charts'],
  ['guests', 'Guests'],
  ['account', 'Account'],
  ['workers', 'Workers'],
  ['events', 'Events'],
] as const;

/** @param token what a request to stop the run has to carry. */
export function livePage(run: RunIdentity, token: string): string {
  const fragment = (name: string): Markup => html`<div data-fragment="${name}"></div>`;
  const panels: Readonly<Record<(typeof TABS)[number][0], Markup>> = {
    charts: html`${section('throughput', 'Throughput', null, chart('throughput', 'Operations that ended per second'))}
    ${timeSections(html``)}`,
    guests: guestSections(),
    account: html`${section('thresholds', 'Thresholds', 'As they stand now.', fragment('thresholds'))}
    ${section('accounting', 'Accounting ledger', 'It is balanced when the guests are at rest.', fragment('ledger'))}`,
    workers: html`${section('workers', 'Workers', null, fragment('workers'))}
    ${section('health', "The generator's health", null, fragment('health'))}`,
    events: section('events', 'Events', 'What the guests noted is in events.jsonl.', fragment('events')),
  };
  return page({
    entry: 'live',
    title: `${run.name}: live (pinstorm)`,
    name: run.name,
    bar: html`<span class="pill" id="state" role="status">waiting for workers</span
      ><button type="button" class="stop" id="stop">Stop the run</button>`,
    contents: [],
    main: html`<section class="verdict v-running" id="run" aria-labelledby="run-title">
        <h1 id="run-title">${run.name}</h1>
        <p class="meta">variant ${run.variant}, seed ${run.seed}, <span id="clock">not started</span></p>
        <div data-fragment="warning"></div>
        <div data-fragment="tiles"></div>
      </section>
      <div role="tablist" aria-label="Parts of the run">
        ${TABS.map(
          ([id, text], i) =>
            html`<button
              type="button"
              role="tab"
              id="tab-${id}"
              aria-controls="panel-${id}"
              aria-selected="${i === 0 ? 'true' : 'false'}"
              tabindex="${i === 0 ? '0' : '-1'}"
            >
              ${text}
            </button>`,
        )}
      </div>
      ${TABS.map(
        ([id], i) =>
          html`<div
            role="tabpanel"
            id="panel-${id}"
            aria-labelledby="tab-${id}"
            tabindex="0"
            ${i === 0 ? null : html`hidden`}
          >
            ${panels[id]}
          </div>`,
      )}
      <dialog id="really" aria-labelledby="really-title">
        <h2 id="really-title">Stop the run?</h2>
        <p>Guests end at their next operation, the account is balanced, and the report is written.</p>
        <button type="button" class="stop" id="really-stop">Stop it</button>
        <button type="button" id="really-not">Let it go on</button>
      </dialog>`,
    foot: html`pinstorm ${run.version}, plan ${run.planHash.slice(0, 16)}. Served by the run itself, to this machine
    only.`,
    data: { token, charts: EMPTY },
    connect: "'self'",
  });
}

/** A run that has not begun. */
export const EMPTY: ChartData = {
  clock: 'wall',
  durationSeconds: 0,
  merged: 1,
  slots: [],
  spectra: {},
  events: [],
  guests: [],
};

/** The words and tables of the page as they are now, by name. */
export function fragmentsOf(
  results: RunResults,
  workers: readonly WorkerHealth[],
  events: readonly EventMark[],
): Record<string, string> {
  return {
    warning: warning(results).text,
    tiles: sections.tiles(results).text,
    latency: sections.latencyTable(results).text,
    thresholds: sections.thresholds(results).text,
    ledger: sections.ledger(results).text,
    health: sections.generatorHealth(results).text,
    workers: workerTable(workers).text,
    events: sections.events(events.toReversed()).text,
  };
}

/** A banner as soon as latencies are not to be trusted. */
function warning({ health: { saturation } }: RunResults): Markup {
  if (saturation === null) return html``;
  return html`<div class="notice" role="alert">
    <strong>Latencies are not to be trusted:</strong> ${saturation.reason}; ${saturation.advice}.
  </div>`;
}

function workerTable(workers: readonly WorkerHealth[]): Markup {
  if (workers.length === 0) return html`<p class="lead">No worker has come yet.</p>`;
  const heads = [
    'Last heard',
    'Guests running',
    'Threads',
    'Threads idle',
    'Operations',
    'Backlog',
    'Event loop p99',
    'Memory',
    'CPU time',
  ];
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Workers">
    <table>
      <thead>
        <tr>
          <th scope="col">Worker</th>
          <th scope="col">State</th>
          ${heads.map((head) => html`<th scope="col" class="n">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${workers.map(
          (w) =>
            html`<tr>
              <th scope="row">${w.name}</th>
              <td>${w.state}</td>
              <td class="n">${duration(Math.round(w.silenceSeconds * 1e9))} ago</td>
              <td class="n">${whole(w.guestsRunning)}</td>
              <td class="n">${whole(w.threads)}</td>
              <td class="n">${duration(Math.round(w.idleSeconds * 1e9))}</td>
              <td class="n">${whole(w.operations)}</td>
              <td class="n">${whole(w.deferredBacklog)}</td>
              <td class="n">${duration(Math.round(w.eventLoopDelaySeconds * 1e9))}</td>
              <td class="n">${(w.residentBytes / 2 ** 20).toFixed(0)} MiB</td>
              <td class="n">${duration(Math.round(w.cpuSeconds * 1e9))}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
