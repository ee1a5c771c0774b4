/** Whether the thresholds of a scenario can be read, and can ever be measured. */
import type { FaultList } from './fault-list.ts';
import type { Registry } from './registry.ts';
import { isList, isMapping, locate, type Located, type PathPart } from './source.ts';

/** Checks the names of stages and every threshold. @param variant null where it is not known. */
export function checkThresholds(root: Located, registry: Registry, variant: string | null, faults: FaultList): void {
  const list = locate(root, ['stages'])?.value;
  const stagePaths = isList(list) ? list.map((_, index) => ['stages', index, 'name']) : [];
  faults.unique(stagePaths, 'stage');
  const stages = stagePaths.flatMap((path) => {
    const name = locate(root, path)?.value;
    return typeof name === 'string' ? [name] : [];
  });
  const check = (metric: string, expression: string, path: readonly PathPart[]): void => {
    try {
      const { ops, mayBeEmpty, needs } = registry.checkThreshold(metric, expression, stages);
      if (mayBeEmpty) return;
      const performed = operations(root, registry);
      const hint = 'take the threshold out, or append "or empty"';
      if (ops !== null && performed.size > 0 && !ops.some((op) => performed.has(op))) {
        const message = `no actor of this scenario performs ${ops.join(', ')}, so this can never be measured`;
        faults.add({
          path: ['thresholds', metric],
          atKey: true,
          message,
          hint: `actors perform ${[...performed].join(', ')}; ${hint}`,
        });
      }
      if (needs !== null && variant !== null && !registry.defers(variant)) {
        const message = `variant ${variant} never ${needs}, so this can never be measured`;
        faults.add({ path: ['thresholds', metric], atKey: true, message, hint });
      }
    } catch (error) {
      const { message, hint, part } = error as Error & { hint?: string; part?: string };
      if (part === 'metric') faults.add({ path: ['thresholds', metric], atKey: true, message, hint });
      else faults.add({ path, message, hint });
    }
  };
  const map = locate(root, ['thresholds'])?.value;
  if (!isMapping(map)) return;
  for (const [metric, entry] of map) {
    const places = isList(entry.value)
      ? entry.value.map((_, index) => ['thresholds', metric, index])
      : [['thresholds', metric]];
    for (const at of places) {
      const node = locate(root, at);
      const inner = isMapping(node?.value) ? [...at, 'threshold'] : at;
      const expression = locate(root, inner)?.value;
      if (typeof expression === 'string') check(metric, expression, inner);
    }
  }
}

/** The operations that the actors can perform. */
export function operations(root: Located, registry: Registry): ReadonlySet<string> {
  const guests = locate(root, ['guests'])?.value;
  const names = !isList(guests)
    ? []
    : guests.flatMap((_guest, g) => {
        const actors = locate(root, ['guests', g, 'actors'])?.value;
        return isList(actors)
          ? actors.map((_actor, a) => locate(root, ['guests', g, 'actors', a, 'workload'])?.value)
          : [];
      });
  return new Set(names.flatMap((name) => (typeof name === 'string' ? (registry.workloads.get(name)?.ops ?? []) : [])));
}
