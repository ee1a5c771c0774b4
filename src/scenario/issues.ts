/** Turns zod's issues into faults in a user's words. */
import type { z } from 'zod';
import { nearest, suggestion } from '../base/suggest.ts';
import { describeValue } from '../base/zod-units.ts';
import type { PathPart } from './source.ts';

type Issue = z.core.$ZodIssue;

/** A fault at a path of the input, before it is located in the file. `atKey`: the key is at fault, not its value. */
export interface Problem {
  readonly path: readonly PathPart[];
  readonly atKey?: boolean;
  readonly message: string;
  readonly hint?: string | undefined;
}

/**
 * Error map to parse with: an unknown key's message lists the known ones, as JSON. zod's finished issue no longer says
 * which object was being checked.
 */
export const errorMap: z.core.$ZodErrorMap = (issue) => {
  if (issue.code !== 'unrecognized_keys') return undefined;
  const shape = (issue.inst as { shape?: object } | undefined)?.shape;
  return JSON.stringify(Object.keys(shape ?? {}));
};

/** All problems of a failed parse. `input` is what was parsed, `base` its path in the scenario. */
export function problems(issues: readonly Issue[], input: unknown, base: readonly PathPart[] = []): Problem[] {
  const found = issues.flatMap((issue) => translate(issue, input, issue.path as PathPart[]));
  // A misspelt required key is one fault, not an unknown and a missing one.
  const meant = new Set(
    found.filter((p) => p.atKey).map((p) => nameOf(p.path.slice(0, -1), /'(.+)'\?$/.exec(p.hint ?? '')?.[1])),
  );
  const isMeant = (p: Problem): boolean =>
    p.message.endsWith(' is missing') && meant.has(nameOf(p.path, /^'(.+)' is missing$/.exec(p.message)?.[1]));
  return found.filter((p) => !isMeant(p)).map((p) => Object.assign(p, { path: base.concat(p.path) }));
}

const nameOf = (path: readonly PathPart[], key: string | undefined): string => JSON.stringify([path, key]);

function valueAt(input: unknown, path: readonly PathPart[]): unknown {
  let value = input;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PathPart, unknown>)[part];
  }
  return value;
}

const KINDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  object: 'a map',
  record: 'a map',
  array: 'a list',
  tuple: 'a list',
};

const custom = (issue: Issue): { hint?: string; expected?: string } =>
  issue.code === 'custom' ? ((issue.params ?? {}) as { hint?: string; expected?: string }) : {};

function translate(issue: Issue, input: unknown, path: readonly PathPart[]): Problem[] {
  const value = valueAt(input, path);
  if (value === undefined && path.length > 0 && issue.code !== 'unrecognized_keys') {
    const key = path.at(-1);
    const message = typeof key === 'number' ? `entry ${key + 1} is missing` : `'${key}' is missing`;
    return [{ path: path.slice(0, -1), message, hint: typeof key === 'number' ? 'add it' : `add '${key}:'` }];
  }
  const one = (message: string, hint?: string): Problem[] => [{ path, message, hint }];
  const got = describeValue(value);
  switch (issue.code) {
    case 'custom':
      return one(issue.message, custom(issue).hint);
    case 'unrecognized_keys': {
      const known = JSON.parse(issue.message) as string[];
      return issue.keys.map((key) => ({
        path: [...path, key],
        atKey: true,
        message: 'unknown key',
        hint: suggestion(key, known),
      }));
    }
    case 'invalid_union':
      return union(issue, input, path);
    case 'invalid_value': {
      // A type may word its own fault: the message, and on a second line the fix.
      const [worded = '', fix] = issue.message.split('\n');
      if (fix !== undefined) return one(worded, fix);
      const known = issue.values.map(String);
      if (typeof value !== 'string')
        return one(`expected ${known.join(' or ')}, got ${got}`, `write for example ${known[0]}`);
      return one(`unknown value ${got}`, suggestion(value, known));
    }
    case 'invalid_type':
      return one(`expected ${KINDS[issue.expected] ?? issue.expected}, got ${got}`, fixKind(issue.expected, value));
    case 'too_small':
      if (issue.origin === 'array') {
        const few = Array.isArray(value) && value.length === 0 ? 'the list is empty' : 'the list is too short';
        return one(few, `give at least ${issue.minimum === 1 ? 'one entry' : `${issue.minimum} entries`}`);
      }
      return one(
        `${got} is too small`,
        `the minimum is ${issue.minimum}${issue.inclusive === false ? ' (excluded)' : ''}`,
      );
    case 'too_big':
      if (issue.origin === 'array') return one('the list is too long', `give at most ${issue.maximum} entries`);
      if (issue.origin === 'string') return one('the text is too long', `the maximum is ${issue.maximum} characters`);
      return one(
        `${got} is too large`,
        `the maximum is ${issue.maximum}${issue.inclusive === false ? ' (excluded)' : ''}`,
      );
    case 'invalid_format':
      return one(`${got} is not a name`, 'use letters, digits, - and _, at most 63, a letter or digit first');
    case 'invalid_element':
    case 'invalid_key':
    case 'not_multiple_of':
      break;
  }
  return one(issue.message);
}

function fixKind(expected: string, value: unknown): string | undefined {
  if (expected === 'string') return typeof value === 'object' ? 'write a word' : 'put it in quotes';
  if (expected === 'boolean') return 'write true or false';
  if (expected === 'int' && typeof value === 'number' && Number.isFinite(value))
    return `write for example ${Math.round(value)}`;
  if (expected === 'int' || expected === 'number') return 'write a number without a unit';
  if (expected === 'array') return "start each entry on a line of its own with '- '";
  if (expected === 'object' || expected === 'record') return "write 'key: value' lines below it";
  return undefined;
}

/** The alternative the user meant: the one of the same kind of value with the fewest faults. */
function union(issue: Extract<Issue, { code: 'invalid_union' }>, input: unknown, path: readonly PathPart[]): Problem[] {
  const value = valueAt(input, path);
  if (issue.errors.length === 0) {
    const known = ((issue as { options?: unknown[] }).options ?? []).map(String);
    if (typeof value !== 'string')
      return [{ path, message: `expected one of ${known.join(', ')}, got ${describeValue(value)}` }];
    return [{ path, message: `unknown value ${describeValue(value)}`, hint: suggestion(value, known) }];
  }
  const branches = issue.errors.filter((branch) => !branch.some((inner) => isWrongKind(inner, value)));
  if (branches.length === 0) {
    const wanted = [...new Set(issue.errors.flatMap((branch) => branch.flatMap(expectedKinds)))];
    const list = wanted.length < 2 ? wanted.join('') : `${wanted.slice(0, -1).join(', ')} or ${wanted.at(-1)}`;
    const hints = issue.errors.flatMap((branch) => branch.map((inner) => custom(inner).hint ?? typeHint(inner, value)));
    const hint = hints.find((text) => text !== undefined);
    return [{ path, message: `expected ${list}, got ${describeValue(value)}`, hint }];
  }
  const cost = (branch: readonly Issue[]): number => {
    let sum = 0;
    for (const inner of branch) {
      sum += inner.code === 'unrecognized_keys' ? inner.keys.length : 1;
      // A fixed word the user nearly wrote is surely what was meant; one far off is surely not.
      if (inner.code !== 'invalid_value' || inner.path.length > 0) continue;
      sum += nearest(String(value), inner.values.map(String)) === null ? 0.5 : -0.5;
    }
    return sum;
  };
  const best = branches.reduce((a, b) => (cost(b) < cost(a) ? b : a));
  const found = best.flatMap((inner) => translate(inner, input, path.concat(inner.path as PathPart[])));
  const words = branches
    .flat()
    .flatMap((inner) => (inner.code === 'invalid_value' && inner.path.length === 0 ? inner.values : []));
  const [only] = found;
  if (words.length === 0 || only?.hint === undefined || best[0]?.code !== 'custom') return found;
  return [{ ...only, hint: `${only.hint}, or ${words.join(' or ')}` }];
}

const typeHint = (issue: Issue, value: unknown): string | undefined =>
  issue.code === 'invalid_type' ? fixKind(issue.expected, value) : undefined;

/** Whether a branch refused the value because it is of another kind (a list where a map was wanted). */
function isWrongKind(issue: Issue, value: unknown): boolean {
  if (issue.path.length > 0) return false;
  if (issue.code === 'invalid_type') return issue.expected !== 'int' || typeof value !== 'number';
  if (issue.code === 'invalid_value') return !issue.values.some((known) => typeof known === typeof value);
  if (issue.code === 'invalid_union')
    return issue.errors.length > 0 && issue.errors.every((branch) => branch.some((i) => isWrongKind(i, value)));
  return custom(issue).expected !== undefined;
}

function expectedKinds(issue: Issue): string[] {
  if (issue.path.length > 0) return ['a map'];
  if (issue.code === 'invalid_type') return [KINDS[issue.expected] ?? issue.expected];
  if (issue.code === 'invalid_value') return issue.values.map(String);
  if (issue.code === 'invalid_union') return issue.errors.flatMap((branch) => branch.flatMap(expectedKinds));
  return [custom(issue).expected ?? issue.message];
}
