/**
 * Sequences of VFIO type1 operations, JSON Lines, one operation per line and a header first. A transcript is a
 * sequence with what a kernel answered to each operation. Numbers are unsigned 64 bit, so they are read as bigints and
 * never pass through a double.
 */
import { EXIT, UserError } from '../base/errors.ts';
import { U64_MAX } from '../base/units.ts';
import { Fields, FORMAT_HINT, unsigned } from './fields.ts';

/** Where the buffer of each process starts. */
export const BUFFER = 1n << 40n;

/** The virtual address of a byte of the buffer; the sum wraps as the kernel's does. */
export const addressInBuffer = (offset: bigint): bigint => (BUFFER + offset) & U64_MAX;

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

/** What a sequence starts with. */
export interface Start {
  readonly iommu: 'type1' | 'type1v2';
  readonly memlockBytes: bigint;
  readonly capIpcLock: boolean;
  readonly dmaEntryLimit: number;
  readonly buffer: Piece;
  readonly parts: readonly Piece[];
  readonly containers: number;
  readonly title: string | undefined;
}

/** Of a transcript: what the recording kernel adds. */
export interface Header extends Start {
  /** Its release, as uname tells it. */
  readonly kernel: string;
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
  | ({ readonly op: 'munlock' } & Range)
  | ({ readonly op: 'munmap' } & Range)
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

export interface Step {
  /** Line in the file, from 1. */
  readonly line: number;
  readonly actor: string;
  readonly action: Action;
  /** The operation as it is written, without its result. */
  readonly text: string;
}

export interface Operation extends Step {
  readonly result: Result;
}

export interface Sequence {
  readonly file: string;
  readonly start: Start;
  /** The header as it is written, without its format and what a recording kernel adds. */
  readonly text: string;
  readonly steps: readonly Step[];
}

export interface Transcript {
  readonly file: string;
  readonly header: Header;
  readonly operations: readonly Operation[];
}

/** Fields of the header that the recording kernel adds. */
const RECORDED = ['kernel', 'page_sizes', 'iova_ranges'] as const;

/** @throws UserError with file and line for everything that is not a transcript. */
export function parseTranscript(text: string, file: string): Transcript {
  const [first, ...rest] = linesOf(text, file);
  const header = parseHeader(Fields.ofLine(first, file, 1));
  const names = new Set(['main']);
  const operations = rest.map((line, i) => {
    const f = Fields.ofLine(line, file, i + 2);
    const step = parseStep(f, i + 2, names);
    const operation = { ...step, result: parseResult(f) };
    f.end();
    return operation;
  });
  return { file, header, operations };
}

/**
 * Reads what is to be done, of an input sequence as of a transcript: what was recorded is left out.
 * @throws UserError with file and line
 */
export function parseSequence(text: string, file: string): Sequence {
  const [first, ...rest] = linesOf(text, file);
  const f = Fields.ofLine(first, file, 1);
  const start = parseStart(f);
  for (const known of RECORDED) f.has(known);
  f.end();
  const names = new Set(['main']);
  const steps = rest.map((line, i) => {
    const fields = Fields.ofLine(line, file, i + 2);
    const step = parseStep(fields, i + 2, names);
    fields.has('result');
    fields.end();
    return step;
  });
  return { file, start, text: f.without('format', ...RECORDED), steps };
}

function linesOf(text: string, file: string): [string, ...string[]] {
  const lines = text.split('\n');
  while (lines.at(-1)?.trim() === '') lines.pop();
  const [first, ...rest] = lines;
  if (first === undefined) throw new UserError(EXIT.invalid, `${file}: empty, expected a transcript`, FORMAT_HINT);
  return [first, ...rest];
}

function parseHeader(f: Fields): Header {
  const start = parseStart(f);
  if (!f.has('kernel'))
    f.fail('kernel', 'the release of the recording kernel; an input sequence has to be recorded first');
  const header = {
    ...start,
    kernel: f.text('kernel'),
    iovaRanges: f.list('iova_ranges', (v) => {
      const [first, last] = Array.isArray(v) ? v.map(unsigned) : [];
      if (first === undefined || last === undefined) f.fail('iova_ranges', 'pairs of first and last byte');
      return [first, last] as const;
    }),
  };
  f.has('page_sizes');
  f.end();
  return header;
}

/** Asks for nothing that only a recording has. */
function parseStart(f: Fields): Start {
  if (!f.has('format')) f.fail('format', '1, in the header on the first line');
  if (f.u64('format') !== 1n) f.fail('format', '1');
  const buffer = f.object('buffer');
  const start: Start = {
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
  };
  if (start.containers < 1 || start.containers > 2) f.fail('containers', '1 or 2');
  if (start.buffer.bytes % 4096n !== 0n || start.buffer.bytes > 2n ** 46n) {
    buffer.fail('bytes', 'a multiple of 4096, at most 2^46');
  }
  f.has('seed');
  buffer.end();
  return start;
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
/** Flags as an unsigned 32-bit number: by name, or by their bits. */
export const flagBits = (flags: readonly string[], names: Readonly<Record<string, number>>): number =>
  flags.reduce((bits, flag) => (bits | (names[flag] ?? 1 << Number(flag.slice('bit'.length)))) >>> 0, 0);
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
function parseStep(f: Fields, line: number, names: Set<string>): Step {
  const action = parseAction(f);
  const actor = f.text('actor');
  if (!names.has(actor)) f.fail('actor', `an actor that exists (${[...names].join(', ')})`);
  if ('child' in action) {
    if (names.has(action.child)) f.fail('child', 'a name not used before');
    names.add(action.child);
  }
  return { line, actor, action, text: f.without('result') };
}

function parseResult(f: Fields): Result {
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
  return result;
}
