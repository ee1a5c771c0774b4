/** The frame of every page pinstorm makes: head, header, contents, scripts. Nothing is fetched from anywhere. */
import { packageFile, pageScript, sourceHash } from './assets.ts';
import { html, jsonData, Markup } from './markup.ts';
import { STYLE } from './style.ts';

export interface PageParts {
  readonly entry: 'report' | 'live' | 'experiment';
  readonly title: string;
  /** What stands in the bar at the top, after the name. */
  readonly bar: Markup;
  readonly name: string;
  readonly contents: readonly (readonly [id: string, title: string])[];
  readonly main: Markup;
  readonly foot: Markup;
  /** What the scripts find in the page. */
  readonly data: unknown;
  /** Where the scripts may connect to. */
  readonly connect?: string;
}

/** Runs before anything is drawn, so that a dark page never flashes light. */
const EARLY = `(() => {
  let theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  try { theme = localStorage.getItem('pinstorm-theme') ?? theme; } catch {}
  document.documentElement.dataset.theme = theme === 'dark' ? 'dark' : 'light';
})();`;

/** Exactly this text in an element: the policy knows it by its hash. */
const inline = (tag: 'script' | 'style', text: string): Markup => new Markup(`<${tag}>${text}</${tag}>`);

const dataElement = (data: unknown): Markup =>
  new Markup(`<script type="application/json" id="data">${jsonData(data).text}</script>`);

export function page({ entry, title, bar, name, contents, main, foot, data, connect = "'none'" }: PageParts): string {
  const script = pageScript(entry);
  const style = `${packageFile('uPlot.min.css')}\n${STYLE}`;
  const policy = [
    "default-src 'none'",
    `script-src ${sourceHash(EARLY)} ${sourceHash(script)}`,
    `style-src ${sourceHash(style)}`,
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  return html`<!doctype html>
    <html lang="en" data-theme="light">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="generator" content="pinstorm" />
        <title>${title}</title>
        ${inline('script', EARLY)} ${inline('style', style)}
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <span class="brand">pinstorm</span><span class="name">${name}</span>${bar}<span class="push"></span>
          <button type="button" id="theme" aria-label="Switch between light and dark">Dark</button>
        </header>
        <div class="layout${contents.length > 0 ? ' railed' : ''}">
          ${
            contents.length > 0 &&
            html`<nav class="contents" aria-label="Contents">
              <ul>
                ${contents.map(([id, text]) => html`<li><a href="#${id}">${text}</a></li>`)}
              </ul>
            </nav>`
          }
          <main id="main" tabindex="-1">
            <noscript
              ><p class="notice">
                Charts, sorting and filters need JavaScript. All figures of the run are in the tables.
              </p></noscript
            >
            ${main}
            <footer>${foot}</footer>
          </main>
        </div>
        ${dataElement(data)} ${inline('script', script)}
      </body>
    </html> `.text;
}
