/**
 * The parts of a report that are words and tables: pure functions of the results. The live page sends them again and
 * again.
 */
import { lockName, nextSteps, verdictSentence } from '../advice.ts';
import type { EventMark } from '../chart-data.ts';
import { duration, percent, quantity, whole } from '../format.ts';
import type { Coverage, Quantiles, RunResults, ThresholdResult } from '../results.ts';
import { stateOf } from '../thresholds.ts';
import { missingDeferred } from '../verdict.ts';
import { html, type Markup } from './markup.ts';

const plural = (n: number, what: string): string => `${whole(n)} ${what}${n === 1 ? '' : 's'}`;

const stoppedGuests = ({ guestsStopped = 0 }: Coverage): string =>
  guestsStopped > 0 ? `${whole(guestsStopped)} stopped, ` : '';

export function clockText({ run }: RunResults): string {
  if (run.driver === 'virtual') return 'simulated time';
  return run.pace === 1 ? 'real time' : run.pace === 0 ? 'as fast as it goes' : `pace ${run.pace}`;
}

export const pill = ({ verdict: v }: RunResults): Markup =>
  html`<span class="pill ${v.verdict}">${v.verdict}, exit ${v.exitCode}</span>`;

/** The first thing a reader sees: how it went, why, and what to do. */
export function verdict(results: RunResults, missing: readonly string[]): Markup {
  const { run, verdict: v, durationNs } = results;
  return html`<section class="verdict v-${v.verdict}" id="verdict" aria-labelledby="verdict-title">
    <h1 id="verdict-title">${verdictSentence(results)}</h1>
    <p class="meta">
      ${run.name}: variant ${run.variant}, seed ${run.seed}, ${duration(durationNs)} (${clockText(results)}), exit
      status ${v.exitCode}
    </p>
    ${
      v.reasons.length > 1 &&
      html`<h2>Why</h2>
        <ul>
          ${v.reasons.map((reason) => html`<li>${reason}</li>`)}
        </ul>`
    }
    <h2>What to do</h2>
    <ul>
      ${nextSteps(results).map((step) => html`<li>${step}</li>`)}
    </ul>
    ${
      missing.length > 0 &&
      html`<div class="notice" role="note">
        <strong>What is missing.</strong>
        <ul>
          ${missing.map((text) => html`<li>${text}</li>`)}
        </ul>
      </div>`
    }
    ${!results.health.profile.calibrated && html`<p class="meta">The cost profile “${results.health.profile.name}” is not calibrated: shapes, counts and invariants hold, nanoseconds are model units.</p>`}
    ${tiles(results)}
  </section>`;
}

export function tiles(results: RunResults): Markup {
  const { counters, accounting, coverage, latency } = results;
  const seconds = results.durationNs / 1e9;
  const operations = latency
    .filter(({ op }) => op !== 'null')
    .reduce((n, l) => n + ((l.actual ?? l.intended)?.count ?? 0), 0);
  const busiest = latency
    .filter(({ op, outcome }) => op !== 'null' && outcome === 'ok')
    .toSorted((a, b) => (b.actual?.count ?? 0) - (a.actual?.count ?? 0))[0];
  const attempts = counters['trylock_attempts'] ?? 0;
  const failures = counters['trylock_failures'] ?? 0;
  const unexpected = accounting.violations.reduce((n, v) => n + (v.expected ? 0 : v.count), 0);
  const tile = (label: string, value: string, small: string): Markup =>
    html`<div class="tile">
      <dt>${label}</dt>
      <dd>${value}<small>${small}</small></dd>
    </div>`;
  return html`<dl class="tiles">
    ${tile('Operations', quantity(operations), seconds > 0 ? `${quantity(operations / seconds)} per second` : '')}
    ${busiest?.actual && tile(`p99 of ${busiest.op}`, duration((busiest.intended ?? busiest.actual).p99Ns), `from the actual start ${duration(busiest.actual.p99Ns)}`)}
    ${tile('Trylock failures', attempts === 0 ? 'none tried' : percent(failures / attempts), `${whole(failures)} of ${whole(attempts)}`)}
    ${tile('Account', accounting.balance, unexpected === 0 ? 'nothing unexpected' : plural(unexpected, 'unexpected violation'))}
    ${tile('Largest backlog', results.deferredBacklogMax === null ? 'unknown' : whole(results.deferredBacklogMax), 'deferred updates')}
    ${tile('Guests', `${whole(coverage.guestsFinished)} of ${whole(coverage.guestsPlanned)}`, `finished, ${stoppedGuests(coverage)}${whole(coverage.guestsLost)} lost, ${whole(coverage.guestsFailed)} failed`)}
  </dl>`;
}

export function thresholds({ thresholds: all }: RunResults): Markup {
  if (all.length === 0) return html`<p class="lead">The scenario has no thresholds.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Thresholds">
    <table>
      <thead>
        <tr>
          <th scope="col">Result</th>
          <th scope="col">Metric</th>
          <th scope="col">Must be</th>
          <th scope="col" class="n">Observed</th>
        </tr>
      </thead>
      <tbody>
        ${all.map(
          (t) =>
            html`<tr>
              <td class="${{ held: 'ok', crossed: 'crossed', 'not judged': 'crossed' }[stateOf(t)]}">
                ${{ held: '✓ held', crossed: '✗ crossed', 'not judged': '? not judged' }[stateOf(t)]}
              </td>
              <td><code>${t.metric}</code></td>
              <td><code>${t.expression}</code></td>
              <td class="n">${observed(t)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

export function observed({ observed: value, unit }: ThresholdResult): string {
  if (value === null) return 'nothing';
  if (unit === 'ns') return duration(value);
  if (unit === 'share') return percent(value);
  return unit === 'per_second' ? `${quantity(value)}/s` : quantity(value);
}

/** Every distribution of the run as a table: what the charts show, for those who read numbers. */
export function latencyTable({ latency, split, health }: RunResults): Markup {
  const row = (name: string, from: string, q: Quantiles | null): Markup | null =>
    q === null
      ? null
      : html`<tr>
          <th scope="row">${name}</th>
          <td>${from}</td>
          <td class="n">${whole(q.count)}</td>
          ${[q.meanNs, q.p50Ns, q.p90Ns, q.p99Ns, q.p999Ns, q.maxNs].map((ns) => html`<td class="n">${duration(ns)}</td>`)}
        </tr>`;
  const rows = [
    ...latency.flatMap(({ op, outcome, intended, actual }) => {
      const name = outcome === 'ok' ? op : `${op} ${outcome}`;
      return [row(name, 'intended start', intended), row(name, 'actual start', actual)];
    }),
    row('schedule lag', 'intended to actual start', split.scheduleLag),
    ...Object.entries(split.lockWait).map(([mode, q]) => row(`wait, ${lockName(mode)}`, 'lock asked for', q)),
    ...Object.entries(split.lockHold).map(([mode, q]) => row(`hold, ${lockName(mode)}`, 'lock taken', q)),
    row('deferred settlement', 'queued to applied', split.deferredSettle),
    row('its lock wait', 'kworker', split.deferredLockWait),
    row('lateness of the generator', 'due to resumed', health.lateness),
    row('null operation', 'cost of the harness', health.nullOperation),
  ].filter((r) => r !== null);
  if (rows.length === 0) return html`<p class="lead">No operation ended.</p>`;
  return html`<p class="lead">Percentiles of the merged histograms, at most 0.8 % above the true ones.</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Latencies of the whole run">
      <table>
        <thead>
          <tr>
            <th scope="col">Series</th>
            <th scope="col">Measured from</th>
            ${['count', 'mean', 'p50', 'p90', 'p99', 'p99.9', 'max'].map((h) => html`<th scope="col" class="n">${h}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>`;
}

/** The account of locked memory: what was deferred and where it went, and each invariant that was violated. */
export function ledger({ accounting: a, run, counters, complete }: RunResults): Markup {
  const { queued, applied, lost, discarded } = a.deferred;
  const missing = missingDeferred(a.deferred);
  const fact = (name: string, value: string): Markup =>
    html`<div>
      <dt>${name}</dt>
      <dd>${value}</dd>
    </div>`;
  return html`<p>${a.explanation}</p>
    <dl class="facts">
      ${fact('Balance at rest', a.balance === 'exact' ? 'exact: locked_vm equals the pages really pinned' : a.balance === 'violated' ? `violated, off by ${plural(Math.abs(a.driftPages), 'page')}` : 'unchecked: the guests did not come to rest before the end')}
      ${fact('Deferred updates', `${whole(queued)} queued = ${whole(applied)} applied + ${whole(discarded)} discarded with their guests + ${whole(missing)} missing`)}
      ${lost > 0 && fact('Never queued', `${plural(lost, 'update')}: no memory for the work item`)}
      ${fact('Limit refusals', whole(a.limitRefusals))}
      ${fact('Pages', `${whole(counters['pages_pinned'] ?? 0)} pinned, ${whole(counters['pages_unpinned'] ?? 0)} unpinned`)}
      ${a.notes.map((note) => fact('Note', note))}
    </dl>
    <div class="ledger">
      ${
        a.violations.length === 0
          ? html`<p class="lead">
              ${complete ? 'No invariant was violated.' : 'No violation was recorded until then.'}
            </p>`
          : a.violations.map(
              (v) =>
                html`<article class="entry">
                  <h3>
                    <code>${v.invariant}</code>
                    <span class="pill ${v.expected ? 'inconclusive' : 'fail'}"
                      >violated
                      ${v.count === 1 ? 'once' : `${whole(v.count)} times`}${v.expected ? ', as the scenario expects' : ''}</span
                    >
                  </h3>
                  ${
                    v.history === null
                      ? html`<p class="lead">
                          No history was recorded. <code>pinstorm history --variant ${run.variant}</code> shows the
                          shortest interleaving of each known defect.
                        </p>`
                      : html`<details open>
                          <summary>The shortest history that shows it</summary>
                          <pre tabindex="0">${v.history}</pre>
                        </details>`
                  }
                </article>`,
            )
      }
    </div>`;
}

export function events(all: readonly EventMark[]): Markup {
  if (all.length === 0) return html`<p class="lead">No events were recorded.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Events">
      <table>
        <thead>
          <tr>
            <th scope="col" class="n">At</th>
            <th scope="col">Event</th>
            <th scope="col">What</th>
          </tr>
        </thead>
        <tbody>
          ${all.slice(0, 200).map(
            (e) =>
              html`<tr>
                <td class="n">${duration(Math.round(e.at * 1e9))}</td>
                <td>${e.kind.replaceAll('_', ' ')}</td>
                <td class="wrap">${e.text}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${all.length > 200 && html`<p class="lead">And ${all.length - 200} more in events.jsonl.</p>`}`;
}

/** The workers of a live run, side by side. */
export function workerFigures({ health: { perWorker = [] } }: RunResults): Markup {
  const heads = ['Threads', 'Room', 'Guests', 'Operations', 'Late p50', 'Late p99', 'CPU time', 'Memory'];
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Workers">
    <table>
      <thead>
        <tr>
          <th scope="col">Worker</th>
          <th scope="col">Host</th>
          ${heads.map((head) => html`<th scope="col" class="n">${head}</th>`)}
          <th scope="col">Lost</th>
        </tr>
      </thead>
      <tbody>
        ${perWorker.map(
          (w) =>
            html`<tr>
              <th scope="row">${w.name}</th>
              <td>${w.host}</td>
              <td class="n">${whole(w.threads)}</td>
              <td class="n">${whole(w.capacity)}</td>
              <td class="n">${whole(w.guests)}</td>
              <td class="n">${whole(w.operations)}</td>
              <td class="n">${w.lateness === null ? '–' : duration(w.lateness.p50Ns)}</td>
              <td class="n">${w.lateness === null ? '–' : duration(w.lateness.p99Ns)}</td>
              <td class="n">${duration(Math.round(w.cpuSeconds * 1e9))}</td>
              <td class="n">${(w.residentBytes / 2 ** 20).toFixed(0)} MiB</td>
              <td class="wrap">${w.lost ?? ''}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** The generator's own health: whether its figures can be trusted. */
export function generatorHealth({ health: h, coverage: c, run, counters }: RunResults): Markup {
  const fact = (name: string, value: string): Markup =>
    html`<div>
      <dt>${name}</dt>
      <dd>${value}</dd>
    </div>`;
  return html`<dl class="facts">
    ${fact('Saturated', h.saturation === null ? 'no' : `yes: ${h.saturation.reason}; ${h.saturation.advice}`)}
    ${h.lateness && fact('Lateness', `p50 ${duration(h.lateness.p50Ns)}, p99 ${duration(h.lateness.p99Ns)}, max ${duration(h.lateness.maxNs)}`)}
    ${h.nullOperation && fact('Null operation', `p50 ${duration(h.nullOperation.p50Ns)}, p99 ${duration(h.nullOperation.p99Ns)}`)}
    ${h.eventLoopDelayP99Ns !== null && fact('Event-loop delay', `p99 ${duration(h.eventLoopDelayP99Ns)}`)}
    ${fact(run.driver === 'virtual' ? 'Emulated' : 'Machine', run.driver === 'virtual' ? `${plural(h.workers, 'host')}, ${h.cores === 0 ? 'unlimited CPUs' : plural(h.cores, 'CPU')} each` : `${plural(h.workers, 'worker')}, ${plural(h.threads, 'thread')}, ${plural(h.cores, 'core')}`)}
    ${fact('Coverage', `${whole(c.guestsFinished)} of ${plural(c.guestsPlanned, 'guest')} finished, ${stoppedGuests(c)}${whole(c.guestsFailed)} failed, ${whole(c.guestsLost)} lost; ${plural(c.workersLost, 'worker')} lost`)}
    ${(counters['ops_dropped'] ?? 0) > 0 && fact('Operations dropped', `${whole(counters['ops_dropped'] ?? 0)}: the actor was still busy`)}
    ${(counters['values_clamped'] ?? 0) > 0 && fact('Latencies out of range', whole(counters['values_clamped'] ?? 0))}
  </dl>`;
}
