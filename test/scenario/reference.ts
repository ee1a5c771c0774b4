/** The reference documentation of scenarios, docs/scenario.md, made from the same schema that checks them. */
import { type JsonSchema, optionsSchema, scenarioJsonSchema } from '../../src/scenario/json-schema.ts';
import type { Registry } from '../../src/scenario/registry.ts';

const INTRO = `# Scenarios

<!-- Made from the schema by the tests; change the descriptions in src/scenario/schema.ts instead. -->

A scenario says which guests there are, what they do and when, and what counts as failure. It is a YAML 1.2 file;
\`scenarios/\` has examples. With this first line an editor completes and checks keys as you type:

\`\`\`yaml
# yaml-language-server: $schema=../schema/scenario.schema.json
\`\`\`

\`pinstorm validate FILE\` reports every fault at once with its line and the fix, \`pinstorm plan FILE\` shows the guests that
would run.

**Units.** A size needs a unit of 1024s (\`B\`, \`KiB\`, \`MiB\`, \`GiB\`, \`TiB\`): \`64KiB\`. A duration needs one too (\`ns\`, \`us\`,
\`ms\`, \`s\`, \`m\`, \`h\`): \`10us\`, \`1m30s\`. A rate is a number per unit of time: \`1000/s\`. Pages are 4 KiB: \`16 pages\` or \`64KiB\`.

**Distributions.** Keys of \`memory\` can be drawn separately for each guest: \`{ choose: [1GiB, 2GiB, 4GiB], weights: [5, 3, 1] }\`, and
sizes also from a range, \`{ uniform: [1GiB, 8GiB], step: 1GiB }\`. What a guest draws depends on the seed and its number
alone, so it is the same on one worker or many.

**Overrides.** Any key can be set on the command line. Flags win over the environment, the environment over the file, the
file over the default; \`pinstorm validate FILE --origin\` prints every value with where it comes from.

\`\`\`
--set guests.small.memory.size=4GiB          one class of guests
--set guests.small.actors.mapper.count=2     an actor of it
--set memory.backing=anon4k                  every class of guests
--set guests=64                              how many guests, where there is one class
--variant D --seed 7 --pace 2 --duration 30s
\`\`\`

**What cannot work.** A scenario that is well written can still ask for what no kernel gives: a container that is not there, an mdev
before 4.10, an update of addresses before 5.12, more threads than one emulated host has room for. It is refused with the line
and the fix before anything starts, under each variant that the command names. What a limit refuses is no fault: the run shows it.

**Addresses.** A guest's memory lies where a PC has it: 0 to 640 KiB, 1 MiB to 3 GiB, and the rest from 4 GiB on, so that nothing
is ever mapped over the MSI window at 0xfee00000. The pools of virtio-mem begin at 128 TiB, memory modules at 192 TiB, in an IOMMU of 48 bits.
\`parallel-pin\` lays its whole buffer above 4 GiB, which keeps its shares equal.
`;

export function referenceText(registry: Registry): string {
  const schema = scenarioJsonSchema(registry);
  const guest = itemsOf(schema.properties?.['guests']);
  const actor = itemsOf(guest?.properties?.['actors']);
  const sections = [
    INTRO,
    '## Scenario\n',
    table(schema),
    '## guests\n',
    table(guest),
    '## actors\n',
    table(actor),
    '## thresholds\n',
    'As in k6: `aggregate operator value`, for the metric named by the key, which may carry a tag filter. Every scenario also has\n`op_errors{op:X}: rate == 0 or empty` for each operation that its actors perform, unless it writes its own: an error that the\nscenario does not `expect` fails the run. A threshold that nothing was measured for is not judged, and the run is inconclusive,\nunless it ends in `or empty`. Besides the text, an entry may be a map:\n',
    table(thresholdMap(schema)),
    '## Workloads\n',
  ];
  for (const workload of registry.workloads.values()) {
    const options = optionsSchema(workload.options);
    sections.push(`### ${workload.name}\n`, `${sentence(workload.summary)}\n`);
    sections.push(Object.keys(options.properties ?? {}).length === 0 ? 'No options.\n' : table(options));
  }
  return sections.join('\n');
}

const itemsOf = (list: JsonSchema | undefined): JsonSchema | undefined =>
  list?.items === false ? undefined : list?.items;
const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function thresholdMap(schema: JsonSchema): JsonSchema | undefined {
  const values = schema.properties?.['thresholds']?.additionalProperties;
  const candidates: JsonSchema[] = typeof values === 'object' ? [values] : [];
  for (const candidate of candidates) candidates.push(...(candidate.anyOf ?? []));
  return candidates.find((candidate) => candidate.properties !== undefined);
}

/** One row a key; keys of maps within are rows of their own, by dotted path. */
function table(schema: JsonSchema | undefined): string {
  const rows = ['| key | value | default | |', '| --- | --- | --- | --- |'];
  const add = (of: JsonSchema, prefix: string): void => {
    for (const [key, value] of Object.entries(of.properties ?? {})) {
      const required = of.required?.includes(key) === true;
      const byDefault = value.default === undefined || isMap(value.default) ? '' : code(textOf(value.default));
      const kind =
        value.items !== undefined && itemsOf(value)?.properties !== undefined ? 'list, below' : kindOf(value);
      rows.push(
        `| ${code(prefix + key)} | ${kind} | ${required ? 'required' : byDefault} | ${cell(value.description ?? '')} |`,
      );
      if (value.properties !== undefined) add(value, `${prefix}${key}.`);
      for (const alternative of alternativesOf(value)) {
        const name = alternative.properties?.['kind']?.const;
        if (typeof name !== 'string') continue;
        const options = Object.entries(alternative.properties ?? {}).filter(([option]) => option !== 'kind');
        const list = options.map(([option, o]) => `${code(option)}: ${cell(o.description ?? '')}`).join(' ');
        rows.push(
          `| ${code(`${prefix}${key}.kind: ${name}`)} | map | | ${cell(alternative.description ?? '')} ${list} |`,
        );
      }
    }
  };
  if (schema !== undefined) add(schema, '');
  return `${rows.join('\n')}\n`;
}

function alternativesOf(schema: JsonSchema): JsonSchema[] {
  const found: JsonSchema[] = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  for (const one of found) found.push(...(one.anyOf ?? []), ...(one.oneOf ?? []));
  return found;
}

/** What kind of value a key takes, in words. */
function kindOf(schema: JsonSchema): string {
  if (schema.const !== undefined) return schema.const === 0 ? '' : code(textOf(schema.const));
  if (schema.enum !== undefined) return schema.enum.map((one) => code(textOf(one))).join(', ');
  if (schema.pattern !== undefined) return patternKind(schema);
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined)
    return [...new Set(alternatives.map(kindOf).filter((kind) => kind !== ''))].join(' or ');
  if (schema.type === 'object')
    return schema.properties?.['choose'] || schema.properties?.['uniform'] ? 'distribution' : 'map';
  if (schema.type === 'array') return 'list';
  if (schema.type === 'integer') return `whole number${bounds(schema)}`;
  if (schema.type === 'number') return `number${bounds(schema)}`;
  if (schema.type === 'boolean') return '`true`, `false`';
  return 'text';
}

/** The parsers of base/units-text.ts name their texts by pattern. */
function patternKind({ pattern = '' }: JsonSchema): string {
  if (pattern.includes('pages?')) return 'pages';
  if (pattern.includes('KiB')) return 'size';
  if (pattern.includes('/')) return 'rate';
  return pattern.includes('us') ? 'duration' : 'name';
}

function bounds({ minimum, maximum }: JsonSchema): string {
  const max = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (minimum === undefined || minimum <= Number.MIN_SAFE_INTEGER) return max === undefined ? '' : ` up to ${max}`;
  return max === undefined ? ` from ${minimum}` : ` ${minimum} to ${max}`;
}

const isMap = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
const code = (text: string): string => (text === '' ? '' : `\`${text}\``);
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
