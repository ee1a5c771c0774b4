/** Import circles: between files, and between the rooms of one folder. Imports of types count: who names, depends. */
import { finding, type Finding, resolveImport, type Source } from './source.ts';

type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** Groups of two or more nodes that all reach each other (Tarjan, 1972). */
export function circles(graph: Graph): readonly (readonly string[])[] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const visit = (node: string): void => {
    order.set(node, order.size);
    low.set(node, order.get(node)!);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!order.has(next)) visit(next);
      if (stack.includes(next)) low.set(node, Math.min(low.get(node)!, low.get(next)!));
    }
    if (low.get(node) !== order.get(node)) return;
    const members = stack.splice(stack.indexOf(node));
    if (members.length > 1) found.push(members.toSorted());
  };
  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return found;
}

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly source: Source;
  readonly offset: number;
}

function edges(sources: readonly Source[]): readonly Edge[] {
  return sources.flatMap((source) =>
    source.imports.flatMap((imported) => {
      const to = resolveImport(source, imported);
      return to === undefined || !to.startsWith('src/')
        ? []
        : [{ from: source.path, to, source, offset: imported.offset }];
    }),
  );
}

function graphOf(pairs: readonly (readonly [string, string])[]): Graph {
  const graph = new Map<string, Set<string>>();
  for (const [from, to] of pairs) {
    const targets = graph.get(from) ?? new Set();
    graph.set(from, from === to ? targets : targets.add(to));
  }
  return graph;
}

/** No file reaches itself by its imports. */
export function noCircle(sources: readonly Source[]): readonly Finding[] {
  const all = edges(sources.filter((s) => s.path.startsWith('src/')));
  return circles(graphOf(all.map(({ from, to }) => [from, to]))).map((members) => {
    const { source, offset } = all.find(({ from, to }) => members.includes(from) && members.includes(to))!;
    return finding(source, offset, `a circle of imports: ${members.join(', ')}`, 'move what they share below them all');
  });
}

/**
 * The files and folders of each folder stand on floors: none is above and below another. A folder counts as one room,
 * so a file may use a folder beside it, or be used by it, not both.
 */
export function noClimb(sources: readonly Source[]): readonly Finding[] {
  const all = edges(sources.filter((s) => s.path.startsWith('src/')));
  const folders = new Set(all.flatMap(({ from }) => from.split('/').map((_, n, parts) => parts.slice(0, n).join('/'))));
  folders.delete('');
  return [...folders].toSorted().flatMap((folder) => {
    const room = (file: string): string => file.slice(folder.length + 1).split('/')[0]!;
    const inside = all.filter(({ from, to }) => from.startsWith(`${folder}/`) && to.startsWith(`${folder}/`));
    const rooms = graphOf(inside.map(({ from, to }) => [room(from), room(to)]));
    return circles(rooms).map((members) => {
      const between = inside.filter(({ from, to }) => members.includes(room(from)) && members.includes(room(to)));
      const { source, offset } = between.find(({ from, to }) => room(from) !== room(to))!;
      return finding(
        source,
        offset,
        `rooms of ${folder} stand above each other: ${members.join(', ')}`,
        'let one arrow go',
      );
    });
  });
}
