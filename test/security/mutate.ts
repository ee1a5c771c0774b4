/** Damages texts and JSON data at random, from a seeded stream. What comes out is meant to be nasty, not valid. */
import type { Prng } from '../../src/base/prng.ts';

/**
 * What parsers have stumbled over: YAML's and JSON's own marks, numbers at every edge, names of prototypes, odd
 * characters.
 */
const TOKENS: readonly string[] = [
  '&a ',
  '*a',
  '&a [*a]',
  '<<: *a',
  '!!js/function x',
  '!!binary aGk=',
  '!!set {a}',
  '!<tag:x> ',
  '--- ',
  '...\n',
  '%YAML 1.1\n',
  '? ',
  '- ',
  ': ',
  '|+\n',
  '>-\n',
  '#',
  '"',
  "'",
  '{',
  '}',
  '[',
  ']',
  ',',
  '\t',
  '\n',
  '\r',
  '\r\n',
  '  ',
  '@',
  '`',
  '__proto__: ',
  'constructor: {prototype: {x: 1}}',
  'prototype: ',
  'toString: 1',
  '"__proto__":{"x":1},',
  'hasOwnProperty: x',
  '-1',
  '0',
  '1e999',
  '-0',
  '.nan',
  '.inf',
  '0x7fffffffffffffff',
  '0o777',
  '9007199254740993',
  '1_000',
  '4294967296',
  '1e-400',
  '9'.repeat(400),
  'null',
  '~',
  'true',
  '64K',
  '1TiB',
  '1 page',
  '999999999TiB',
  '10us',
  '-5s',
  '1/s',
  '../../../etc/passwd',
  '\u0000',
  '\u0007',
  '\u001b[2J',
  '\u2028',
  '\u202e',
  '\ufeff',
  '\ud800',
  '\u{1f4a5}',
  'e\u0301',
  '\u00a0',
  'ａ',
];

const pick = <T>(random: Prng, list: readonly T[]): T => list[random.below(list.length)] as T;

/** Longest text made: the size limit itself is for the tests of the limit. */
const LONGEST = 60_000;

/** One to eight changes of a text; parts of `other` may come in. */
export function mutateText(random: Prng, text: string, other: string): string {
  let out = text;
  for (let n = 1 + random.below(8); n > 0; n--) {
    const at = random.below(out.length + 1);
    const end = Math.min(out.length, at + random.below(random.below(4) === 0 ? 400 : 12));
    const span = out.slice(at, end);
    const put = (middle: string, from = at, to = at): void => void (out = out.slice(0, from) + middle + out.slice(to));
    switch (random.below(10)) {
      case 0:
        put('', at, end);
        break;
      case 1:
        put(span);
        break;
      case 2:
        put(String.fromCharCode(random.below(random.below(3) === 0 ? 0x10000 : 128)), at, at + 1);
        break;
      case 3:
      case 4:
        put(pick(random, TOKENS));
        break;
      case 5:
        put(pick(random, TOKENS), at, end);
        break;
      case 6:
        out = out.replace(/\d+/g, (number) =>
          random.below(6) === 0 ? pick(random, ['-1', '0', '1e9', '2.5', '1e999', `${number}0`]) : number,
        );
        break;
      case 7: {
        const from = random.below(other.length + 1);
        put(other.slice(from, from + random.below(600)));
        break;
      }
      case 8:
        // Nests or repeats: `[[[[`, `a: a: a:`, a thousand lines.
        put(
          (span === '' ? pick(random, ['[', '{', '- ', '? ', 'a: ']) : span).repeat(
            1 + random.below(random.below(5) === 0 ? 3000 : 40),
          ),
        );
        break;
      case 9:
        put(aliasBomb(random));
        break;
    }
    if (out.length > LONGEST) out = out.slice(0, LONGEST);
  }
  return out;
}

/** A list of lists of aliases: each level is as wide as its depth is cheap. */
function aliasBomb(random: Prng): string {
  const width = 2 + random.below(12);
  const lines = ['\nx0: &x0 [a, b]'];
  for (let level = 1; level <= 2 + random.below(10); level++) {
    lines.push(`x${level}: &x${level} [${Array.from({ length: width }, () => `*x${level - 1}`).join(', ')}]`);
  }
  return `${lines.join('\n')}\n`;
}

const VALUES: readonly (() => unknown)[] = [
  ...[null, true, -1, 0.5, 2 ** 53, 2 ** 31, -(2 ** 63), 1e308, '', '../../x', 'x'.repeat(5000), 'a\u001b[2J'].map(
    (v) => () => v,
  ),
  () => JSON.parse('1e999') as unknown,
  () => [],
  () => ({}),
  () => JSON.parse('{"__proto__":{"polluted":1}}') as unknown,
  () => JSON.parse('{"constructor":{"prototype":{"polluted":1}}}') as unknown,
  () => JSON.parse('['.repeat(2000) + ']'.repeat(2000)) as unknown,
  () => Array.from({ length: 3000 }, (_, i) => i),
];

/** JSON data with one to four values, keys or entries changed. The input is left alone. */
export function mutateData(random: Prng, data: unknown): unknown {
  let out = structuredClone(data);
  for (let n = 1 + random.below(4); n > 0; n--) out = change(random, out, random.below(6));
  return out;
}

function change(random: Prng, data: unknown, depth: number): unknown {
  if (typeof data !== 'object' || data === null || depth === 0) {
    if (typeof data === 'number' && random.below(2) === 0)
      return pick(random, [data + 1, -data, data * 1e6, data / 3, data + 2 ** 53]);
    if (typeof data === 'string' && random.below(2) === 0) return mutateText(random, data, data);
    return pick(random, VALUES)();
  }
  const keys = Object.keys(data);
  const key = keys.length === 0 ? 'x' : pick(random, keys);
  const value = (data as Record<string, unknown>)[key];
  const set = (name: string, to: unknown): void => {
    // defineProperty: an assignment to __proto__ would be swallowed here, before the parser under test sees it.
    Object.defineProperty(data, name, { value: to, enumerable: true, writable: true, configurable: true });
  };
  switch (random.below(6)) {
    case 0:
      if (Array.isArray(data)) data.splice(random.below(data.length + 1), 1);
      else delete (data as Record<string, unknown>)[key];
      break;
    case 1:
      if (Array.isArray(data)) data.push(...(data.slice(0, 50) as unknown[]));
      else set(pick(random, ['__proto__', 'constructor', 'toString', 'extra', `${key} `]), pick(random, VALUES)());
      break;
    default:
      set(key, change(random, value, depth - 1));
  }
  return data;
}
