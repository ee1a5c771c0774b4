/**
 * The scripts of a page, as one: uPlot and our browser modules, joined in the order of their imports. There is no
 * bundler: the compiler writes one module per file, and each becomes a function that returns what the module exports,
 * under its own names.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const IMPORT = /^import (?:type )?\{[^}]*\} from '(\.[^']*)';\n/gm;
const EXPORT = /^export (?=(?:async function|function|const|class) (\w+))/gm;

const pages = new Map<string, string>();

/** All scripts of a page. @param entry its module in src/report/browser, without extension. */
export function pageScript(entry: 'report' | 'live' | 'experiment'): string {
  const known = pages.get(entry);
  if (known !== undefined) return known;
  const parts: string[] = [];
  const seen = new Set<string>();
  const visit = (url: URL): void => {
    if (seen.has(url.href)) return;
    seen.add(url.href);
    let source = readFileSync(url, 'utf8');
    for (const match of source.matchAll(IMPORT)) visit(new URL(match[1] as string, url));
    const names = [...source.matchAll(EXPORT)].map((match) => match[1] as string);
    source = source
      .replaceAll(IMPORT, '')
      .replaceAll(EXPORT, '')
      .replace(/^export \{\};\n/m, '')
      .replace(/^\/\/# sourceMappingURL=.*$/m, '');
    const left = /^(?:import|export)\b.*/m.exec(source);
    if (left !== null) throw new Error(`${url.pathname}: cannot join ${left[0]}`);
    parts.push(`const { ${names.join(', ')} } = (() => {\n${source}return { ${names.join(', ')} };\n})();\n`);
  };
  visit(new URL(`../browser/${entry}.js`, import.meta.url));
  const text = `${packageFile('uPlot.iife.min.js')}\n(() => {\n'use strict';\n${parts.join('')}})();\n`;
  // A script ends at the first such tag, wherever it stands.
  if (/<\/script|<!--/i.test(text)) throw new Error('a script of the page holds the end of a script');
  pages.set(entry, text);
  return text;
}

/** A file of uPlot's distribution. */
export function packageFile(name: 'uPlot.iife.min.js' | 'uPlot.min.css'): string {
  return readFileSync(createRequire(import.meta.url).resolve(`uplot/dist/${name}`), 'utf8').trimEnd();
}

/** What a Content-Security-Policy allows an inline element by. */
export const sourceHash = (text: string): string =>
  `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;
