/**
 * The scenario format: the single source of its types, its validation, its JSON Schema and its reference documentation.
 * Keys are snake_case as people write them; the output carries base units in its names' place (bytes, nanoseconds).
 */
import { z } from 'zod';
import { SEED_MAX } from '../base/prng.ts';
import { nearest } from '../base/suggest.ts';
import type { Nanoseconds } from '../base/units.ts';
import { describeValue, zBytes, zDuration, zRate } from '../base/zod-units.ts';
import { report } from './distribution.ts';
import { memorySchema } from './memory-schema.ts';

/** Guests a scenario may have in all: their indices and seeds are planned one by one. */
export const MAX_GUESTS = 1_000_000;

/** Actors of all guests together. */
export const MAX_ACTORS = 10_000_000;
const MAX_INSTANCES = 4096;

/** Descriptors of containers a modelled process has room for. */
const MAX_CONTAINERS = 16;

/** An arrival given by its bare name. */
function arrivalWord(issue: { readonly input?: unknown }): string {
  const near = typeof issue.input === 'string' ? nearest(issue.input, Object.keys(ARRIVAL_EXAMPLES)) : null;
  const example = ARRIVAL_EXAMPLES[near ?? 'poisson'] ?? '';
  return `${describeValue(issue.input)} needs more than its name\nwrite for example ${example}, or closed`;
}

const ARRIVAL_EXAMPLES: Readonly<Record<string, string>> = {
  closed: 'closed',
  constant: '{ kind: constant, rate: 1000/s }',
  poisson: '{ kind: poisson, rate: 1000/s }',
  ramp: '{ kind: ramp, from: 10/s, to: 1000/s, over: 30s }',
  burst: '{ kind: burst, operations: 100, every: 1s }',
};

const arrivalSchema = z
  .union([
    z.literal('closed', { error: arrivalWord }).transform(() => ({ kind: 'closed' as const, think: 0 as Nanoseconds })),
    z.discriminatedUnion('kind', [
      z
        .strictObject({
          kind: z.literal('closed'),
          think: zDuration().prefault(0).describe('Pause between the end of one operation and the start of the next.'),
        })
        .describe('The next operation starts when the last has ended.'),
      z
        .strictObject({ kind: z.literal('constant'), rate: zRate().describe('Operations per unit of time.') })
        .describe('Operations start at a fixed rate, however long they take.'),
      z
        .strictObject({ kind: z.literal('poisson'), rate: zRate().describe('Mean operations per unit of time.') })
        .describe('Operations start at random instants of a given mean rate.'),
      z
        .strictObject({
          kind: z.literal('ramp'),
          from: zRate().describe('Rate at the start.'),
          to: zRate().describe('Rate at the end; kept afterwards.'),
          over: zDuration({ min: 1 }).describe('How long the change takes.'),
        })
        .describe('The rate changes linearly.'),
      z
        .strictObject({
          kind: z.literal('burst'),
          operations: z.int().min(1).max(1_000_000).describe('Operations of one burst, all due at its start.'),
          every: zDuration({ min: 1 }).describe('From the start of one burst to the start of the next.'),
        })
        .describe('Operations come in bursts.'),
    ]),
  ])
  .prefault('closed')
  .describe('When the next operation starts: closed, or a map with the kind of arrival and its rate.');

const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/i;
const nameSchema = z.string().regex(NAME);

const actorSchema = z.strictObject({
  name: nameSchema.describe('Name of the actor, unique within its guest.'),
  count: z
    .int()
    .min(1)
    .max(MAX_INSTANCES)
    .default(1)
    .describe('How many of it; more than one are named vcpu-0, vcpu-1, ...'),
  chance: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe('Share of the guests that have it, drawn for each guest: 0.3 of them run the mlock loop.'),
  task: z
    .enum(['main', 'thread', 'vm_child', 'child', 'kthread'])
    .default('thread')
    .describe(
      "What it is: main the process's first thread, thread another thread, vm_child a CLONE_VM child (another process in the " +
        'same address space), child a forked process with its own address space, kthread a kernel thread.',
    ),
  workload: z.string().describe('What it does: the name of a workload.'),
  options: z.record(z.string(), z.unknown()).prefault({}).describe("The workload's options; see the workload."),
  arrival: arrivalSchema,
  iterations: z
    .int()
    .min(1)
    .optional()
    .describe("Operations at most; when left out, until the workload ends by itself or the guest's duration is over."),
  start: zDuration().prefault(0).describe("When it starts, after the guest's start."),
});

const guestSchema = z.strictObject({
  class: nameSchema.describe('Name of this class of guests.'),
  count: z.int().min(1).max(MAX_GUESTS).default(1).describe('How many guests of this class.'),
  memory: memorySchema.describe("The guest's memory."),
  memlock: z
    .union([z.literal('unlimited').transform(() => null), zBytes()])
    .prefault('unlimited')
    .describe('RLIMIT_MEMLOCK (soft): a size, or unlimited. The default of kernels before 5.16 is 64KiB.'),
  cap_ipc_lock: z.boolean().default(false).describe('Whether the process has CAP_IPC_LOCK, which lifts the limit.'),
  uid: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .optional()
    .describe(
      'User the guests of the class run as. With iommufd all guests of a user share one quota; without a uid each guest has ' +
        'a user of its own.',
    ),
  iommu: z.enum(['type1', 'type1v2']).default('type1v2').describe('IOMMU type the containers are set to.'),
  containers: z
    .int()
    .min(1)
    .max(MAX_CONTAINERS)
    .default(1)
    .describe('Containers of the guest, each with one IOMMU group.'),
  mdev: z
    .enum(['none', 'only', 'beside'])
    .default('none')
    .describe(
      'An mdev (mediated device) in each container: none, as its only device (then nothing is pinned or charged but what the ' +
        'mdev driver pins), or beside the device behind the IOMMU.',
    ),
  start: z
    .strictObject({
      at: zDuration().prefault(0).describe("When the first guest may start, after the run's start."),
      spread: zDuration().optional().describe('Guests start at random instants, uniform over this long.'),
      rate: zRate().optional().describe('Guests arrive at random (Poisson) at this mean rate.'),
    })
    .check((context) => {
      if (context.value.spread === undefined || context.value.rate === undefined) return;
      report(context, ['rate'], context.value.rate, 'both spread and rate are given', 'keep one of them');
    })
    .prefault({})
    .describe('When the guests of the class start.'),
  duration: zDuration({ min: 1 })
    .optional()
    .describe('The guest is stopped this long after its start; when left out, it ends with its actors.'),
  actors: z
    .array(actorSchema)
    .min(1)
    .max(256)
    .check((context) => {
      if (context.value.some(({ chance }) => chance === 1)) return;
      report(
        context,
        [],
        context.value,
        'a guest could be drawn without any actor',
        'leave chance out for one of them',
      );
    })
    .describe('The threads and processes of each guest.'),
});

const thresholdSchema = z.union([
  z.string(),
  z.strictObject({
    threshold: z.string().describe('The expression, as in the short form.'),
    abortOnFail: z.boolean().default(false).describe('Stop the run as soon as the threshold is crossed.'),
    delayAbortEval: zDuration().prefault(0).describe('Do not stop the run earlier than this after its start.'),
  }),
]);

/** Invariants, and errors by operation: `over-penalty`, `{map: ENOMEM}`, `{map: [ENOMEM, EEXIST]}`. */
const expectList = z.array(
  z.union([z.string(), z.record(z.string(), z.union([z.string(), z.array(z.string()).min(1)]))]),
);

export const scenarioSchema = z
  .strictObject({
    name: nameSchema.describe('Name of the scenario: letters, digits, - and _.'),
    description: z.string().max(1000).default('').describe('What it shows, in a sentence.'),
    seed: z
      .int()
      .min(0)
      .max(SEED_MAX)
      .default(1)
      .describe('Seed of everything drawn at random: the same seed gives the same guests and operations.'),
    variant: z
      .union([z.string(), z.number().transform(String)])
      .prefault('E')
      .describe('Accounting policy: a variant of the model (A to J) or a kernel version such as "4.10".'),
    pace: z
      .number()
      .min(0)
      .max(1_000_000)
      .default(1)
      .describe('Model time per real time: 1 real time, 2 twice as fast, 0 as fast as it goes.'),
    duration: zDuration({ min: 1 })
      .optional()
      .describe('Length of the whole run; when left out, until all guests have ended.'),
    profile: z.string().default('default').describe('Cost profile: nanoseconds per primitive of a kernel and machine.'),
    deferred: z
      .strictObject({
        batch: z.int().min(1).max(1000).default(100).describe('Deferred accounting updates per job at most.'),
        flush: zDuration({ max: 60e9 }).prefault('1ms').describe('The longest an update waits for its job to fill.'),
      })
      .prefault({})
      .describe('How deferred accounting updates are handed to the queue.'),
    host: z
      .strictObject({
        count: z
          .int()
          .min(1)
          .max(10_000)
          .default(1)
          .describe('Emulated hosts in virtual time; guests are dealt out to them in turn.'),
        cpus: z
          .union([z.literal('unlimited').transform(() => null), z.int().min(1).max(8192)])
          .prefault('unlimited')
          .describe('CPUs of each: a number, or unlimited, so that no thread ever waits for one.'),
      })
      .prefault({})
      .describe('The emulated hosts that `simulate` runs the guests on; a live run has the CPUs of its machines.'),
    faults: z
      .record(z.string(), z.number().min(0).max(1))
      .prefault({})
      .describe('Probability of an injected fault per site, 0 to 1.'),
    expect: z
      .union([expectList, z.record(z.string(), expectList)])
      .prefault([])
      .describe(
        'What the scenario expects to go wrong, which then does not fail the run: invariants, and errors of operations as ' +
          '{map: ENOMEM}; a list, or a map from variant to list, `*` for every variant.',
      ),
    stages: z
      .array(
        z.strictObject({
          name: nameSchema.describe('Name of the stage, unique.'),
          duration: zDuration({ min: 1 })
            .optional()
            .describe('How long it takes; only the last one may leave it out: until the run ends.'),
        }),
      )
      .max(64)
      .check((context) => {
        context.value.slice(0, -1).forEach(({ duration }, i) => {
          if (duration === undefined)
            report(context, [i], context.value[i], 'a stage before the last needs a duration', 'add duration:');
        });
      })
      .prefault([])
      .describe(
        'Parts of the run, one after the other from its start, that thresholds can name: p(99) < 2ms during boot.',
      ),
    thresholds: z
      .record(z.string(), z.union([thresholdSchema.transform((one) => [one]), z.array(thresholdSchema).min(1)]))
      .prefault({})
      .describe(
        "Conditions that fail the run, per metric, in k6's grammar: op_duration{op:map}: ['p(99) < 2ms over 30s'].",
      ),
    guests: z.array(guestSchema).min(1).max(1000).describe('The classes of guests.'),
  })
  .meta({ title: 'pinstorm scenario' });

/** A scenario as written. */
export type ScenarioInput = z.input<typeof scenarioSchema>;

/** A valid scenario with its defaults filled in, in base units. */
export type Scenario = z.output<typeof scenarioSchema>;
export type GuestClass = Scenario['guests'][number];
export type ActorClass = GuestClass['actors'][number];
export type ArrivalSpec = ActorClass['arrival'];
