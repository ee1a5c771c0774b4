/**
 * What is fuzzed: everything that reads what somebody else wrote. Each target makes inputs from a seed corpus and says
 * what is wrong with how the parser took one, or null.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { EXIT, UserError } from '../../src/base/errors.ts';
import type { Prng } from '../../src/base/prng.ts';
import { decodeToken, encodeToken } from '../../src/engine/explore/codec.ts';
import { statsLayout } from '../../src/engine/stats-layout.ts';
import { decodeSnapshot } from '../../src/metrics/read-snapshot.ts';
import { encodeSnapshot, Snapshot } from '../../src/metrics/snapshot.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { parseCase } from '../../src/scenario/case.ts';
import { checkPlan } from '../../src/scenario/plan-check.ts';
import { Planner, planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { ControlMessage, GuestJob, JournalEntry, WorkerMessage } from '../../src/wire/messages.ts';
import { decodeJob, encodeJob } from '../../src/wire/deferred-job.ts';
import { mutateData, mutateText } from './mutate.ts';

export interface Target {
  readonly name: string;
  /** Share of the inputs. */
  readonly weight: number;
  /** Input number 0, 1, ... of the corpus as it is; the rest are mutations. */
  readonly corpus: readonly string[];
  mutate(random: Prng, seed: string, other: string): string;
  /**
   * Feeds one input to the parser. `accepted` or the kind of refusal. @throws {Violation} when a property does not
   * hold.
   */
  run(input: string): string;
}

/** A property that did not hold. */
export class Violation extends Error {}

const yamlIn = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.yaml'))
    .toSorted()
    .map((name) => readFileSync(`${directory}/${name}`, 'utf8'));

const lines = (path: string): string[] => readFileSync(path, 'utf8').split('\n').filter(Boolean);

/** Faults of a file as a whole, which have no line. */
const WHOLE_FILE =
  /^fuzz\.yaml: (the file is empty|the YAML is nested too deeply|the scenario has more than \d+ values)$/;
const FAULT = /^fuzz\.yaml:(\d+):(\d+): \S/;

/**
 * A refusal of a text must be a UserError 104 in which every fault has its line and column, and nothing else is in it.
 */
function checkRefusal(error: unknown, text: string): string {
  if (!(error instanceof UserError))
    throw new Violation(`threw ${error instanceof Error ? error.stack : String(error)}`);
  if (error.exitCode !== EXIT.invalid) throw new Violation(`exit status ${error.exitCode}`);
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(error.message))
    throw new Violation(`control characters: ${JSON.stringify(error.message)}`);
  if (error.message.length > 100_000) throw new Violation(`a message of ${error.message.length} characters`);
  const [head = '', ...rest] = error.message.split('\n');
  if (!/^fuzz\.yaml is not a valid (scenario|case): \d+ faults?$/.test(head)) throw new Violation(`head: ${head}`);
  const textLines = text.split('\n');
  let faults = 0;
  for (const line of rest) {
    if (!line.startsWith('fuzz.yaml')) continue;
    faults++;
    if (WHOLE_FILE.test(line)) continue;
    const [, row = '0', column = '0'] = FAULT.exec(line) ?? [];
    const inside = textLines[Number(row) - 1];
    if (inside === undefined || Number(column) < 1 || Number(column) > inside.length + 1) {
      throw new Violation(`no such place: ${line}`);
    }
  }
  if (faults === 0) throw new Violation(`no fault is named: ${error.message}`);
  // Kind of the first fault, without what the input chose.
  return (rest.find((line) => line.startsWith('fuzz.yaml')) ?? '')
    .replace(/^[^ ]* |'[^']*'|\d+|[\w.[\]"-]*: /g, '')
    .slice(0, 40);
}

function file(name: string, weight: number, corpus: readonly string[], parse: (input: string) => void): Target {
  return {
    name,
    weight,
    corpus,
    mutate: (random, seed, other) => mutateText(random, seed, other),
    run(input) {
      try {
        parse(input);
        return 'accepted';
      } catch (error) {
        return checkRefusal(error, input);
      }
    },
  };
}

/**
 * Mutates JSON as data three times in four, else as text; what is no JSON is the reader's business, not the schema's.
 */
function json(name: string, weight: number, corpus: readonly unknown[], parse: (data: unknown) => string): Target {
  return {
    name,
    weight,
    corpus: corpus.map((data) => JSON.stringify(data)),
    mutate: (random, seed, other) =>
      random.below(4) === 0 ? mutateText(random, seed, other) : JSON.stringify(mutateData(random, JSON.parse(seed))),
    run(input) {
      let data: unknown;
      try {
        data = JSON.parse(input);
      } catch {
        return 'no JSON';
      }
      return parse(data);
    },
  };
}

/** Runs a decoder that may throw plain errors with one printable line. */
function refusing(decode: () => void): string {
  try {
    decode();
    return 'accepted';
  } catch (error) {
    if (!(error instanceof Error) || error.constructor !== Error) {
      throw new Violation(`threw ${error instanceof Error ? error.stack : String(error)}`);
    }
    if (!/^.{1,400}$/u.test(error.message))
      throw new Violation(`message ${JSON.stringify(error.message.slice(0, 500))}`);
    return error.message.replace(/\d+/g, '').slice(0, 40);
  }
}

const scenarioCorpus = [...yamlIn('scenarios'), ...yamlIn('test/golden'), ...yamlIn('test/security/corpus')];
const plans = yamlIn('scenarios').map((source) => planRun(validateScenario('x.yaml', source, REGISTRY), REGISTRY));
const smallPlans = plans.map((plan) => ({ ...plan, guests: plan.guests.slice(0, 2) }));
const layout = statsLayout({ thresholds: [] });

function snapshotText(): string {
  const snapshot = new Snapshot(layout);
  snapshot.counters.fill(3);
  const cells = new Float64Array(900).fill(2);
  for (const id of [0, 5]) {
    snapshot.data.set(id, { cells, buckets: new Float64Array(layout.buckets).fill(1), sumNs: 5e6, maxNs: 9e5 });
  }
  return encodeSnapshot(snapshot);
}

const interval = {
  t: 'interval',
  worker: 'w1',
  seq: 3,
  states: { pending: 1, running: 2, finished: 0, failed: 0 },
  ended: 0,
  snapshot: '{}',
  violations: { wrap: 2 },
  driftPages: '-5',
  backlog: 2,
  oldestAgeSeconds: 0.5,
  eventLoopDelayP99Ns: 1e6,
  residentBytes: 1e8,
  cpuSeconds: 2.5,
  clockOffsetMs: -0.5,
};
const messages = [
  interval,
  {
    t: 'outcomes',
    worker: 'w1',
    outcomes: [
      { guest: 0, incarnation: 1, state: 'completed', operations: 10, failedOperations: 0, lockedVmAfterPages: '0' },
      {
        guest: 1,
        incarnation: 1,
        state: 'failed',
        operations: 1,
        failedOperations: 1,
        error: 'x',
        lockedVmAfterPages: '7',
      },
    ],
  },
  { t: 'mark', worker: 'w1', guest: 1, incarnation: 1, label: 'a', value: 'b' },
  { t: 'trouble', worker: 'w1', error: 'a\nb' },
  { t: 'start', startAtMs: 1.7e12 },
  { t: 'share', jobs: { w1: 3, w2: 4 } },
  { t: 'stop' },
  { after: '17-0', decision: { d: 'rerun', worker: 'w1', epochMs: 1.7e12, held: [[0, 2]], free: [] } },
];

const tokens = [
  ...lines('test/engine/explore/recorded.txt')
    .flatMap((line) => /p1-\S+/.exec(line)?.[0] ?? [])
    .slice(0, 7),
  encodeToken({
    modelVersion: 1,
    variant: 'E',
    caseFile: 'cases/over-commit.yaml',
    caseHash: '0123456789ab',
    failure: 'balance',
    dropped: [0, 3],
    faults: [true, false, true],
    choices: [0, 0, 1, 2, 1, 1, 0],
  }),
];

/** Changes bytes of a token and makes its checksum fit again, so that the reader behind it sees the damage. */
function mutateToken(random: Prng, seed: string, other: string): string {
  if (random.below(4) === 0) return mutateText(random, seed, other);
  let bytes = [...Buffer.from(seed.slice(3), 'base64url').subarray(0, -4)];
  for (let n = 1 + random.below(4); n > 0; n--) {
    const at = random.below(bytes.length + 1);
    const kind = random.below(4);
    if (kind === 0) bytes.splice(at, 1 + random.below(4));
    else if (kind === 1) bytes.splice(at, 0, ...Array.from({ length: 1 + random.below(9) }, () => random.below(256)));
    else if (kind === 2) bytes = bytes.slice(0, at);
    else bytes[at] = random.below(3) === 0 ? 255 : random.below(256);
  }
  const body = Buffer.from(bytes);
  return `p1-${Buffer.concat([body, createHash('sha256').update(body).digest().subarray(0, 4)]).toString('base64url')}`;
}

const token: Target = {
  name: 'replay token',
  weight: 2,
  corpus: tokens,
  mutate: mutateToken,
  run(input) {
    try {
      const decoded = decodeToken(input);
      if (decodeToken(encodeToken(decoded)).choices.join() !== decoded.choices.join())
        throw new Violation('does not encode back');
      return 'accepted';
    } catch (error) {
      if (error instanceof Violation) throw error;
      if (!(error instanceof UserError) || error.exitCode !== EXIT.invalid) {
        throw new Violation(`threw ${error instanceof Error ? error.stack : String(error)}`);
      }
      return error.message.replace(/"[^"]*"|\d+/g, '').slice(0, 60);
    }
  },
};

export const TARGETS: readonly Target[] = [
  file('scenario', 8, scenarioCorpus, (input) => {
    const { scenario } = validateScenario('fuzz.yaml', input, REGISTRY);
    // What is accepted can be planned: its first and its last guest.
    const planner = new Planner(scenario);
    planner.guest(0);
    planner.guest(planner.guestCount - 1);
  }),
  file(
    'case',
    4,
    [...yamlIn('cases'), ...yamlIn('test/security/corpus')],
    (input) => void parseCase('fuzz.yaml', input),
  ),
  json('plan', 2, smallPlans, (data) => refusing(() => void checkPlan(data))),
  json('guest job', 1, [{ v: 1, slice: 0, incarnation: 1 }], (data) => {
    const { success, data: job } = GuestJob.safeParse(data);
    if (success && !(job.slice >= 0)) throw new Violation('not a slice');
    return success ? 'accepted' : 'refused';
  }),
  json('message', 2, messages, (data) => {
    const ok = [WorkerMessage, ControlMessage, JournalEntry].some((schema) => schema.safeParse(data).success);
    return ok ? 'accepted' : 'refused';
  }),
  json(
    'deferred job',
    1,
    [encodeJob([1, 2, 3].map((opId) => ({ opId, mm: 4, guest: 0, incarnation: 1, npage: -2, queuedAtNs: 7 })))],
    (data) => {
      for (const update of decodeJob(data) ?? []) {
        for (const value of Object.values(update))
          if (!Number.isSafeInteger(value)) throw new Violation(JSON.stringify(update));
      }
      return decodeJob(data) === null ? 'refused' : 'accepted';
    },
  ),
  json('statistics', 1, [JSON.parse(snapshotText())], (data) =>
    refusing(() => void decodeSnapshot(layout, JSON.stringify(data))),
  ),
  token,
];
