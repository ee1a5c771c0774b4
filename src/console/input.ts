/**
 * Files that the user names: regular ones, named pipes, what the shell makes of `<(...)`, and `-` for standard input.
 * All are read to their end, up to a limit, and a signal is heard while they keep us waiting.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { EXIT, UserError } from '../base/errors.ts';
import { oneLine } from '../base/printable.ts';
import { nearest } from '../base/suggest.ts';
import { MAX_SOURCE_BYTES, type ParsedSource, parseSource } from '../scenario/source.ts';
import { locateInput, shippedNames } from './shipped.ts';

/** What messages call standard input. */
export const STDIN_NAME = '<stdin>';

export interface InputKind {
  /** What kind of file is expected, for the hints. */
  readonly what: string;
  readonly example: string;
  /** What a file that is too large should do instead. */
  readonly smaller: string;
  readonly maxBytes: number;
}

type Refuse = (why: string, hint: string) => UserError;

const SCENARIO: InputKind = {
  what: 'scenario file',
  example: 'boot-storm',
  smaller: 'use count instead of listing guests',
  maxBytes: MAX_SOURCE_BYTES,
};

/**
 * Reads and parses a scenario, a case or another YAML file. @throws UserError 104 as `readInput`; faults of the text
 * are in it.
 */
export async function readSource(file: string, kind = SCENARIO): Promise<ParsedSource> {
  const { name, text } = await readInput(file, kind);
  return parseSource(name, text);
}

/** @throws UserError 104 when it cannot be read, is too large or is not UTF-8. */
export async function readInput(
  file: string,
  kind: InputKind,
): Promise<{ readonly name: string; readonly text: string }> {
  const found = file === '-' ? { path: file, name: STDIN_NAME } : locateInput(file);
  const [path, name] = [found.path, oneLine(found.name)];
  const refuse: Refuse = (why, hint) => new UserError(EXIT.invalid, `${name}: ${why}`, hint);
  let bytes: Buffer | null;
  try {
    bytes = await readBytes(path, kind, refuse);
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw refuse('no such file', missingHint(file));
    if (code === 'EACCES') throw refuse('no permission to read it', 'check the permissions of the file');
    throw refuse(`cannot be read (${code ?? String(error)})`, 'check the path');
  }
  if (bytes === null) throw refuse(`is larger than ${sizeText(kind.maxBytes)}`, kind.smaller);
  try {
    return { name, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    throw refuse('is not UTF-8 text', 'save it as UTF-8');
  }
}

/** Names of standard input: for some kinds of it, opening the last ones again fails. */
const STDIN = new Set(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0']);

async function readBytes(file: string, { what, example, maxBytes }: InputKind, refuse: Refuse): Promise<Buffer | null> {
  if (STDIN.has(file)) return fstatSync(0).isFile() ? readRegular(0, maxBytes) : readStream(process.stdin, maxBytes);
  // A named pipe is opened at once, and it is the event loop that waits for its writer.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const stat = fstatSync(fd);
  if (stat.isFIFO()) return readStream(new Socket({ fd, readable: true, writable: false }), maxBytes);
  try {
    if (stat.isDirectory()) throw refuse('is a directory', `name a ${what}, for example ${example}`);
    // A device may be endless.
    if (!stat.isFile()) throw refuse('is not a file', `name a ${what}`);
    return stat.size > maxBytes ? null : readRegular(fd, maxBytes);
  } finally {
    closeSync(fd);
  }
}

/** To its end, whatever size it claims: files of /proc are never empty. Null: it is larger than `maxBytes`. */
function readRegular(fd: number, maxBytes: number): Buffer | null {
  const parts: Buffer[] = [];
  for (let total = 0; total <= maxBytes;) {
    const part = Buffer.alloc(Math.min(65_536, maxBytes + 1 - total));
    const n = readSync(fd, part);
    if (n === 0) return Buffer.concat(parts);
    parts.push(part.subarray(0, n));
    total += n;
  }
  return null;
}

async function readStream(stream: Readable, maxBytes: number): Promise<Buffer | null> {
  const parts: Buffer[] = [];
  let total = 0;
  for await (const part of stream as AsyncIterable<Buffer>) {
    total += part.length;
    if (total > maxBytes) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The file of nearly that name beside it, or where to look. */
function missingHint(file: string): string {
  let near: string | null = null;
  try {
    near = nearest(basename(file), readdirSync(dirname(file)));
  } catch {
    // There is no such directory either.
  }
  if (near !== null) return `did you mean ${join(dirname(file), near)}?`;
  near = nearest(basename(file, '.yaml'), shippedNames('scenario', 'case', 'defect', 'rows'));
  if (near !== null) return `did you mean ${near}, which comes with pinstorm?`;
  return 'check the path; pinstorm scenarios lists what comes along';
}

const sizeText = (bytes: number): string => (bytes % 1024 ** 2 === 0 ? `${bytes / 1024 ** 2}MiB` : `${bytes} bytes`);
