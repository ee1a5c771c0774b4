/**
 * Sizes, durations and rates as people write them: `4GiB`, `10us`, `1m30s`, `1000/s`. A unit is always required (except
 * for 0), because a bare number hides what it means, and only unambiguous units are taken: `64K` and `64KB` may be 64
 * 000 or 65 536 bytes, so they are refused with the spelling to use instead.
 */
import { asBytes, asNs, asPages, PAGE_BYTES, type Bytes, type Nanoseconds, type Pages } from './units.ts';

/** A text that is not the size, duration or rate it should be. `message` says what is wrong, `hint` how to fix it. */
export class UnitTextError extends Error {
  override readonly name = 'UnitTextError';
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

const BYTE_UNITS: ReadonlyMap<string, bigint> = new Map([
  ['PiB', 1n << 50n],
  ['TiB', 1n << 40n],
  ['GiB', 1n << 30n],
  ['MiB', 1n << 20n],
  ['KiB', 1n << 10n],
  ['B', 1n],
]);
const DURATION_UNITS: ReadonlyMap<string, bigint> = new Map([
  ['h', 3_600_000_000_000n],
  ['m', 60_000_000_000n],
  ['s', 1_000_000_000n],
  ['ms', 1_000_000n],
  ['us', 1_000n],
  ['ns', 1n],
]);
/** Spellings people try, and the unit they mean. */
const DURATION_ALIASES: ReadonlyMap<string, string> = new Map([
  ...['hour', 'hours', 'hr', 'hrs'].map((t) => [t, 'h'] as const),
  ...['min', 'mins', 'minute', 'minutes'].map((t) => [t, 'm'] as const),
  ...['sec', 'secs', 'second', 'seconds'].map((t) => [t, 's'] as const),
  ...['msec', 'msecs', 'millisecond', 'milliseconds'].map((t) => [t, 'ms'] as const),
  ...['usec', 'usecs', 'microsecond', 'microseconds', 'µs', 'μs'].map((t) => [t, 'us'] as const),
  ...['nsec', 'nsecs', 'nanosecond', 'nanoseconds'].map((t) => [t, 'ns'] as const),
]);

/** Regular expressions of the texts, for JSON Schema; the parsers below give better messages than they do. */
export const BYTES_PATTERN = String.raw`^(0|\d+(\.\d+)?\s?(B|KiB|MiB|GiB|TiB|PiB))$`;
export const PAGES_PATTERN = String.raw`^(\d+(\s?pages?)?|\d+(\.\d+)?\s?(B|KiB|MiB|GiB|TiB|PiB))$`;
export const DURATION_PATTERN = String.raw`^(0|(\d+(\.\d+)?\s?(h|m|s|ms|us|ns))+)$`;
export const RATE_PATTERN = String.raw`^\d+(\.\d+)?\s?/\s?(us|ms|s|m|h)$`;

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);
const quote = (value: string | number): string => `'${String(value).slice(0, 40)}'`;

/** `digits` (a decimal like `1.5`) times `scale`, exactly; null when the product is not whole. */
function scaled(digits: string, scale: bigint): bigint | null {
  const [whole, fraction = ''] = digits.split('.');
  const denominator = 10n ** BigInt(fraction.length);
  const numerator = BigInt(`${whole}${fraction}`) * scale;
  return numerator % denominator === 0n ? numerator / denominator : null;
}

/**
 * Bytes of a size such as `4GiB`, `640 KiB` or `1.5MiB`; 0 needs no unit.
 * @throws UnitTextError when it has no unit, an ambiguous one, is negative, not whole bytes, or above 2^53 bytes.
 */
export function parseBytes(input: string | number): Bytes {
  if (input === 0 || input === '0') return asBytes(0);
  const text = String(input).trim();
  if (Number.isFinite(input) || /^\d+(\.\d+)?$/.test(text)) {
    const whole = Number(text);
    throw new UnitTextError(`${quote(text)} has no unit`, `write ${withUnits(text, whole)}`);
  }
  if (text.startsWith('-'))
    throw new UnitTextError(`${quote(text)} is negative`, 'write a size of 0 or more, for example 4GiB');
  const match = /^(\d{1,20}(?:\.\d{1,12})?)\s?([A-Za-z]+)$/.exec(text);
  if (match === null)
    throw new UnitTextError(`${quote(text)} is not a size`, 'write a number and a unit, for example 4GiB or 640KiB');
  const [, digits = '', unit = ''] = match;
  const scale = BYTE_UNITS.get(unit);
  if (scale === undefined) {
    const wanted = [...BYTE_UNITS.keys()].find((known) => known !== 'B' && known[0] === unit[0]?.toUpperCase());
    if (wanted !== undefined && /^[KMGTP]i?b?$/i.test(unit)) {
      throw new UnitTextError(`the unit of ${quote(text)} is ambiguous`, `write ${digits}${wanted} (powers of 1024)`);
    }
    throw new UnitTextError(
      `${quote(text)} has an unknown unit '${unit.slice(0, 20)}'`,
      'use B, KiB, MiB, GiB, TiB or PiB, for example 4GiB',
    );
  }
  const bytes = scaled(digits, scale);
  if (bytes === null)
    throw new UnitTextError(`${quote(text)} is not a whole number of bytes`, 'write it in a smaller unit');
  if (bytes > MAX_SAFE) throw new UnitTextError(`${quote(text)} is too large`, 'sizes go up to 8191TiB');
  return asBytes(Number(bytes));
}

/** Below this a number without a unit is hardly one of bytes. */
const SMALL = 4096;

/** What a number without a unit may have been meant as. */
function withUnits(text: string, value: number): string {
  if (!Number.isSafeInteger(value) || value >= SMALL) {
    const bytes = Number.isSafeInteger(value) ? formatBytes(asBytes(value)) : '4GiB';
    return `a size with its unit, for example ${bytes}`;
  }
  return value < 0 ? 'a size of 0 or more, for example 4GiB' : `${text}KiB, ${text}MiB or ${text}GiB`;
}

/**
 * Nanoseconds of a duration such as `10us`, `1.5s` or `1m30s`; 0 needs no unit.
 * @throws UnitTextError when it has no unit or an unknown one, is negative, not whole nanoseconds, or above 2^53 ns
 * (104 days).
 */
export function parseDuration(input: string | number): Nanoseconds {
  if (input === 0 || input === '0') return asNs(0);
  const text = String(input).trim();
  if (Number.isFinite(input) || /^\d+(\.\d+)?$/.test(text)) {
    throw new UnitTextError(
      `${quote(text)} has no unit`,
      `write a duration with its unit, for example ${text.replace('-', '')}s or ${text.replace('-', '')}ms`,
    );
  }
  if (text.startsWith('-'))
    throw new UnitTextError(`${quote(text)} is negative`, 'write a duration of 0 or more, for example 10us');
  if (text.length > 100 || !/^(?:\d+(?:\.\d+)?\s?[^\d\s.]+\s?)+$/.test(text)) {
    throw new UnitTextError(
      `${quote(text)} is not a duration`,
      'write a number and a unit, for example 10us, 5s or 1m30s',
    );
  }
  let totalNs = 0n;
  let fixed = '';
  let wrong: string | null = null;
  for (const [, digits = '', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)\s?([^\d\s.]+)/g)) {
    const known = DURATION_UNITS.has(unit) ? unit : DURATION_ALIASES.get(unit.toLowerCase());
    if (known === undefined) {
      throw new UnitTextError(
        `${quote(text)} has an unknown unit '${unit.slice(0, 20)}'`,
        'use ns, us, ms, s, m or h, for example 10us',
      );
    }
    if (known !== unit) wrong ??= unit;
    fixed += `${digits}${known}`;
    const ns = scaled(digits, DURATION_UNITS.get(known) ?? 1n);
    if (ns === null)
      throw new UnitTextError(`${quote(text)} is not a whole number of nanoseconds`, 'write it in a smaller unit');
    totalNs += ns;
  }
  if (wrong !== null)
    throw new UnitTextError(`${quote(text)} has an unknown unit '${wrong.slice(0, 20)}'`, `write ${fixed}`);
  if (totalNs > MAX_SAFE) throw new UnitTextError(`${quote(text)} is too long`, 'durations go up to 2500h');
  return asNs(Number(totalNs));
}

/**
 * Events per second of a rate such as `1000/s`, `2.5/ms` or `6/m`.
 * @throws UnitTextError when it is not a number over a unit of time, or not positive.
 */
export function parseRate(input: string | number): number {
  const text = String(input).trim();
  const match = /^(\d{1,15}(?:\.\d{1,12})?)\s?\/\s?([a-zµμ]+)$/i.exec(text);
  if (match === null) {
    const example = /^\d+(\.\d+)?$/.test(text) && Number(text) > 0 ? `${text}/s` : '1000/s';
    throw new UnitTextError(`${quote(text)} is not a rate`, `write a number per unit of time, for example ${example}`);
  }
  const [, digits = '', unit = ''] = match;
  const unitNs = DURATION_UNITS.get(unit);
  if (unitNs === undefined || unit === 'ns') {
    throw new UnitTextError(
      `${quote(text)} is per unknown unit '${unit.slice(0, 20)}'`,
      `write ${digits}/${DURATION_ALIASES.get(unit.toLowerCase()) ?? 's'} (us, ms, s, m or h)`,
    );
  }
  const perSecond = (Number(digits) * 1e9) / Number(unitNs);
  if (perSecond <= 0)
    throw new UnitTextError(`${quote(text)} is not above 0`, 'write a rate above 0, for example 1000/s');
  return perSecond;
}

/**
 * Pages of 4 KiB: a whole number of pages (`16`, `16 pages`), or a size that is a multiple of 4KiB (`64KiB`).
 * @throws UnitTextError otherwise.
 */
export function parsePages(input: string | number): Pages {
  const count = typeof input === 'number' ? input : /^\s*(\d+)(?:\s*pages?)?\s*$/.exec(input)?.[1];
  if (count !== undefined) {
    const pages = Number(count);
    if (!Number.isSafeInteger(pages) || pages < 0) {
      throw new UnitTextError(
        `${quote(input)} is not a number of pages`,
        'write a whole number of 4 KiB pages, for example 16, or a size such as 64KiB',
      );
    }
    return asPages(pages);
  }
  const bytes = parseBytes(input);
  if (bytes % PAGE_BYTES !== 0) {
    const up = formatBytes(asBytes(Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES));
    throw new UnitTextError(`${quote(input)} is not a multiple of the 4 KiB page`, `write for example ${up}`);
  }
  return asPages(bytes / PAGE_BYTES);
}

/** The largest unit in which `value` needs at most three decimals; exact, so that the parser gives the value back. */
function exactText(value: number, units: ReadonlyMap<string, bigint>): string {
  const whole = BigInt(value);
  if (whole === 0n) return '0';
  for (const [unit, scale] of units) {
    const milli = (whole * 1000n) / scale;
    if (milli < 1000n || milli * scale !== whole * 1000n) continue;
    const fraction = String(milli % 1000n)
      .padStart(3, '0')
      .replace(/0+$/, '');
    return `${milli / 1000n}${fraction === '' ? '' : `.${fraction}`}${unit}`;
  }
  return String(value);
}

/** The exact text of a size, for example `640KiB`, `1.5GiB`, `4095B`; `parseBytes` gives the same number back. */
export function formatBytes(bytes: Bytes): string {
  return bytes === 0 ? '0B' : exactText(bytes, BYTE_UNITS);
}

/** The exact text of a duration, for example `10us`, `1.5s`, `90s` as `1.5m`; `parseDuration` gives the number back. */
export function formatDuration(ns: Nanoseconds): string {
  return ns === 0 ? '0s' : exactText(ns, DURATION_UNITS);
}

/** A size rounded to one decimal for tables, for example `3.0GiB`. */
export function roundedBytes(bytes: number): string {
  for (const [unit, scale] of BYTE_UNITS) {
    if (unit !== 'B' && bytes >= Number(scale)) return `${(bytes / Number(scale)).toFixed(1)}${unit}`;
  }
  return `${bytes}B`;
}
