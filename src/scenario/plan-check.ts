/**
 * Checks a plan that came over the network: by its hash alone it could be anything its sender liked. Every field is
 * bounded as the scenario format bounds it, so that a hostile plan can ask for no more than a scenario can.
 */
import { z } from 'zod';
import { SEED_MAX } from '../base/prng.ts';
import { type ActorPlan, BACKINGS, type GuestPlan, type RunPlan } from '../engine/plan.ts';
import { type Workload, WORKLOADS } from '../guest/workload/index.ts';
import { optionsOf } from '../guest/workload/options.ts';
import { refusalsOf } from '../guest/workload/refusals.ts';
import { FAULT_SITES } from '../model/env.ts';
import { resolveVariant, VARIANTS } from '../model/kernels/index.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { BACKING_PAGE_BYTES } from './memory-schema.ts';
import { MAX_ACTORS, MAX_GUESTS } from './schema.ts';

const count = z.int().min(0);
const time = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
const name = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,70}$/i);
const words = z.string().max(1000);
const rate = z.number().positive().max(Number.MAX_SAFE_INTEGER);

/** Mappings, pieces and pages that one guest's actors may need of the arena together. */
const MAX_NEEDS = 2 ** 28;

const arrival = z.union([
  z.strictObject({ kind: z.literal('closed'), options: z.strictObject({ thinkNs: time }) }),
  z.strictObject({ kind: z.enum(['constant', 'poisson']), options: z.strictObject({ perSecond: rate }) }),
  z.strictObject({
    kind: z.literal('ramp'),
    options: z.strictObject({ fromPerSecond: time, toPerSecond: time, overNs: rate }),
  }),
  z.strictObject({
    kind: z.literal('burst'),
    options: z.strictObject({ operations: z.int().min(1).max(1_000_000), everyNs: rate }),
  }),
]);

const actor = z
  .strictObject({
    name,
    task: z.enum(['main', 'thread', 'vm_child', 'child', 'kthread']),
    workload: z.enum([...WORKLOADS.keys()]),
    // Not a record: zod drops the key __proto__ of one in silence.
    options: z.custom<ActorPlan['options']>((value) => typeof value === 'object' && value !== null),
    arrival,
    startNs: time,
    iterations: z.int().min(1).nullable(),
  })
  .refine(optionsFit, 'options that the workload does not take');

const bytes = z
  .int()
  .min(4096)
  .max(2 ** 46)
  .multipleOf(4096);

const guestMemory = z.strictObject({
  bytes,
  backing: z.enum(BACKINGS),
  contiguityPages: z
    .int()
    .min(1)
    .max(2 ** 34)
    .refine((n) => Number.isInteger(Math.log2(n)), 'not a power of two'),
  populated: z.boolean(),
});

const guest = z.strictObject({
  index: count,
  class: name,
  seed: count.max(SEED_MAX),
  startNs: time,
  durationNs: time.nullable(),
  memory: guestMemory,
  memlockBytes: count.nullable(),
  capIpcLock: z.boolean(),
  uid: count.max(2 ** 31 - 1).optional(),
  iommu: z.enum(['type1', 'type1v2']),
  containers: z.int().min(1).max(16),
  mdev: z.enum(['only', 'beside']).optional(),
  // Checked once for each class of guests, below.
  actors: z.array(z.unknown()).min(1),
});

/** A scenario lists at most 256 actors of at most 4096 instances. */
const MAX_GUEST_ACTORS = 256 * 4096;

const plan = z.strictObject({
  format: z.literal(1),
  name,
  seed: count.max(SEED_MAX),
  variant: z.enum(VARIANTS.map(({ id }) => id)),
  pace: z.number().min(0).max(1_000_000),
  durationNs: time.nullable(),
  profile: z.strictObject({
    name: z.string().max(64),
    calibrated: z.boolean(),
    costNs: z.record(z.string().regex(/^[a-z0-9_]{1,64}$/), z.number().min(0).max(1e12)),
  }),
  faults: z.partialRecord(z.enum(FAULT_SITES), z.number().min(0).max(1)),
  deferred: z.strictObject({ batch: z.int().min(1).max(1000), flushMs: z.number().min(0).max(60_000) }),
  host: z.strictObject({ count: z.int().min(1).max(10_000), cpus: z.int().min(1).max(8192).nullable() }),
  expect: z.array(z.enum(INVARIANTS)).max(INVARIANTS.length),
  thresholds: z
    .array(z.strictObject({ metric: words, expression: words, abortOnFail: z.boolean(), delayAbortEvalNs: time }))
    .max(10_000),
  stages: z
    .array(z.strictObject({ name, startNs: time, endNs: time.nullable() }))
    .max(10_000)
    .optional(),
  notes: z.array(words).max(10).optional(),
  guests: z.array(guest).min(1).max(MAX_GUESTS),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
});

/** How a value in base units can be written, so that the schema of an option, which reads text, can judge it. */
const WRITTEN = ['', 'B', 'ns', ' pages', '/s'];

/** Whether the workload's own schema gives exactly these options: all of them, each within its range. */
function optionsFit({ workload, options }: Pick<ActorPlan, 'workload' | 'options'>): boolean {
  const shape = optionsOf(WORKLOADS.get(workload) as Workload).shape as Record<string, z.ZodType>;
  if (Object.keys(options).some((key) => !Object.hasOwn(shape, key))) return false;
  return Object.entries(shape).every(([key, schema]) => {
    const value = Object.hasOwn(options, key) ? options[key] : undefined;
    const forms =
      typeof value === 'number' ? WRITTEN.map((unit) => (unit === '' ? value : `${value}${unit}`)) : [value];
    return forms.some((form) => {
      const parsed = schema.safeParse(form);
      return parsed.success && parsed.data === value;
    });
  });
}

/** The first fault in one short line, with nothing of the data in it that a terminal could obey. */
function firstIssue({ issues: [first] }: z.ZodError): string {
  return `${(first?.path ?? []).join('.')}: ${first?.message ?? ''}`.slice(0, 200).replace(/[^ -~]/g, '?');
}

/** What the actors need of the arena, at most; NaN or Infinity when an option makes no sense. */
function needsOf(one: GuestPlan): number {
  let sum = 0;
  for (const { workload, options } of one.actors) {
    const needs = WORKLOADS.get(workload)?.needs(options, one);
    if (needs !== undefined) sum += needs.mappings + needs.segments + needs.externalPages;
  }
  return sum;
}

/** @throws {Error} for a guest of which something can only fail: a scenario with it is refused, too. */
function refuseWhatCannotWork(guests: readonly GuestPlan[], variant: string): void {
  const judged = new Set<string>();
  for (const { index, memory: own, iommu, containers, mdev = 'none', actors } of guests) {
    const id = JSON.stringify([own.bytes, own.backing, iommu, containers, mdev, actors]);
    if (judged.has(id)) continue;
    judged.add(id);
    const { backing, bytes: size } = own;
    const [refusal] = refusalsOf(
      {
        memoryBytes: [size, size],
        pageBytes: backing.startsWith('hugetlb') ? BACKING_PAGE_BYTES[backing] : 4096,
        iommu,
        containers,
        mdev,
        actors: actors.map(({ name: called, task, workload, options }) => ({
          name: called,
          count: 1,
          always: true,
          task,
          workload,
          options,
        })),
      },
      resolveVariant(variant),
    );
    if (refusal !== undefined) throw new Error(`guests.${index}.${refusal.path.join('.')}: ${refusal.message}`);
  }
}

/**
 * The plan in untrusted JSON data. Its hash is not checked.
 * @throws {Error} saying which field is wrong.
 */
export function checkPlan(data: unknown): RunPlan {
  const parsed = plan.safeParse(data);
  if (!parsed.success) {
    throw new Error(firstIssue(parsed.error));
  }
  const classes = new Map<string, readonly ActorPlan[]>();
  let actors = 0;
  const guests = parsed.data.guests.map((one, index): GuestPlan => {
    if (one.index !== index) throw new Error(`guests.${index}.index: is ${one.index}`);
    const text = JSON.stringify(one.actors);
    let checked = classes.get(text);
    if (checked === undefined) {
      const list = z.array(actor).max(MAX_GUEST_ACTORS).safeParse(one.actors);
      if (!list.success) throw new Error(`guests.${index}.actors.${firstIssue(list.error)}`);
      classes.set(text, (checked = list.data));
    }
    actors += checked.length;
    if (actors > MAX_ACTORS) throw new Error(`guests: more than ${MAX_ACTORS} actors`);
    const { uid, mdev, ...rest } = one;
    const guestPlan = {
      ...rest,
      ...(uid === undefined ? {} : { uid }),
      ...(mdev === undefined ? {} : { mdev }),
      actors: checked,
    };
    if (!(needsOf(guestPlan) <= MAX_NEEDS)) throw new Error(`guests.${index}: needs too much memory`);
    return guestPlan;
  });
  refuseWhatCannotWork(guests, parsed.data.variant);
  return { ...parsed.data, guests };
}
