/** What comes with pinstorm: scenarios, cases, measured rows and recordings, found by name from any directory. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

/** Where pinstorm is installed. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** The JSON schema of scenarios. */
export const SCHEMA_FILE = join(ROOT, 'schema', 'scenario.schema.json');

/** Folders of files, with the key whose text says what a file is for. */
const FOLDERS = [
  { kind: 'scenario', folder: 'scenarios', about: 'description' },
  { kind: 'case', folder: 'cases', about: 'about' },
  { kind: 'defect', folder: join('cases', 'history'), about: 'about' },
  { kind: 'rows', folder: 'calibration', about: 'about' },
] as const;
const RECORDINGS = 'recordings';

export interface Shipped {
  readonly kind: (typeof FOLDERS)[number]['kind'] | 'recordings';
  /** What commands take for it. */
  readonly name: string;
  /** One line; empty where the file says nothing. */
  readonly about: string;
}

const yamlFiles = (folder: string): string[] =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.yaml'))
    .toSorted();

const recordings = (): string[] =>
  readdirSync(join(ROOT, RECORDINGS), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `${RECORDINGS}/${name}`)
    .toSorted();

/** The names of some kinds. For completion and for guesses: no file is read. */
export const shippedNames = (...kinds: readonly Shipped['kind'][]): readonly string[] => [
  ...FOLDERS.filter(({ kind }) => kinds.includes(kind)).flatMap(({ folder }) =>
    yamlFiles(folder).map((file) => basename(file, '.yaml')),
  ),
  ...(kinds.includes('recordings') ? recordings() : []),
];

/** Everything that comes along, in the order of the folders and names. */
export const shipped = (): readonly Shipped[] => [
  ...FOLDERS.flatMap(({ kind, folder, about }) =>
    yamlFiles(folder).map((file) => ({
      kind,
      name: basename(file, '.yaml'),
      about: aboutOf(readFileSync(join(ROOT, folder, file), 'utf8'), about),
    })),
  ),
  ...recordings().map((name) => ({
    kind: 'recordings' as const,
    name,
    about: `what Linux ${basename(name)} answered, operation by operation`,
  })),
];

/** The text of the key, or the first sentence of the comment at the top. */
function aboutOf(text: string, key: string): string {
  const value = (parse(text) as Record<string, unknown>)[key];
  if (typeof value === 'string') return value.trim();
  return /^# (.+?)\.(?:\s|$)/m.exec(text)?.[1] ?? '';
}

const isWithin = (path: string, folder: string): boolean => `${path}/`.startsWith(`${join(ROOT, folder)}/`);

/** Where a file that comes along is, by its name or its path below pinstorm; null for none. */
export function shippedFile(name: string): string | null {
  const folders = name.includes('/') ? [''] : FOLDERS.map(({ folder }) => folder);
  for (const folder of folders) {
    for (const end of ['', '.yaml']) {
      const path = join(ROOT, folder, `${name}${end}`);
      const stat = statSync(path, { throwIfNoEntry: false });
      // Of directories only those of recordings are input.
      if (isWithin(path, RECORDINGS) ? stat : stat?.isFile() && FOLDERS.some((f) => isWithin(path, f.folder)))
        return path;
    }
  }
  return null;
}

/**
 * A file or directory that the user names: as it stands where there is one, else of those that come along.
 * @returns where it is, and what messages call it. What is nowhere is given back as it is.
 */
export function locateInput(given: string): { readonly path: string; readonly name: string } {
  const path = existsSync(given) ? null : shippedFile(given);
  return path === null ? { path: given, name: given } : { path, name: relative(ROOT, path) };
}
