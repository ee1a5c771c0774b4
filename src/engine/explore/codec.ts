/**
 * Replay tokens: one schedule as a word that survives mail and chat. Everything that decides what the schedule means is
 * in it (format, model, variant, case and its hash), so a token that cannot be replayed says why.
 *
 * Bytes, base64url: format, then varints: model version; variant, case and failure as counted UTF-8; six bytes of the
 * case's hash; the operations left out; the answers to faults, packed; the steps as runs of one actor; a checksum of
 * four bytes.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../base/canonical-json.ts';
import { EXIT, UserError } from '../../base/errors.ts';
import { MODEL_VERSION } from '../../model/version.ts';
import type { ExploreCase } from './case.ts';

const FORMAT = 1;
const PREFIX = 'p1-';
const HASH_BYTES = 6;
const SUM_BYTES = 4;

/** Steps a token may hold: a damaged or hostile one must not fill the memory. */
const STEPS_MAX = 5_000_000;

export interface Token {
  readonly modelVersion: number;
  readonly variant: string;
  /** The case as the user named it, or its place among the files that come with pinstorm. */
  readonly caseFile: string;
  readonly caseHash: string;
  /** The failure it was recorded for. */
  readonly failure: string;
  /** Operations of the case left out, counted over setup and all actors. */
  readonly dropped: readonly number[];
  readonly faults: readonly boolean[];
  readonly choices: readonly number[];
}

const fault = (message: string): UserError =>
  new UserError(EXIT.invalid, message, 'copy the whole token, or make a new one with pinstorm explore');

/** What of a case decides how it executes, as hex. Its name and its prose do not. */
export function caseHash(plan: ExploreCase): string {
  const { name: _name, about: _about, expect: _expect, variant: _variant, ...rest } = plan;
  return createHash('sha256')
    .update(canonicalJson(rest))
    .digest('hex')
    .slice(0, 2 * HASH_BYTES);
}

export function encodeToken(token: Token): string {
  const out: number[] = [FORMAT];
  const text = (s: string): void => {
    const bytes = new TextEncoder().encode(s);
    varint(out, bytes.length);
    out.push(...bytes);
  };
  varint(out, token.modelVersion);
  text(token.variant);
  text(token.caseFile);
  text(token.failure);
  out.push(...Buffer.from(token.caseHash, 'hex'));
  varint(out, token.dropped.length);
  for (const n of token.dropped) varint(out, n);
  varint(out, token.faults.length);
  for (let i = 0; i < token.faults.length; i += 8) {
    out.push(token.faults.slice(i, i + 8).reduce((byte, bit, n) => byte | (bit ? 1 << n : 0), 0));
  }
  const runs: [actor: number, steps: number][] = [];
  for (const id of token.choices) {
    const last = runs.at(-1);
    if (last?.[0] === id) last[1] += 1;
    else runs.push([id, 1]);
  }
  // Not Math.max(...): a long schedule has more steps than a call may have arguments.
  const base = token.choices.reduce((most, id) => Math.max(most, id), 0) + 1;
  varint(out, base);
  varint(out, runs.length);
  for (const [actor, steps] of runs) varint(out, steps * base + actor);
  const bytes = Buffer.from(out);
  return PREFIX + Buffer.concat([bytes, checksum(bytes)]).toString('base64url');
}

/** @throws UserError (exit 104) that says what is wrong with the token. */
export function decodeToken(word: string): Token {
  const given = word.trim();
  if (!given.startsWith(PREFIX)) {
    if (/^p\d+-/.test(given))
      throw fault(`the token has format ${given.slice(1, given.indexOf('-'))}; this pinstorm reads format 1`);
    throw fault(`a token begins with ${PREFIX}, this is ${JSON.stringify(given.slice(0, 20))}`);
  }
  const body = given.slice(PREFIX.length);
  const strange = /[^\w-]/.exec(body);
  if (strange !== null) {
    throw fault(
      `the token has the character ${JSON.stringify(strange[0])} at ${strange.index + PREFIX.length + 1}, which no token has`,
    );
  }
  const all = Buffer.from(body, 'base64url');
  const bytes = all.subarray(0, -SUM_BYTES);
  if (all.length <= SUM_BYTES || !checksum(bytes).equals(all.subarray(-SUM_BYTES))) {
    throw fault('the token is cut off or damaged: its checksum does not fit');
  }
  return new Reader(bytes).token();
}

/** Refuses a token of another model. @throws UserError */
export function checkModel(token: Token): void {
  if (token.modelVersion === MODEL_VERSION) return;
  throw new UserError(
    EXIT.invalid,
    `the token is of model version ${token.modelVersion}, this is version ${MODEL_VERSION}: paths take other steps now, so its choices mean something else`,
    'run pinstorm explore again for a new token',
  );
}

class Reader {
  #at = 0;
  constructor(private readonly bytes: Buffer) {}

  token(): Token {
    const format = this.#byte();
    if (format !== FORMAT) throw fault(`the token has format ${format}; this pinstorm reads format ${FORMAT}`);
    const modelVersion = this.#varint();
    const variant = this.#text();
    const caseFile = this.#text();
    const failure = this.#text();
    const hash = this.#take(HASH_BYTES).toString('hex');
    const dropped = this.#list(this.#varint());
    const count = this.#count(this.#varint());
    const packed = this.#take(Math.ceil(count / 8));
    const faults = Array.from({ length: count }, (_, i) => (((packed[i >> 3] as number) >> (i & 7)) & 1) === 1);
    const base = this.#varint();
    if (base === 0) throw fault('the token makes no sense: it names no actor');
    const choices: number[] = [];
    for (const run of this.#list(this.#varint())) {
      const steps = Math.floor(run / base);
      this.#count(choices.length + steps);
      for (let n = 0; n < steps; n += 1) choices.push(run % base);
    }
    if (this.#at !== this.bytes.length) throw fault('the token makes no sense: it goes on after its end');
    return { modelVersion, variant, caseFile, caseHash: hash, failure, dropped, faults, choices };
  }

  #byte(): number {
    const byte = this.bytes[this.#at];
    if (byte === undefined) throw fault('the token makes no sense: it ends too early');
    this.#at += 1;
    return byte;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * factor;
      if (value > Number.MAX_SAFE_INTEGER || factor > 2 ** 49)
        throw fault('the token makes no sense: a number is too large');
      if (byte < 128) return value;
    }
  }

  #take(count: number): Buffer {
    if (this.#at + count > this.bytes.length) throw fault('the token makes no sense: it ends too early');
    this.#at += count;
    return this.bytes.subarray(this.#at - count, this.#at);
  }

  #text(): string {
    return this.#take(this.#varint()).toString('utf8');
  }

  #list(count: number): number[] {
    return Array.from({ length: this.#count(count) }, () => this.#varint());
  }

  #count(count: number): number {
    if (count > STEPS_MAX) throw fault('the token makes no sense: it has too many steps');
    return count;
  }
}

function varint(out: number[], value: number): void {
  let rest = value;
  while (rest >= 128) {
    out.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, SUM_BYTES);
}
