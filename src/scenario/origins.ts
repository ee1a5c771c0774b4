/**
 * Every value of a resolved scenario, defaults included, with where it came from: flag, environment, file or default.
 */
import { optionsSchema, scenarioJsonSchema, type JsonSchema } from './json-schema.ts';
import type { Registry } from './registry.ts';
import { fromPlain, isList, isMapping, plain, type Located, type Origin, type SourceText } from './source.ts';
import type { ResolvedScenario } from './validate.ts';

export interface ValueOrigin {
  /** As `--set` takes it: classes and actors by name. */
  readonly path: string;
  /** As written, or as the default would be written. */
  readonly value: string;
  /** `flag --seed 7`, `environment PINSTORM_SEED`, `boot-storm.yaml:12`, `default`. */
  readonly origin: string;
}

export function originsOf(resolved: ResolvedScenario, registry: Registry): ValueOrigin[] {
  const found: ValueOrigin[] = [];
  const leaf = (path: string, node: Located): void => {
    const word = typeof node.value === 'string' && node.value !== '' ? node.value : undefined;
    const value = node.written ?? word ?? JSON.stringify(plain(node));
    found.push({ path, value, origin: originText(node.origin, resolved.source) });
  };
  const walk = (schema: JsonSchema | undefined, node: Located | undefined, path: string): void => {
    const value = node ?? (schema?.default === undefined ? undefined : fromPlain(schema.default, { kind: 'default' }));
    if (value === undefined) return;
    if (isMapping(value.value)) {
      const shape = objectOf(schema, value.value);
      const keys = new Set([...Object.keys(shape?.properties ?? {}), ...value.value.keys()]);
      for (const key of keys) {
        const child = key === 'options' ? optionsOf(registry, value.value) : childOf(shape, key);
        walk(child, value.value.get(key), path === '' ? key : `${path}.${key}`);
      }
    } else if (isList(value.value) && value.value.some((item) => isMapping(item.value))) {
      for (const [index, item] of value.value.entries()) {
        const name = isMapping(item.value) ? (item.value.get('class') ?? item.value.get('name'))?.value : undefined;
        walk(
          schema?.items === false ? undefined : schema?.items,
          item,
          `${path}.${typeof name === 'string' ? name : index}`,
        );
      }
    } else {
      leaf(path, value);
    }
  };
  walk(scenarioJsonSchema(registry), resolved.root, '');
  return found;
}

/** The scenario as its author would write it with nothing left to defaults: plain data for YAML. */
export function withDefaults(resolved: ResolvedScenario, registry: Registry): unknown {
  const fill = (schema: JsonSchema | undefined, node: Located | undefined): unknown => {
    const value = node ?? (schema?.default === undefined ? undefined : fromPlain(schema.default, { kind: 'default' }));
    if (value === undefined) return undefined;
    if (isList(value.value)) {
      const items = listOf(schema);
      return value.value.map((item) => (isMapping(item.value) ? fill(items, item) : plain(item)));
    }
    const map = value.value;
    if (!isMapping(map)) return plain(value);
    const shape = objectOf(schema, map);
    const keys = new Set([...Object.keys(shape?.properties ?? {}), ...map.keys()]);
    const filled = [...keys].map((key): [string, unknown] => [
      key,
      fill(key === 'options' ? optionsOf(registry, map) : childOf(shape, key), map.get(key)),
    ]);
    return Object.fromEntries(filled.filter(([, child]) => child !== undefined));
  };
  return fill(scenarioJsonSchema(registry), resolved.root);
}

/** What the items of a list are. */
function listOf(schema: JsonSchema | undefined): JsonSchema | undefined {
  const candidates: JsonSchema[] = schema === undefined ? [] : [schema];
  for (const candidate of candidates) candidates.push(...(candidate.anyOf ?? []), ...(candidate.oneOf ?? []));
  const items = candidates.find((candidate) => candidate.items !== undefined)?.items;
  return items === false ? undefined : items;
}

/** The alternative of a schema that describes a map with these keys. */
function objectOf(schema: JsonSchema | undefined, map: ReadonlyMap<string, Located>): JsonSchema | undefined {
  const candidates: JsonSchema[] = schema === undefined ? [] : [schema];
  // Alternatives of alternatives are looked at too: the list grows while it is read.
  for (const candidate of candidates) candidates.push(...(candidate.anyOf ?? []), ...(candidate.oneOf ?? []));
  const kind = map.get('kind')?.value;
  return candidates.find((candidate) => {
    const keys = candidate.properties;
    if (keys === undefined || ![...map.keys()].every((key) => Object.hasOwn(keys, key))) return false;
    return keys['kind']?.const === undefined || keys['kind'].const === kind;
  });
}

function childOf(shape: JsonSchema | undefined, key: string): JsonSchema | undefined {
  const keys = shape?.properties;
  return keys !== undefined && Object.hasOwn(keys, key) ? keys[key] : undefined;
}

function optionsOf(registry: Registry, actor: ReadonlyMap<string, Located>): JsonSchema | undefined {
  const workload = registry.workloads.get(String(actor.get('workload')?.written));
  return workload === undefined ? undefined : { ...optionsSchema(workload.options), default: {} };
}

function originText(origin: Origin, source: SourceText): string {
  if (origin.kind === 'scenario') return `${source.file}:${source.lines.linePos(origin.start).line}`;
  if (origin.kind === 'flag') return `flag ${origin.text}`;
  if (origin.kind === 'environment') return `environment ${origin.text}`;
  return 'default';
}
