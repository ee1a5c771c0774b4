import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseSync } from 'oxc-parser';

/** A node of the syntax tree, as ESTree has it; `parent` is ours. */
export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly parent: Node | undefined;
  readonly [key: string]: unknown;
}

export interface Import {
  readonly specifier: string;
  readonly offset: number;
}

/** One of our TypeScript files, parsed. */
export interface Source {
  /** From the root of the project, with `/`. */
  readonly path: string;
  readonly text: string;
  readonly nodes: readonly Node[];
  readonly comments: readonly { readonly text: string; readonly offset: number }[];
  /** What it imports, re-exports, imports dynamically, requires, or names as `new URL('./x.js', import.meta.url)`. */
  readonly imports: readonly Import[];
}

export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly problem: string;
  readonly fix: string;
}

const SKIPPED = new Set(['node_modules', 'dist', '.git', 'runs']);

/** The project's own files under `folder`, sorted. */
export function listFiles(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const file = path.posix.join(folder, entry.name);
      if (SKIPPED.has(entry.name)) return [];
      return entry.isDirectory() ? listFiles(file) : entry.isFile() ? [file] : [];
    })
    .toSorted();
}

export const readSource = (file: string): Source => parseSource(file, readFileSync(file, 'utf8'));

export function parseSource(file: string, text: string): Source {
  const { program, comments, errors } = parseSync(file, text);
  if (errors[0]) throw new Error(`${file}: ${errors[0].message}`);
  const nodes: Node[] = [];
  collect(program, undefined, nodes);
  return {
    path: file,
    text,
    nodes,
    comments: comments.map((c) => ({ text: c.value, offset: c.start })),
    imports: nodes.flatMap(importOf),
  };
}

function collect(value: unknown, parent: Node | undefined, into: Node[]): void {
  if (Array.isArray(value)) {
    for (const item of value) collect(item, parent, into);
  } else if (value !== null && typeof value === 'object') {
    const isNode = 'type' in value && typeof value.type === 'string';
    const node = isNode ? ({ ...value, parent } as Node) : undefined;
    if (node) into.push(node);
    // The key of `{ x }` is its value once more.
    const { key: _, ...unkeyed } = value as Record<string, unknown>;
    for (const child of Object.values('shorthand' in value && value.shorthand ? unkeyed : value)) {
      collect(child, node ?? parent, into);
    }
  }
}

function importOf(node: Node): readonly Import[] {
  const isUrl = node.type === 'NewExpression' && nameOf(node['callee']) === 'URL';
  const isRequire = node.type === 'CallExpression' && nameOf(node['callee']) === 'require';
  const from = isUrl || isRequire ? (node['arguments'] as readonly unknown[])[0] : node['source'];
  if (!isUrl && !isRequire && !/^(Import|Export(Named|All))/.test(node.type)) return [];
  if (from === null || typeof from !== 'object' || !('value' in from) || typeof from.value !== 'string') return [];
  // A URL that is not a module of ours, for example package.json, is nothing imported.
  if (isUrl && !/^\..*\.[jt]s$/.test(from.value)) return [];
  return [{ specifier: from.value.replace(isUrl ? /\.js$/ : /$^/, '.ts'), offset: node.start }];
}

/** The name of an identifier node, or undefined for any other node. */
export function nameOf(node: unknown): string | undefined {
  if (node === null || typeof node !== 'object' || !('type' in node) || !('name' in node)) return undefined;
  return node.type === 'Identifier' && typeof node.name === 'string' ? node.name : undefined;
}

/** `a.b` of a member expression of two plain names, else undefined. */
export function memberOf(node: Node): string | undefined {
  if (node.type !== 'MemberExpression') return undefined;
  const [object, property] = [nameOf(node['object']), nameOf(node['property'])];
  return object === undefined || property === undefined || node['computed'] === true
    ? undefined
    : `${object}.${property}`;
}

/** Where a relative import leads, from the root of the project; undefined for a package. */
export const resolveImport = (source: Source, { specifier }: Import): string | undefined =>
  specifier.startsWith('.') ? path.posix.join(path.posix.dirname(source.path), specifier) : undefined;

export const lineAt = (text: string, offset: number): number => text.slice(0, offset).split('\n').length;

export const finding = (
  { path: file, text }: { readonly path: string; readonly text: string },
  offset: number,
  problem: string,
  fix: string,
): Finding => ({ path: file, line: lineAt(text, offset), problem, fix });
