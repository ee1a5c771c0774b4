/** The script of the report: draws the charts from the data in the page. */
import type { ChartData } from '../chart-data.ts';
import { moment } from './dom.ts';
import { setUpPanels } from './panels.ts';
import { setUpTheme } from './theme.ts';

const data = JSON.parse(document.querySelector('#data')?.textContent ?? '') as ChartData;
const panels = setUpPanels();
setUpTheme(() => {
  for (const panel of panels) panel.redraw();
});
for (const panel of panels) panel.draw(data);

const [first] = data.slots;
const caption = document.querySelector('[data-chart="latency"] figcaption');
if (first !== undefined && caption !== null && data.merged > 1) {
  const length = moment(first.end - first.start, Math.max(first.end - first.start, 1));
  caption.append(`; each point is ${data.merged} intervals (${length}) with their histograms added up`);
}

/** A page of a file may be refused the clipboard: then the text is selected for the reader to copy. */
async function copy(button: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(button.dataset['copy'] ?? '');
    button.textContent = 'Copied';
  } catch {
    const text = button.parentElement?.querySelector('pre');
    if (text !== null && text !== undefined) getSelection()?.selectAllChildren(text);
  }
}

for (const button of document.querySelectorAll<HTMLButtonElement>('[data-copy]')) {
  button.addEventListener('click', () => {
    void copy(button);
  });
}
document.documentElement.dataset['drawn'] = 'true';
