/** The script of the live page: takes what the run sends each second, draws it, and asks it to stop. */
import type { ChartData, LiveUpdate } from '../chart-data.ts';
import { duration } from '../format.ts';
import { setUpPanels } from './panels.ts';
import { setUpTheme } from './theme.ts';

const given = JSON.parse(document.querySelector('#data')?.textContent ?? '') as { token: string; charts: ChartData };
let data = given.charts;
const panels = setUpPanels();
setUpTheme(() => {
  for (const panel of panels) panel.redraw();
});
for (const panel of panels) panel.draw(data);

function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found as T;
}

const stop = byId<HTMLButtonElement>('stop');
const state = byId('state');

function apply(update: LiveUpdate): void {
  data = {
    ...data,
    merged: update.merged,
    durationSeconds: update.durationSeconds,
    slots: [...data.slots.slice(0, update.from), ...update.slots],
    spectra: update.spectra ?? data.spectra,
    events: update.whole ? update.events : [...data.events, ...update.events],
    guests: update.whole ? update.guests : [...data.guests, ...update.guests],
  };
  for (const panel of panels) panel.draw(data);
  for (const [name, text] of Object.entries(update.fragments)) {
    for (const place of document.querySelectorAll(`[data-fragment="${name}"]`)) {
      // Never taken away under the reader's focus; the text is the server's own, escaped there.
      if (!place.contains(document.activeElement)) place.innerHTML = text;
    }
  }
  state.textContent = update.text;
  byId('clock').textContent = duration(Math.round(update.durationSeconds * 1e9));
  stop.disabled = update.state === 'stopping' || update.state === 'ended';
  if (update.end === undefined) return;
  source.close();
  const { verdict, sentence, report } = update.end;
  state.className = `pill ${verdict}`;
  byId('run').className = `verdict v-${verdict}`;
  byId('run-title').textContent = sentence;
  byId('clock').append(`; the report is ${report}`);
  stop.hidden = true;
}

const source = new EventSource('events');
source.addEventListener('message', (event) => {
  apply(JSON.parse(event.data as string) as LiveUpdate);
  document.documentElement.dataset['drawn'] = 'true';
});
source.addEventListener('error', () => {
  state.textContent = 'connection lost, trying again';
});

const really = byId<HTMLDialogElement>('really');
stop.addEventListener('click', () => really.showModal());
byId('really-not').addEventListener('click', () => really.close());
byId('really-stop').addEventListener('click', () => {
  really.close();
  stop.disabled = true;
  void askToStop();
});

async function askToStop(): Promise<void> {
  try {
    const answer = await fetch('stop', { method: 'POST', headers: { 'x-pinstorm-token': given.token } });
    if (!answer.ok) throw new Error(await answer.text());
  } catch (error) {
    stop.disabled = false;
    state.textContent = `not stopped: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const tabs = [...document.querySelectorAll<HTMLButtonElement>('[role="tab"]')];

function choose(chosen: HTMLButtonElement): void {
  for (const tab of tabs) {
    tab.setAttribute('aria-selected', String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    byId(tab.getAttribute('aria-controls') ?? '').hidden = tab !== chosen;
  }
}

tabs.forEach((tab, i) => {
  tab.addEventListener('click', () => choose(tab));
  tab.addEventListener('keydown', ({ key }) => {
    const step = key === 'ArrowRight' ? 1 : key === 'ArrowLeft' ? -1 : 0;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    if (step === 0 || next === undefined) return;
    choose(next);
    next.focus();
  });
});
