/**
 * A scenario's text as a tree in which every value knows where it came from, so that faults point at the line and the
 * resolved scenario can say the origin of each value. The text is untrusted: its size, depth and expansion are bounded,
 * and nothing in it can reach an object's prototype.
 */
import { type ErrorCode, isAlias, isMap, isScalar, isSeq, LineCounter, type Node as YamlNode } from 'yaml';
import { parseYaml, type YamlError } from './yaml-document.ts';

/** Largest scenario file, in bytes. */
export const MAX_SOURCE_BYTES = 1024 * 1024;
/** Values in a scenario after its aliases are expanded. */
const MAX_NODES = 200_000;
const MAX_DEPTH = 32;
const TOO_DEEP = { message: 'the YAML is nested too deeply', hint: `nest at most ${MAX_DEPTH} levels` };

export type PathPart = string | number;

/** Where a value came from. Offsets are in UTF-16 units of the source text. */
export type Origin =
  | { readonly kind: 'scenario'; readonly start: number; readonly end: number }
  | { readonly kind: 'flag'; readonly text: string }
  | { readonly kind: 'environment'; readonly text: string }
  | { readonly kind: 'default' };

export type Scalar = string | number | boolean | null;

/** A value with its origin. */
export interface Located {
  readonly origin: Origin;
  /** Origin of the key that names it, in a map. */
  readonly key?: Origin;
  readonly value: Scalar | readonly Located[] | ReadonlyMap<string, Located>;
  /** The scalar as written: `4.10` where the value is 4.1. */
  readonly written?: string;
  /** Values in it, itself included, aliases expanded. */
  readonly nodes: number;
}

/** Something wrong with a scenario. `origin` null: the file as a whole. */
export interface Fault {
  readonly origin: Origin | null;
  readonly path: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

export interface SourceText {
  /** Name of the file as the user gave it. */
  readonly file: string;
  readonly text: string;
  readonly lines: LineCounter;
}

export function isList(value: Located['value'] | undefined): value is readonly Located[] {
  return Array.isArray(value);
}
export function isMapping(value: Located['value'] | undefined): value is ReadonlyMap<string, Located> {
  return value instanceof Map;
}

/** `guests[0].memory.size`; keys that are not plain words are quoted. */
export function pathText(path: readonly PathPart[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (!/^[\w-]+$/.test(part)) text += `[${JSON.stringify(part.slice(0, 60))}]`;
    else text += text === '' ? part : `.${part}`;
  }
  return text;
}

/** The value at a path, or undefined. */
export function locate(root: Located, path: readonly PathPart[]): Located | undefined {
  let node: Located | undefined = root;
  for (const part of path) {
    if (node === undefined) return undefined;
    if (isList(node.value) && typeof part === 'number') node = node.value[part];
    else if (isMapping(node.value)) node = node.value.get(String(part));
    else return undefined;
  }
  return node;
}

/** The value without its origins. Keys of maps become own properties, whatever their name. */
export function plain(node: Located): unknown {
  if (isList(node.value)) return node.value.map(plain);
  if (isMapping(node.value)) return Object.fromEntries([...node.value].map(([key, child]) => [key, plain(child)]));
  return node.value;
}

/** A tree of plain data that all comes from one place: a flag, the environment. */
export function fromPlain(data: unknown, origin: Origin, written?: string): Located {
  if (Array.isArray(data))
    return container(
      data.map((item) => fromPlain(item, origin)),
      origin,
    );
  if (typeof data === 'object' && data !== null) {
    return container(
      new Map(Object.entries(data).map(([key, item]) => [key, { ...fromPlain(item, origin), key: origin }])),
      origin,
    );
  }
  return { origin, value: data as Scalar, nodes: 1, ...(written === undefined ? {} : { written }) };
}

export function container(value: readonly Located[] | ReadonlyMap<string, Located>, origin: Origin): Located {
  let nodes = 1;
  for (const child of value.values()) nodes += child.nodes;
  return { origin, value, nodes };
}

/** What is wrong where YAML cannot be read, and how to mend it, by the code of the parser. */
const YAML_FAULTS: Readonly<Record<ErrorCode, readonly [message: string, hint: string]>> = {
  ALIAS_PROPS: ['an alias cannot have an anchor or a tag', 'remove what stands before the *'],
  BAD_ALIAS: ['the name of an anchor or alias is missing or ends with a colon', 'write &name and *name'],
  BAD_COLLECTION_TYPE: ['a tag does not fit what follows it', 'remove the tag'],
  BAD_DIRECTIVE: ['a directive is not understood', 'remove the line that begins with %'],
  BAD_DQ_ESCAPE: ['double quotes have no such escape', 'write \\\\ for a backslash, or use single quotes'],
  BAD_INDENT: ['the indentation does not fit', 'indent the entries of a map or list alike, and close all brackets'],
  BAD_PROP_ORDER: ['an anchor or tag stands in the wrong place', 'write it after the - or the key'],
  BAD_SCALAR_START: ['a value cannot begin with this character', 'put the value in quotes'],
  BLOCK_AS_IMPLICIT_KEY: ['a second key or list in one line', 'put a value that holds ": " in quotes'],
  BLOCK_IN_FLOW: ['lines with - or key: cannot stand within brackets', 'write [a, b] or {key: value}'],
  DUPLICATE_KEY: ['a key is given twice', 'keep one of them'],
  IMPOSSIBLE: ['this is not YAML', 'put the value in quotes'],
  KEY_OVER_1024_CHARS: ['a key is longer than 1024 characters', 'shorten it'],
  MISSING_CHAR: ['a quote, bracket, comma, colon or space is missing', 'write key: value, and close what is open'],
  MULTILINE_IMPLICIT_KEY: ['a key goes over several lines, or its colon is missing', 'write key: value'],
  MULTIPLE_ANCHORS: ['a value has more than one anchor', 'keep one of them'],
  MULTIPLE_DOCS: ['more than one document', 'keep one scenario in a file'],
  MULTIPLE_TAGS: ['a value has more than one tag', 'remove the tags'],
  NON_STRING_KEY: ['a key must be a word', 'write key: value'],
  RESOURCE_EXHAUSTION: ['the YAML is nested too deeply', TOO_DEEP.hint],
  TAB_AS_INDENT: ['a tab stands where only spaces may', 'indent with spaces, never with tabs'],
  TAG_RESOLVE_FAILED: ['tags are not allowed', 'remove the tag'],
  UNEXPECTED_TOKEN: ['something stands where it cannot', 'put the value in quotes, or remove what is too much'],
};

export interface ParsedSource {
  readonly source: SourceText;
  /** Null when nothing can be made of the text. */
  readonly root: Located | null;
  readonly faults: readonly Fault[];
}

/** Reads YAML 1.2 into a located tree. */
export function parseSource(file: string, text: string): ParsedSource {
  const lines = new LineCounter();
  // Not counted by the parser: it misses the lines within a scalar that stands where none may.
  lines.addNewLine(0);
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines.addNewLine(at + 1);
  const source: SourceText = { file, text, lines };
  const nothing = (message: string, hint: string): ParsedSource => ({
    source,
    root: null,
    faults: [{ origin: null, path: '', message, hint }],
  });
  const parsed = parseYaml(text, MAX_DEPTH);
  if ('deepAt' in parsed) {
    const { deepAt: start } = parsed;
    const origin: Origin = { kind: 'scenario', start, end: start + 1 };
    return { source, root: null, faults: [{ origin, path: '', ...TOO_DEEP }] };
  }
  // One broken line makes many errors; the first of each line says it.
  const seen = new Set<number>();
  const errors = parsed.errors.filter((error) => {
    const { line } = source.lines.linePos(error.start);
    return !seen.has(line) && seen.add(line);
  });
  const faults = errors.map(yamlFault);
  const { document } = parsed;
  if (document === null || errors.length > 0) return { source, root: null, faults };
  if (document.contents === null) return nothing('the file is empty', "start with 'name:' and 'guests:'");
  const walk = new Walk(faults);
  const root = walk.node(document.contents, 0, []);
  if (root.nodes > MAX_NODES)
    return nothing(`the scenario has more than ${MAX_NODES} values`, 'use count instead of listing guests');
  return { source, root: walk.fatal ? null : root, faults };
}

function yamlFault({ start, end, code }: YamlError): Fault {
  const [message, hint] = YAML_FAULTS[code];
  return { origin: { kind: 'scenario', start, end }, path: '', message: `YAML: ${message}`, hint };
}

class Walk {
  readonly #faults: Fault[];
  readonly #anchors = new Map<string, Located | 'open'>();
  fatal = false;

  constructor(faults: Fault[]) {
    this.#faults = faults;
  }

  node(yaml: YamlNode | null, depth: number, path: readonly PathPart[], key?: Origin): Located {
    const origin = this.#origin(yaml, key);
    const withKey = (located: Located): Located => (key === undefined ? located : { ...located, key });
    if (depth > MAX_DEPTH) {
      this.#fatal(origin, [], TOO_DEEP.message, TOO_DEEP.hint);
      return { origin, value: null, nodes: 1 };
    }
    if (isAlias(yaml)) {
      const target = this.#anchors.get(yaml.source);
      if (target !== undefined && target !== 'open') return withKey({ ...target });
      const what =
        target === 'open' ? `the alias *${yaml.source} refers to itself` : `the alias *${yaml.source} has no anchor`;
      this.#fatal(origin, path, what, 'define the anchor (&name) before its alias (*name)');
      return { origin, value: null, nodes: 1 };
    }
    const anchor = isScalar(yaml) || isMap(yaml) || isSeq(yaml) ? yaml.anchor : undefined;
    if (anchor !== undefined) this.#anchors.set(anchor, 'open');
    const located = this.#content(yaml, depth, path, origin);
    if (anchor !== undefined) this.#anchors.set(anchor, located);
    return withKey(located);
  }

  #content(yaml: YamlNode | null, depth: number, path: readonly PathPart[], origin: Origin): Located {
    if (isSeq(yaml)) {
      const items = yaml.items.map((item, index) =>
        this.node(item as YamlNode | null, depth + 1, [...path, index], undefined),
      );
      return container(items, origin);
    }
    if (isMap(yaml)) {
      const entries = new Map<string, Located>();
      for (const pair of yaml.items) {
        const key = this.#key(pair.key as YamlNode | null, path);
        if (key === null) continue;
        const { name, at } = key;
        const child = this.node(pair.value as YamlNode | null, depth + 1, [...path, name], at);
        if (entries.has(name)) {
          const message = `the key '${name.slice(0, 60)}' is given twice`;
          this.#faults.push({ origin: at, path: '', message, hint: 'keep one of them' });
        } else entries.set(name, child);
      }
      return container(entries, origin);
    }
    if (isScalar(yaml)) {
      const written = yaml.source ?? String(yaml.value);
      return { origin, value: scalar(yaml.value), written, nodes: 1 };
    }
    return { origin, value: null, nodes: 1 };
  }

  #key(yaml: YamlNode | null, path: readonly PathPart[]): { name: string; at: Origin } | null {
    const at = this.#origin(yaml, undefined);
    const value = isScalar(yaml) ? scalar(yaml.value) : null;
    if (value === null) {
      this.#faults.push({
        origin: at,
        path: pathText(path),
        message: 'a key must be a word',
        hint: 'write key: value',
      });
      return null;
    }
    const name = String(value);
    if (name === '<<') {
      const message = 'merge keys (<<) are not part of YAML 1.2';
      this.#faults.push({ origin: at, path: pathText(path), message, hint: 'repeat the keys, or alias a whole value' });
      return null;
    }
    if (name === '__proto__' || name === 'constructor' || name === 'prototype') {
      this.#faults.push({
        origin: at,
        path: pathText(path),
        message: `the key '${name}' is not allowed`,
        hint: 'remove it',
      });
      return null;
    }
    return { name, at };
  }

  /** The span of a node; an absent value stands where its key does. */
  #origin(yaml: YamlNode | null, key: Origin | undefined): Origin {
    const range = yaml?.range;
    if (range === undefined || range === null) return key ?? { kind: 'scenario', start: 0, end: 0 };
    if (range[0] === range[1] && key !== undefined) return key;
    return { kind: 'scenario', start: range[0], end: range[1] };
  }

  #fatal(origin: Origin, path: readonly PathPart[], message: string, hint: string): void {
    this.fatal = true;
    this.#faults.push({ origin, path: pathText(path), message, hint });
  }
}

function scalar(value: unknown): Scalar {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  return null;
}
