/**
 * Transcripts: recorded sequences of VFIO type1 operations, JSON Lines, one operation per line and a header first.
 * Numbers are unsigned 64 bit, so they are read as bigints and never pass through a double.
 */
import { EXIT, UserError } from '../../base/errors.ts';

export const PIECE_BACKINGS = ['anon4k', 'thp', 'hugetlb2m', 'memfd', 'hole', 'none', 'ro', 'bar'] as const;
export const TOUCHES = ['none', 'read', 'write'] as const;
export const PROTS = ['none', 'r', 'w', 'rw'] as const;

/** A piece of a process's memory; offset and size in bytes. */
export interface Piece {
  readonly offset: bigint;
  readonly bytes: bigint;
  readonly backing: (typeof PIECE_BACKINGS)[number];
  readonly touch: (typeof TOUCHES)[number];
  /** Byte offset in the file or BAR. */
  readonly source: bigint | undefined;
  readonly prot: (typeof PROTS)[number] | undefined;
}

export interface Header {
  readonly kernel: string;
  readonly iommu: 'type1' | 'type1v2';
  readonly memlockBytes: bigint;
  readonly capIpcLock: boolean;
  readonly dmaEntryLimit: number;
  readonly buffer: Piece;
  readonly parts: readonly Piece[];
  readonly containers: number;
  readonly title: string | undefined;
  readonly iovaRanges: readonly (readonly [first: bigint, last: bigint])[];
}

type Range = { readonly offset: bigint; readonly bytes: bigint };
export type Action =
  | {
      readonly op: 'map';
      readonly iova: bigint;
      /** An absolute address, or an offset in the buffer. */
      readonly vaddr: bigint | undefined;
      readonly offset: bigint | undefined;
      readonly bytes: bigint;
      readonly prot: (typeof PROTS)[number];
      readonly flags: readonly string[];
      readonly container: number;
      readonly argsz: number | undefined;
    }
  | {
      readonly op: 'unmap';
      readonly iova: bigint;
      readonly bytes: bigint;
      readonly flags: readonly string[];
      readonly container: number;
      readonly argsz: number | undefined;
    }
  | { readonly op: 'setrlimit'; readonly memlockBytes: bigint }
  | ({ readonly op: 'mlock'; readonly onFault: boolean } & Range)
  | ({ readonly op: 'munlock' | 'munmap' } & Range)
  | { readonly op: 'spawn' | 'spawn_vm' | 'spawn_thread'; readonly child: string }
  | { readonly op: 'exit'; readonly scope: 'thread' | undefined }
  | { readonly op: 'kill' | 'exec' | 'drop_cap' }
  | { readonly op: 'close'; readonly which: 'container' | 'group' | 'all'; readonly container: number }
  | { readonly op: 'open'; readonly iommu: 'type1' | 'type1v2' | undefined; readonly container: number }
  | { readonly op: 'mmap'; readonly piece: Piece }
  | ({ readonly op: 'mprotect'; readonly prot: (typeof PROTS)[number] } & Range)
  | ({ readonly op: 'madvise'; readonly advice: 'dontneed' | 'populate_read' | 'populate_write' } & Range)
  | { readonly op: 'set_dma_entry_limit'; readonly value: number };

export interface Result {
  readonly errno: string;
  /** Bytes, of an unmap that succeeded. */
  readonly size: bigint | undefined;
  /** VmLck of every live process, KiB. */
  readonly vmlckKb: ReadonlyMap<string, bigint>;
  /** Free mapping slots of container 0 (and 1, with two); null when no process has a usable container. */
  readonly avail: number | null;
  readonly avail2: number | null | undefined;
}

export interface Operation {
  /** Line in the file, from 1. */
  readonly line: number;
  readonly actor: string;
  readonly action: Action;
  readonly result: Result;
  /** The operation as it is written, without its result. */
  readonly text: string;
}

export interface Transcript {
  readonly file: string;
  readonly header: Header;
  readonly operations: readonly Operation[];
}

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** Marks a number that JSON.parse was given as a string. No JSON text can contain this character unescaped. */
const MARK = '\u0001';
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** @throws UserError with file and line for everything that is not a transcript. */
export function parseTranscript(text: string, file: string): Transcript {
  const lines = text.split('\n');
  while (lines.length > 0 && lines[lines.length - 1]?.trim() === '') lines.pop();
  if (lines.length === 0) throw new UserError(EXIT.invalid, `${file}: empty, expected a transcript`);
  const header = parseHeader(Fields.ofLine(lines[0] as string, file, 1));
  const names = new Set(['main']);
  const operations = lines.slice(1).map((line, i) => parseOperation(line, file, i + 2, names));
  return { file, header, operations };
}

/** The fields of one JSON object, with the place for messages. */
class Fields {
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
      );
    }
    return Fields.of(value, place, '');
  }

  static of(value: unknown, place: string, path: string): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UserError(EXIT.invalid, `${place}: ${path === '' ? 'the line' : path} is not a JSON object`);
    }
    return new Fields(value as Record<string, unknown>, place, path);
  }

  fail(field: string, expected: string): never {
    const given = this.value[field];
    const got =
      given === undefined ? 'it is missing' : `got ${JSON.stringify(given).replaceAll(/"\\u0001([^"]*)"/g, '$1')}`;
    throw new UserError(EXIT.invalid, `${this.place}: ${this.path}${field}: expected ${expected}, ${got}`);
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

  /** Nothing may be in the object that nobody asked for. */
  end(): void {
    const extra = Object.keys(this.value).find((key) => !this.#seen.has(key));
    if (extra !== undefined) {
      throw new UserError(EXIT.invalid, `${this.place}: ${this.path}${extra}: unknown field`);
    }
  }
}

function unsigned(value: unknown): bigint | undefined {
  if (typeof value !== 'string' || !value.startsWith(MARK)) return undefined;
  const digits = value.slice(1);
  if (!/^\d{1,20}$/.test(digits)) return undefined;
  const n = BigInt(digits);
  return n <= U64_MAX ? n : undefined;
}

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

function parseHeader(f: Fields): Header {
  if (!f.has('format')) f.fail('format', '1, in the header on the first line');
  if (f.u64('format') !== 1n) f.fail('format', '1');
  if (!f.has('kernel'))
    f.fail('kernel', 'the release of the recording kernel; an input sequence has to be recorded first');
  const buffer = f.object('buffer');
  const header: Header = {
    kernel: f.text('kernel'),
    iommu: f.oneOf('iommu', ['type1', 'type1v2']),
    memlockBytes: f.limit('memlock_bytes'),
    capIpcLock: f.bool('cap_ipc_lock'),
    dmaEntryLimit: f.small('dma_entry_limit'),
    buffer: {
      offset: 0n,
      bytes: buffer.u64('bytes'),
      backing: buffer.oneOf('backing', PIECE_BACKINGS),
      touch: buffer.has('touch') ? buffer.oneOf('touch', TOUCHES) : 'write',
      source: undefined,
      prot: undefined,
    },
    parts: buffer.has('parts') ? buffer.list('parts', (v, path) => parsePiece(Fields.of(v, f.place, path))) : [],
    containers: f.has('containers') ? f.small('containers') : 1,
    title: f.has('title') ? f.text('title') : undefined,
    iovaRanges: f.list('iova_ranges', (v) => {
      const [first, last] = Array.isArray(v) ? v.map(unsigned) : [];
      if (first === undefined || last === undefined) f.fail('iova_ranges', 'pairs of first and last byte');
      return [first, last] as const;
    }),
  };
  if (header.containers < 1 || header.containers > 2) f.fail('containers', '1 or 2');
  if (header.buffer.bytes % 4096n !== 0n || header.buffer.bytes > 2n ** 46n) {
    buffer.fail('bytes', 'a multiple of 4096, at most 2^46');
  }
  for (const known of ['seed', 'page_sizes']) f.has(known);
  buffer.end();
  f.end();
  return header;
}

function parsePiece(f: Fields): Piece {
  const piece = pieceFields(f);
  f.end();
  return piece;
}

function pieceFields(f: Fields): Piece {
  return {
    ...rangeFields(f),
    backing: f.oneOf('backing', PIECE_BACKINGS),
    touch: f.has('touch') ? f.oneOf('touch', TOUCHES) : 'none',
    source: f.optionalU64('source'),
    prot: f.has('prot') ? f.oneOf('prot', PROTS) : undefined,
  };
}

const rangeFields = (f: Fields): Range => ({ offset: f.u64('offset'), bytes: f.u64('bytes') });

const containerField = (f: Fields): number => {
  const index = f.has('container') ? f.small('container') : 0;
  return index < 2 ? index : f.fail('container', '0 or 1');
};
const flagsField = (f: Fields, names: readonly string[]): string[] =>
  f.has('flags')
    ? f.list('flags', (v) => {
        if (typeof v === 'string' && (names.includes(v) || /^bit(?:[12]?\d|3[01])$/.test(v))) return v;
        return f.fail('flags', `${names.join(', ')} or bit0 to bit31`);
      })
    : [];
const argszField = (f: Fields): number | undefined => (f.has('argsz') ? f.small('argsz') : undefined);

const OPS = [
  'map',
  'unmap',
  'setrlimit',
  'mlock',
  'munlock',
  'spawn',
  'spawn_vm',
  'spawn_thread',
  'exit',
  'kill',
  'exec',
  'drop_cap',
  'close',
  'open',
  'mmap',
  'munmap',
  'mprotect',
  'madvise',
  'set_dma_entry_limit',
] as const satisfies readonly Action['op'][];

function parseAction(f: Fields): Action {
  const op = f.oneOf('op', OPS);
  switch (op) {
    case 'map':
      if (!f.has('offset') && !f.has('vaddr')) f.fail('offset', 'an offset in the buffer, or vaddr');
      return {
        op,
        iova: f.u64('iova'),
        vaddr: f.optionalU64('vaddr'),
        offset: f.optionalU64('offset'),
        bytes: f.u64('bytes'),
        prot: f.oneOf('prot', PROTS),
        flags: flagsField(f, ['VADDR']),
        container: containerField(f),
        argsz: argszField(f),
      };
    case 'unmap':
      return {
        op,
        iova: f.u64('iova'),
        bytes: f.u64('bytes'),
        flags: flagsField(f, ['ALL', 'VADDR']),
        container: containerField(f),
        argsz: argszField(f),
      };
    case 'setrlimit':
      return { op, memlockBytes: f.limit('memlock_bytes') };
    case 'mlock':
      return { op, ...rangeFields(f), onFault: flagsField(f, ['ONFAULT']).includes('ONFAULT') };
    case 'munlock':
    case 'munmap':
      return { op, ...rangeFields(f) };
    case 'spawn':
    case 'spawn_vm':
    case 'spawn_thread':
      return { op, child: f.text('child') };
    case 'exit':
      return { op, scope: f.has('scope') ? f.oneOf('scope', ['thread']) : undefined };
    case 'kill':
    case 'exec':
    case 'drop_cap':
      return { op };
    case 'close':
      return { op, which: f.oneOf('which', ['container', 'group', 'all']), container: containerField(f) };
    case 'open':
      return {
        op,
        iommu: f.has('iommu') ? f.oneOf('iommu', ['type1', 'type1v2']) : undefined,
        container: containerField(f),
      };
    case 'mmap':
      return { op, piece: pieceFields(f) };
    case 'mprotect':
      return { op, ...rangeFields(f), prot: f.oneOf('prot', PROTS) };
    case 'madvise':
      return { op, ...rangeFields(f), advice: f.oneOf('advice', ['dontneed', 'populate_read', 'populate_write']) };
    default:
      return { op, value: f.small('value') };
  }
}

/** `names` are the actors there have been so far; an operation that makes one adds it. */
function parseOperation(line: string, file: string, number: number, names: Set<string>): Operation {
  const f = Fields.ofLine(line, file, number);
  const action = parseAction(f);
  const actor = f.text('actor');
  if (!names.has(actor)) f.fail('actor', `an actor that exists (${[...names].join(', ')})`);
  if ('child' in action) {
    if (names.has(action.child)) f.fail('child', 'a name not used before');
    names.add(action.child);
  }
  if (!f.has('result')) f.fail('result', 'what the kernel answered; an input sequence has to be recorded first');
  const r = f.object('result');
  const result: Result = {
    errno: r.text('errno'),
    size: r.optionalU64('size'),
    vmlckKb: new Map(r.object('vmlck_kb').entries()),
    avail: r.numberOrNull('avail'),
    avail2: r.has('avail2') ? r.numberOrNull('avail2') : undefined,
  };
  r.end();
  f.end();
  return { line: number, actor, action, result, text: line.replace(/,\s*"result"\s*:.*$/, '}') };
}
