/** Small helpers for the page. Text is only ever put in as text: nothing from a run is read as HTML here. */

/** An element with attributes and children; strings become text. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  children: readonly (Node | string)[] = [],
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A colour of the theme as it is now. */
export const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A labelled choice; `onChange` gets the value chosen. */
export function choice(
  label: string,
  options: readonly (readonly [value: string, text: string])[],
  chosen: string,
  onChange: (value: string) => void,
): HTMLLabelElement {
  const select = element('select');
  for (const [value, text] of options) select.append(element('option', { value }, [text]));
  select.value = chosen;
  select.addEventListener('change', () => onChange(select.value));
  return element('label', {}, [label, select]);
}

/** A table that is made when it is first opened: the data behind a chart. */
export function dataTable(
  title: string,
  build: () => { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] },
): HTMLDetailsElement {
  const details = element('details', { class: 'data' }, [element('summary', {}, [title])]);
  details.addEventListener('toggle', () => {
    details.querySelector('.scroll')?.remove();
    if (!details.open) return;
    const { heads, rows } = build();
    const head = element(
      'tr',
      {},
      heads.map((text) => element('th', { scope: 'col', class: 'n' }, [text])),
    );
    const body = rows.map((row) =>
      element(
        'tr',
        {},
        row.map((text) => element('td', { class: 'n' }, [text])),
      ),
    );
    const table = element('table', {}, [element('thead', {}, [head]), element('tbody', {}, body)]);
    details.append(element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': title }, [table]));
  });
  return details;
}

/** A short line in the colour of a series, for its legend. */
export function swatch(stroke: string, dashed: boolean): SVGSVGElement {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('width', '20');
  svg.setAttribute('height', '8');
  svg.setAttribute('aria-hidden', 'true');
  const line = document.createElementNS(ns, 'line');
  const attributes = { x1: '0', y1: '4', x2: '20', y2: '4', stroke, 'stroke-width': '3' };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  if (dashed) line.setAttribute('stroke-dasharray', '5 3');
  svg.append(line);
  return svg;
}

/** A moment of the run, with digits that suit its length. */
export function moment(seconds: number, span: number): string {
  if (span < 1e-3) return `${Number((seconds * 1e6).toPrecision(6))} us`;
  if (span < 1) return `${Number((seconds * 1e3).toPrecision(6))} ms`;
  if (span < 120) return `${Number(seconds.toFixed(span < 10 ? 2 : 1))} s`;
  const at = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  const hours = Math.floor(at / 3600);
  const minutes = two(Math.floor(at / 60) % 60);
  return hours > 0 ? `${hours}:${minutes}:${two(at % 60)}` : `${minutes}:${two(at % 60)}`;
}
