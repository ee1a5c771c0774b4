/** A registry of its own for the tests of scenarios: small, fixed, independent of the workloads that really exist. */
import { z } from 'zod';
import { zBytes, zDuration, zPages } from '../../src/base/zod-units.ts';
import { FAULT_SITES } from '../../src/model/env.ts';
import type { Registry } from '../../src/scenario/registry.ts';

const VARIANTS = ['A', 'B', 'C', 'D', 'E'];
const INVARIANTS = ['balance', 'limit-bypass', 'over-penalty', 'wrap'];

export const REGISTRY: Registry = {
  variants: VARIANTS,
  resolveVariant(name) {
    if (name === '4.10') return 'D';
    const id = VARIANTS.find((v) => v === name.toUpperCase());
    if (id === undefined) throw new Error(`unknown variant ${name}`);
    return id;
  },
  variantNote: () => null,
  profiles: new Map([['default', { name: 'default', calibrated: false, costNs: { syscall: 100, trylock: 15 } }]]),
  workloads: new Map(
    [
      {
        name: 'map-unmap',
        ops: ['map', 'unmap'],
        summary: 'maps and unmaps',
        options: z.strictObject({ size: zBytes({ min: 4096 }).prefault('4KiB'), chunk: zPages().prefault(1) }),
        peakPages: (options: { readonly [key: string]: unknown }): number => Number(options['size']) / 4096,
      },
      {
        name: 'fault',
        ops: ['fault'],
        summary: 'touches memory',
        options: z.strictObject({ pause: zDuration().prefault('1ms') }),
      },
      { name: 'null', ops: [], summary: 'does nothing', options: z.strictObject({}) },
    ].map((workload) => [workload.name, workload]),
  ),
  refusals: () => [],
  invariants: INVARIANTS,
  faultSites: FAULT_SITES,
  errors: new Map([
    ['ENOMEM', 'enomem'],
    ['EEXIST', 'eexist'],
    ['other_error', 'other_error'],
  ]),
  ops: ['map', 'unmap', 'fault', 'mlock'],
  limits: () => true,
  limitsUsers: () => false,
  defers: (variant) => variant !== 'E',
  checkThreshold(metric, expression, stages) {
    const fail = (part: string, message: string, hint: string): never => {
      throw Object.assign(new Error(message), { part, hint });
    };
    const errors = metric.startsWith('op_errors');
    if (!errors && !metric.startsWith('op_duration')) fail('metric', `unknown metric '${metric}'`, 'use op_duration');
    const stage = / during (\w+)$/.exec(expression)?.[1];
    if (stage !== undefined && !stages.includes(stage)) {
      fail('expression', `unknown stage '${stage}'`, `use ${stages.join(', ')}`);
    }
    if (!errors && !/^(p\(\d+\)|max|avg) < \d+(us|ms|s)( during \w+)?$/.test(expression)) {
      fail('expression', `'${expression}' is not a threshold`, "write for example 'p(99) < 2ms'");
    }
    const op = /op:(\w+)/.exec(metric)?.[1];
    return {
      ops: op === undefined ? ['map', 'fault'] : [op],
      errors: errors && stage === undefined,
      mayBeEmpty: false,
      needs: metric.startsWith('op_errors{op:smaps') ? 'tries a lock' : null,
      wallClock: false,
      expected: /,expected:([a-z+]+)/.exec(metric)?.[1]?.split('+') ?? [],
    };
  },
};
