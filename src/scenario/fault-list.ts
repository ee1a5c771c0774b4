/** The faults found in a scenario or a case, each with the place in the file where it shows. */
import { suggestion } from '../base/suggest.ts';
import type { Problem } from './issues.ts';
import { type Fault, isList, isMapping, locate, type Located, type Origin, type PathPart, pathText } from './source.ts';

export class FaultList {
  readonly faults: Fault[];
  readonly #root: Located;
  readonly #reported = new Set<string>();

  /** @param faults those found when the file was read. */
  constructor(root: Located, faults: readonly Fault[] = []) {
    this.#root = root;
    this.faults = [...faults];
  }

  /** A fault found twice is listed once. */
  add(problem: Problem): void {
    let { path } = problem;
    const where = pathText(path);
    let node = locate(this.#root, path);
    while (node === undefined && path.length > 0) {
      path = path.slice(0, -1);
      node = locate(this.#root, path);
    }
    const origin = (problem.atKey ? node?.key : undefined) ?? node?.origin ?? null;
    const fault = { origin: firstLine(origin, node), path: where, message: problem.message, hint: problem.hint };
    const id = JSON.stringify(fault);
    if (!this.#reported.has(id)) this.faults.push(fault);
    this.#reported.add(id);
  }

  /** The word at `path` is one of `known`. */
  name(path: readonly PathPart[], what: string, known: readonly string[]): void {
    const name = locate(this.#root, path)?.value;
    if (typeof name !== 'string' || known.includes(name)) return;
    this.add({ path, message: `unknown ${what} '${name}'`, hint: suggestion(name, known) });
  }

  /** So is each key of the map at `path`. */
  keys(path: readonly PathPart[], what: string, known: readonly string[]): void {
    const map = locate(this.#root, path)?.value;
    if (!isMapping(map)) return;
    for (const name of map.keys()) {
      if (known.includes(name)) continue;
      this.add({ path: [...path, name], atKey: true, message: `unknown ${what}`, hint: suggestion(name, known) });
    }
  }

  /** The names at `paths` differ from each other. */
  unique(paths: readonly (readonly PathPart[])[], what: string): void {
    const seen = new Set<string>();
    for (const path of paths) {
      const name = locate(this.#root, path)?.value;
      if (typeof name !== 'string') continue;
      if (seen.has(name))
        this.add({ path, message: `there is another ${what} '${name}'`, hint: 'give it a name of its own' });
      seen.add(name);
    }
  }
}

/** A fault of a map or list is shown at its key, or at its first line only: the caret must not underline a page. */
function firstLine(origin: Origin | null, node: Located | undefined): Origin | null {
  if (origin?.kind !== 'scenario' || node === undefined) return origin;
  if (!isMapping(node.value) && !isList(node.value)) return origin;
  if (node.key?.kind === 'scenario') return node.key;
  return { ...origin, end: origin.start + 1 };
}
