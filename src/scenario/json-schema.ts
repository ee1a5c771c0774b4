/** The JSON Schema of scenarios, for completion and checks in editors: the zod schema plus the names that exist. */
import { z } from 'zod';
import type { Registry } from './registry.ts';
import { scenarioSchema } from './schema.ts';

/** As much of JSON Schema as is used here. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema | false;
  readonly prefixItems?: readonly JsonSchema[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}
type Writable = { -readonly [K in keyof JsonSchema]: JsonSchema[K] } & Record<string, unknown>;

/** JSON Schema of what is written under a workload's options. */
export function optionsSchema(type: z.ZodType): JsonSchema {
  const { $schema: _, ...schema } = z.toJSONSchema(type, { io: 'input' });
  return schema as JsonSchema;
}

export function scenarioJsonSchema(registry: Registry): JsonSchema {
  const schema = z.toJSONSchema(scenarioSchema, { io: 'input' }) as Writable;
  const top = schema.properties as Record<string, Writable>;
  const guest = (top['guests'] as { items: Writable }).items;
  const actor = ((guest.properties as Record<string, Writable>)['actors'] as { items: Writable }).items;
  const actorKeys = actor.properties as Record<string, Writable>;
  (top['variant'] as Writable)['examples'] = [...registry.variants, '4.10', '6.12'];
  (top['profile'] as Writable)['enum'] = [...registry.profiles.keys()];
  (top['faults'] as Writable)['propertyNames'] = { enum: [...registry.faultSites] };
  const error = { enum: [...registry.errors.keys()] };
  const errors = {
    type: 'object',
    propertyNames: { enum: [...registry.ops] },
    additionalProperties: { anyOf: [error, { type: 'array', items: error }] },
  };
  const expected = { type: 'array', items: { anyOf: [{ enum: [...registry.invariants] }, errors] } };
  (top['expect'] as Writable)['anyOf'] = [expected, { type: 'object', additionalProperties: expected }];
  (actorKeys['workload'] as Writable)['enum'] = [...registry.workloads.keys()];
  actor['allOf'] = [...registry.workloads.values()].map((workload) => ({
    if: { properties: { workload: { const: workload.name } } },
    // oxlint-disable-next-line unicorn/no-thenable -- the keyword of JSON Schema
    then: { properties: { options: optionsSchema(workload.options) } },
  }));
  return schema;
}
