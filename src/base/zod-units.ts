/**
 * zod types for values with a unit, for scenario files and workload options. The input is text as people write it, the
 * output a number in base units; a fault carries its fix in `params.hint` and, when the input is no text at all, what
 * was expected in `params.expected`. Give a default as text with `.prefault('64KiB')`, not `.default()`: the JSON
 * Schema then shows it as people would write it.
 */
import { z } from 'zod';
import type { Bytes, Nanoseconds, Pages } from './units.ts';
import {
  BYTES_PATTERN,
  DURATION_PATTERN,
  formatBytes,
  formatDuration,
  PAGES_PATTERN,
  parseBytes,
  parseDuration,
  parsePages,
  parseRate,
  RATE_PATTERN,
  UnitTextError,
} from './units-text.ts';

/** What a faulty value is, in a user's words: `a list`, `true`, `'64K'`. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : `a ${typeof value}`;
}

interface UnitType<T> {
  /** With its article, for the message when the value is no text at all: `a size`. */
  readonly what: string;
  readonly examples: readonly string[];
  /** JSON Schema of the input, for editors. */
  readonly jsonSchema: Readonly<Record<string, unknown>>;
  readonly parse: (text: string | number) => T;
  readonly format: (value: T) => string;
}

function unitType<T extends number>(unit: UnitType<T>, range: Range<T>): z.ZodType<T, string | number> {
  // zod drops the examples of a type that transforms, so they sit on the input side.
  const input = z.unknown().meta({ ...unit.jsonSchema, examples: [...unit.examples] });
  return (input as z.ZodType<string | number, string | number>).transform((text: unknown, context): T => {
    const fail = (message: string, hint?: string, expected?: string): never => {
      context.issues.push({ code: 'custom', message, input: text, params: { hint, expected } });
      return z.NEVER;
    };
    if (typeof text !== 'string' && typeof text !== 'number') {
      return fail(
        `expected ${unit.what}, got ${describeValue(text)}`,
        `write for example ${unit.examples[0]}`,
        unit.what,
      );
    }
    try {
      const value = unit.parse(text);
      if (range.min !== undefined && value < range.min) {
        return fail(`'${text}' is too small`, `the minimum is ${unit.format(range.min as T)}`);
      }
      if (range.max !== undefined && value > range.max) {
        return fail(`'${text}' is too large`, `the maximum is ${unit.format(range.max as T)}`);
      }
      return value;
    } catch (error) {
      if (error instanceof UnitTextError) return fail(error.message, error.hint);
      throw error;
    }
  });
}

/** Inclusive bounds, in base units. */
export interface Range<T extends number = number> {
  readonly min?: T | number;
  readonly max?: T | number;
}

const textOrZero = (pattern: string): Record<string, unknown> => ({
  anyOf: [{ type: 'string', pattern }, { const: 0 }],
});

const BYTES: UnitType<Bytes> = {
  what: 'a size',
  examples: ['4GiB', '640KiB'],
  jsonSchema: textOrZero(BYTES_PATTERN),
  parse: parseBytes,
  format: formatBytes,
};
const DURATION: UnitType<Nanoseconds> = {
  what: 'a duration',
  examples: ['10us', '1.5s'],
  jsonSchema: textOrZero(DURATION_PATTERN),
  parse: parseDuration,
  format: formatDuration,
};
const PAGES: UnitType<Pages> = {
  what: 'a number of pages or a size',
  examples: ['16 pages', '64KiB'],
  jsonSchema: {
    anyOf: [
      { type: 'string', pattern: PAGES_PATTERN },
      { type: 'integer', minimum: 0 },
    ],
  },
  parse: parsePages,
  format: (pages) => `${pages} page${(pages as number) === 1 ? '' : 's'}`,
};
const RATE: UnitType<number> = {
  what: 'a rate',
  examples: ['1000/s', '5/ms'],
  jsonSchema: { type: 'string', pattern: RATE_PATTERN },
  parse: parseRate,
  format: (perSecond) => `${perSecond}/s`,
};

/** A size: `4GiB` in, bytes out. The range is in bytes. */
export const zBytes = (range: Range<Bytes> = {}): z.ZodType<Bytes, string | number> => unitType(BYTES, range);
/** A duration: `10us` in, nanoseconds out. The range is in nanoseconds. */
export const zDuration = (range: Range<Nanoseconds> = {}): z.ZodType<Nanoseconds, string | number> =>
  unitType(DURATION, range);
/** 4 KiB pages: a count (`16`) or a size (`64KiB`) in, pages out. The range is in pages. */
export const zPages = (range: Range<Pages> = {}): z.ZodType<Pages, string | number> => unitType(PAGES, range);
/** A rate: `1000/s` in, events per second out. The range is in events per second. */
export const zRate = (range: Range = {}): z.ZodType<number, string | number> => unitType(RATE, range);

/** What the options of a workload are described with. */
export const OPTION_KINDS = { z, zBytes, zDuration, zPages };
export type OptionKinds = typeof OPTION_KINDS;
