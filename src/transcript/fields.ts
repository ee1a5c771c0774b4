/**
 * The fields of one line of a transcript, each asked for by its type. Numbers are unsigned 64 bit, so they are read as
 * bigints and never pass through a double.
 */
import { EXIT, UserError } from '../base/errors.ts';
import { U64_MAX } from '../base/units.ts';

export const FORMAT_HINT = 'recordings/README.md says how transcripts are made; a recording must not be edited';

/** Marks a number that JSON.parse was given as a string. No JSON text can contain this character unescaped. */
const MARK = '\u0001';
/** A marked number in what JSON.stringify makes. */
const MARKED = /"\\u0001([^"]*)"/g;
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** The fields of one JSON object, with the place for messages. */
export class Fields {
  readonly #seen = new Set<string>();

  private constructor(
    private readonly value: Readonly<Record<string, unknown>>,
    readonly place: string,
    private readonly path: string,
  ) {}

  static ofLine(line: string, file: string, number: number): Fields {
    const place = `${file}:${number}`;
    const quoted = line.replaceAll(TOKEN, (t) => (t.startsWith('"') ? t : `"${MARK}${t}"`));
    let value: unknown;
    try {
      value = JSON.parse(quoted.replaceAll(MARK, `\\u0001`));
    } catch {
      throw new UserError(
        EXIT.invalid,
        `${place}:${columnOfFault(line)}: not JSON; each line of a transcript is one object`,
        FORMAT_HINT,
      );
    }
    return Fields.of(value, place, '');
  }

  static of(value: unknown, place: string, path: string): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UserError(
        EXIT.invalid,
        `${place}: ${path === '' ? 'the line' : path} is not a JSON object`,
        FORMAT_HINT,
      );
    }
    return new Fields(value as Record<string, unknown>, place, path);
  }

  fail(field: string, expected: string): never {
    const given = this.value[field];
    const got = given === undefined ? 'it is missing' : `got ${JSON.stringify(given).replaceAll(MARKED, '$1')}`;
    throw new UserError(EXIT.invalid, `${this.place}: ${this.path}${field}: expected ${expected}, ${got}`, FORMAT_HINT);
  }

  has(field: string): boolean {
    this.#seen.add(field);
    return this.value[field] !== undefined;
  }

  u64(field: string): bigint {
    this.#seen.add(field);
    const n = unsigned(this.value[field]);
    return n ?? this.fail(field, 'an unsigned 64-bit integer');
  }

  optionalU64(field: string): bigint | undefined {
    return this.has(field) ? this.u64(field) : undefined;
  }

  /** A number that indexes or counts: below 2^31. */
  small(field: string): number {
    const n = this.u64(field);
    return n < 2n ** 31n ? Number(n) : this.fail(field, 'an integer below 2^31');
  }

  text(field: string): string {
    this.#seen.add(field);
    const v = this.value[field];
    return typeof v === 'string' && !v.startsWith(MARK) ? v : this.fail(field, 'text');
  }

  bool(field: string): boolean {
    this.#seen.add(field);
    const v = this.value[field];
    return typeof v === 'boolean' ? v : this.fail(field, 'true or false');
  }

  oneOf<const C extends string>(field: string, choices: readonly C[]): C {
    this.#seen.add(field);
    return choices.find((c) => c === this.value[field]) ?? this.fail(field, `one of ${choices.join(', ')}`);
  }

  list<T>(field: string, item: (value: unknown, path: string) => T): T[] {
    this.#seen.add(field);
    const v = this.value[field];
    if (!Array.isArray(v)) this.fail(field, 'a list');
    return (v as unknown[]).map((x, i) => item(x, `${this.path}${field}[${i}].`));
  }

  object(field: string): Fields {
    this.#seen.add(field);
    if (!this.has(field)) this.fail(field, 'an object');
    return Fields.of(this.value[field], this.place, `${this.path}${field}.`);
  }

  /** Bytes, or `"unlimited"` for the largest value. */
  limit(field: string): bigint {
    return this.value[field] === 'unlimited' && this.has(field) ? U64_MAX : this.u64(field);
  }

  numberOrNull(field: string): number | null {
    return this.has(field) && this.value[field] === null ? null : this.small(field);
  }

  entries(): [string, bigint][] {
    return Object.keys(this.value).map((key) => [key, this.u64(key)]);
  }

  /** The object as text again, without some of its fields: one line, numbers as they were. */
  without(...fields: readonly string[]): string {
    const kept = Object.entries(this.value).filter(([key]) => !fields.includes(key));
    return JSON.stringify(Object.fromEntries(kept)).replaceAll(MARKED, '$1');
  }

  /** Nothing may be in the object that nobody asked for. */
  end(): void {
    const extra = Object.keys(this.value).find((key) => !this.#seen.has(key));
    if (extra !== undefined) {
      throw new UserError(EXIT.invalid, `${this.place}: ${this.path}${extra}: unknown field`, FORMAT_HINT);
    }
  }
}

export function unsigned(value: unknown): bigint | undefined {
  if (typeof value !== 'string' || !value.startsWith(MARK)) return undefined;
  const digits = value.slice(1);
  if (!/^\d{1,20}$/.test(digits)) return undefined;
  const n = BigInt(digits);
  return n <= U64_MAX ? n : undefined;
}

/** A line of a transcript: JSON, bigints as plain numbers. */
export const lineOf = (value: unknown): string =>
  JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? `${MARK}${v}` : v)).replaceAll(MARKED, '$1');

/** Column, from 1, at which JSON.parse gives up. */
function columnOfFault(line: string): number {
  try {
    JSON.parse(line);
  } catch (error) {
    const at = /position (\d+)/.exec(error instanceof Error ? error.message : '');
    if (at !== null) return Number(at[1]) + 1;
  }
  return line.length + 1;
}
