/**
 * Sections with places that the scripts fill with charts (src/report/browser/panels.ts), the same in the report and on
 * the live page.
 */
import { html, type Markup } from './markup.ts';

export function section(id: string, title: string, lead: string | null, body: Markup): Markup {
  return html`<section id="${id}" aria-labelledby="${id}-title">
    <h2 id="${id}-title">${title}</h2>
    ${lead !== null && html`<p class="lead">${lead}</p>`} ${body}
  </section>`;
}

/** A place for a chart, by its name there. */
export const chart = (name: string, caption: string): Markup =>
  html`<figure data-chart="${name}"><figcaption>${caption}</figcaption></figure>`;

/** The charts of the latencies, locks and deferred updates. @param figures the table of the whole run. */
export function timeSections(figures: Markup): Markup {
  return html` ${section(
    'latency',
    'Latency over time',
    'From the intended start: what somebody who wanted the operation then has to wait. From the actual start: what the operation itself took.',
    html`${chart('latency', 'Percentiles per slot of time, logarithmic')}
      <h3>The whole run</h3>
      <div data-fragment="latency">${figures}</div>`,
  )}
  ${section('spectrum', 'Percentile spectrum', 'How the latency grows towards the rarest samples. Where the two curves part, waiting for a start is counted only by the upper one.', chart('spectrum', 'Latency by percentile of the whole run'))}
  ${section('heatmap', 'Latency heatmap', 'Every sample of the run: the stronger the colour, the more of them. Two bands are two kinds of operations that one percentile would blur.', chart('heatmap', 'Samples by time and latency'))}
  ${section('locks', 'Lock wait against lock hold', 'A lock that is waited for longer than it is held is contended by more than one.', html`<div class="columns">${chart('locks-time', 'p99 of waiting and holding per slot of time')}${chart('locks-spectrum', 'Whole run, by percentile')}</div>`)}
  ${section('deferred', 'Deferred accounting', 'An update whose trylock of mmap_sem fails is deferred; until it is applied, locked_vm is wrong.', html`<div class="columns">${chart('backlog', 'Updates put off and not yet applied: the largest number per slot')}${chart('trylock', 'Updates put off and applied per second; share of trylocks that failed')}</div>`)}
  ${section('throughput', 'Throughput', null, chart('throughput', 'Operations that ended per second'))}`;
}

/** The charts and the table of the guests. */
export function guestSections(): Markup {
  return html`${section('phases', 'Phases of the guests', null, html`${chart('states', 'Guests by state')}${chart('lanes', 'Each guest: waiting for its start, running, its last deferred updates being applied, its processes exiting')}`)}
  ${section('guests', 'Guests', null, html`<div data-chart="guests"></div>`)}`;
}
