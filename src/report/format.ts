/** Numbers as people read them in a terminal, and the style of the terminal they read them in. */
import { oneLine } from '../base/printable.ts';

/** Three significant digits with a unit: `850ns`, `1.23ms`, `45.6s`. */
export function duration(ns: number): string {
  const least = ['ns', 1] as const;
  const units = [least, ['us', 1e3], ['ms', 1e6], ['s', 1e9]] as const;
  // Rounding to three digits can carry into the next unit: 999.9 us is 1 ms.
  const rounded = ns === 0 ? 0 : Number(ns.toPrecision(3));
  const [unit, scale] = units.findLast(([, s]) => Math.abs(rounded) >= s) ?? least;
  return `${significant(rounded / scale)}${unit}`;
}

/** Three significant digits with k, M, G, T: `950`, `12.3k`, `4.56M`. Whole numbers below 10 000 stay whole. */
export function quantity(n: number): string {
  if (Number.isInteger(n) && Math.abs(n) < 10_000) return String(n);
  const rounded = Number(n.toPrecision(3));
  const units = ['', 'k', 'M', 'G', 'T'];
  const step = Math.min(Math.max(Math.floor(Math.log10(Math.abs(rounded)) / 3), 0), units.length - 1);
  return `${significant(rounded / 1000 ** step)}${units[step]}`;
}

/** A whole number with thin groups: `1 234 567`. */
export function whole(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ' ');
}

export const percent = (share: number): string => `${significant(Number((share * 100).toPrecision(3)))}%`;

const significant = (n: number): string => (Math.abs(n) >= 100 ? n.toFixed(0) : String(Number(n.toPrecision(3))));

/** How a terminal wants its text. */
export interface Style {
  readonly color: boolean;
  /** Whether ticks and dots beyond ASCII can be shown. */
  readonly unicode: boolean;
}

export const PLAIN: Style = { color: false, unicode: false };

/** Colours only on a terminal, never with NO_COLOR set or on a dumb one; beyond ASCII only with a UTF-8 locale. */
export function styleFor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Style {
  const dumb = env['TERM'] === 'dumb';
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return {
    color: stream.isTTY === true && !dumb && !env['NO_COLOR'],
    unicode: !dumb && /utf-?8/i.test(locale),
  };
}

const SGR = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

/** Text in a colour, if the style has colours. */
export function paint(style: Style, color: keyof typeof SGR, text: string): string {
  return style.color ? `\u001b[${SGR[color]}m${text}\u001b[0m` : text;
}

/** Breaks text at spaces so that no line is longer than `width`; words longer than that are cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter((w) => w !== '')) {
    for (let rest = word; rest !== '';) {
      const part = rest.slice(0, width);
      rest = rest.slice(width);
      if (line !== '' && line.length + 1 + part.length > width) {
        lines.push(line);
        line = part;
      } else {
        line = line === '' ? part : `${line} ${part}`;
      }
    }
  }
  return line === '' ? lines : [...lines, line];
}

/**
 * Text from elsewhere made safe for a terminal: one line, no control characters, at most `width` characters.
 */
export function clip(text: string, width: number): string {
  const safe = oneLine(text);
  return safe.length <= width ? safe : `${safe.slice(0, width - 3)}...`;
}
