/**
 * Values that take precedence over the scenario file: flags over environment over file. An override is a dotted path
 * and a YAML value:
 *
 *     seed=7                          a key of the scenario
 *     guests.small.memory.size=4GiB   a key of one class of guests
 *     guests.small.actors.mapper.count=2
 *     memory.backing=anon4k           a key of every class of guests
 *     guests=64                       how many guests, where there is one class
 */
import { parseDocument } from 'yaml';
import { suggestion } from '../base/suggest.ts';
import {
  container,
  fromPlain,
  isList,
  isMapping,
  pathText,
  type Fault,
  type Located,
  type Origin,
  type PathPart,
} from './source.ts';

export interface Override {
  /** Dotted path. */
  readonly path: string;
  /** YAML text of the value. */
  readonly value: string;
  readonly origin: Extract<Origin, { kind: 'flag' | 'environment' }>;
}

/** Options of the command line that set a key of the scenario of the same name. */
export const OVERRIDE_OPTIONS = ['seed', 'variant', 'pace', 'duration'] as const;

/** Reads `key=value` of a `--set`. Null when it has no `=`. */
export function parseSet(text: string): Override | null {
  const equals = text.indexOf('=');
  if (equals < 1) return null;
  return {
    path: text.slice(0, equals).trim(),
    value: text.slice(equals + 1),
    origin: { kind: 'flag', text: `--set ${text}` },
  };
}

class OverrideError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

/**
 * Applies overrides in order; a later one wins.
 * @param topKeys keys of a scenario, @param guestKeys keys of a class of guests
 */
export function applyOverrides(
  root: Located,
  overrides: readonly Override[],
  topKeys: readonly string[],
  guestKeys: readonly string[],
): { readonly root: Located; readonly faults: readonly Fault[] } {
  const faults: Fault[] = [];
  let result = root;
  for (const override of overrides) {
    try {
      const value = parseValue(override);
      for (const path of resolvePath(result, override.path, value, topKeys, guestKeys))
        result = withValue(result, path, value);
    } catch (error) {
      if (!(error instanceof OverrideError)) throw error;
      faults.push({ origin: override.origin, path: '', message: error.message, hint: error.hint });
    }
  }
  return { root: result, faults };
}

function parseValue({ value, origin }: Override): Located {
  const document = parseDocument(value, { version: '1.2', logLevel: 'silent', prettyErrors: false });
  if (document.errors.length > 0) throw new OverrideError(`'${value}' is not a YAML value`, 'put it in quotes');
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: 0 }) as unknown;
  } catch {
    throw new OverrideError('aliases are not allowed here', 'write the value out');
  }
  if (JSON.stringify(data ?? null).includes('"__proto__":')) {
    throw new OverrideError("the key '__proto__' is not allowed", 'remove it');
  }
  return fromPlain(data ?? null, origin, value.trim());
}

/** The places a dotted path means. */
function resolvePath(
  root: Located,
  dotted: string,
  value: Located,
  topKeys: readonly string[],
  guestKeys: readonly string[],
): PathPart[][] {
  const parts = dotted.split('.');
  const [first = ''] = parts;
  if (parts.some((part) => part === '' || part === '__proto__' || part === 'constructor' || part === 'prototype')) {
    throw new OverrideError(`'${dotted}' is not a key`, 'write for example memory.backing=anon4k');
  }
  if (first === 'guests') return [guestPath(root, parts, value)];
  if (topKeys.includes(first)) return [parts];
  if (!guestKeys.includes(first))
    throw new OverrideError(`unknown key '${first}'`, suggestion(first, [...topKeys, ...guestKeys]));
  const classes = guestClasses(root);
  return classes.map((_, index) => {
    const guest = ['guests', index];
    return guest.concat(resolveActors(root, guest, parts));
  });
}

function guestPath(root: Located, parts: readonly string[], value: Located): PathPart[] {
  const classes = guestClasses(root);
  const names = classes.map((name) => name ?? '');
  if (parts.length === 1) {
    if (typeof value.value !== 'number') return ['guests'];
    if (classes.length === 1) return ['guests', 0, 'count'];
    throw new OverrideError(
      `there are ${classes.length} classes of guests`,
      `write for example guests.${names[0]}.count=${value.value}`,
    );
  }
  const name = parts[1] ?? '';
  const index = names.indexOf(name);
  if (index < 0) throw new OverrideError(`there is no class of guests '${name}'`, suggestion(name, names));
  const rest = parts.slice(2);
  if (rest.length === 0) return ['guests', index, ...(typeof value.value === 'number' ? ['count'] : [])];
  return ['guests', index, ...resolveActors(root, ['guests', index], rest)];
}

/** `actors.mapper.count`: the actor is addressed by its name. */
function resolveActors(root: Located, guest: readonly PathPart[], parts: readonly string[]): PathPart[] {
  if (parts[0] !== 'actors' || parts.length < 2) return [...parts];
  const actors = childOf(childOf(childOf(root, guest[0]), guest[1]), 'actors')?.value;
  const names = isList(actors) ? actors.map((actor) => nameOf(actor, 'name') ?? '') : [];
  const index = names.indexOf(parts[1] ?? '');
  if (index < 0) throw new OverrideError(`there is no actor '${parts[1]}'`, suggestion(parts[1] ?? '', names));
  return ['actors', index, ...parts.slice(2)];
}

function guestClasses(root: Located): (string | null)[] {
  const guests = childOf(root, 'guests')?.value;
  return isList(guests) ? guests.map((guest) => nameOf(guest, 'class')) : [];
}

function nameOf(node: Located, key: string): string | null {
  const name = childOf(node, key)?.value;
  return typeof name === 'string' ? name : null;
}

function childOf(node: Located | undefined, part: PathPart | undefined): Located | undefined {
  if (node === undefined || part === undefined) return undefined;
  if (isList(node.value)) return typeof part === 'number' ? node.value[part] : undefined;
  return isMapping(node.value) ? node.value.get(String(part)) : undefined;
}

/** A copy of the tree with the value at a path; maps on the way are made. The rest is shared. */
function withValue(node: Located, path: readonly PathPart[], value: Located): Located {
  const [part, ...rest] = path;
  if (part === undefined) return node.key === undefined ? value : { ...value, key: value.origin };
  const child = childOf(node, part) ?? container(new Map(), value.origin);
  const next = { ...withValue(child, rest, value), key: value.origin };
  if (isList(node.value) && typeof part === 'number') return { ...node, value: node.value.with(part, next) };
  if (isMapping(node.value)) return { ...node, value: new Map(node.value).set(String(part), next) };
  if (node.value === null) return container(new Map([[String(part), next]]), value.origin);
  const message = `cannot set '${pathText(path)}' below ${JSON.stringify(node.value)}`;
  throw new OverrideError(message, 'set the whole value');
}
