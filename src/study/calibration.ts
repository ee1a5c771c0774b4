/**
 * Measured rows (published times of real kernels), their simulation, and the fit of a profile's unknown costs to them.
 *
 * The fit is least squares on the logarithms of time and cost (Gauss-Newton, numerical derivatives, QR by ml-matrix),
 * so that rows of nanoseconds and of minutes weigh the same and costs stay positive. A weak pull towards the profile's
 * present value decides what the rows leave open.
 */
import { join } from 'node:path';
import { Matrix, solve } from 'ml-matrix';
import { stringify } from 'yaml';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import { readSource } from '../console/input.ts';
import { stderr } from '../console/output.ts';
import { ROOT } from '../console/shipped.ts';
import { simulateAll } from '../emulator/host-pool.ts';
import type { HostResult, HostTask } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { actualSeries, Op, Outcome } from '../metrics/ops.ts';
import { decodeSnapshot } from '../metrics/read-snapshot.ts';
import { REGISTRY } from '../run/registry.ts';
import { FaultList } from '../scenario/fault-list.ts';
import { scenarioError } from '../scenario/faults.ts';
import { errorMap, problems } from '../scenario/issues.ts';
import { planRun } from '../scenario/plan.ts';
import { MAX_SOURCE_BYTES, plain } from '../scenario/source.ts';
import { validateScenario } from '../scenario/validate.ts';

const rowSchema = z.strictObject({
  id: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/),
  what: z.string(),
  source: z.string(),
  profile: z.string(),
  variant: z.union([z.string(), z.number().transform(String)]),
  memory: z.record(z.string(), z.unknown()),
  workload: z.string(),
  options: z.record(z.string(), z.unknown()).prefault({}),
  /** Threads that share the work (workload parallel-pin). */
  threads: z.int().min(1).max(16).default(1),
  iommu: z.enum(['type1', 'type1v2']).default('type1v2'),
  /**
   * What is compared: all time in one operation, the time until the last actor is done, or how often mmap_sem was taken
   * by MAP (for write: without the one of the UNMAP).
   */
  measure: z.enum(['map', 'unmap', 'close', 'end', 'write_locks', 'read_locks']),
  /** Divided by this: the number of pages, calls or repetitions. */
  per: z.number().positive().default(1),
  /** The simulated guest is this much smaller than the measured one, and its time is multiplied by it. */
  scale: z.number().positive().default(1),
  unit: z.enum(['s', 'ns', 'ratio', 'count']).default('s'),
  /** The row this one is a ratio to. */
  over: z.string().optional(),
  published: z.number().positive(),
  fitted: z.boolean().default(false),
  /** Why it cannot come out, where it cannot. */
  missing: z.string().optional(),
});
export type Row = z.infer<typeof rowSchema>;

const fileSchema = z.strictObject({
  /** Per profile the primitives that its fitted rows determine. */
  fit: z.record(z.string(), z.array(z.string()).min(1)).prefault({}),
  rows: z.array(rowSchema).min(1),
});
export type Rows = z.infer<typeof fileSchema>;

const ROWS = {
  what: 'file of measured rows',
  example: 'calibration/published.yaml',
  smaller: 'split it',
  maxBytes: MAX_SOURCE_BYTES,
};

/** Reads measured rows. @throws UserError (exit 104) with every fault of the file. */
export async function readRows(file: string): Promise<Rows> {
  const { root, source, faults } = await readSource(file, ROWS);
  if (root === null) throw scenarioError(faults, source, ROWS.what);
  const found = new FaultList(root, faults);
  const data = plain(root);
  const parsed = fileSchema.safeParse(data, { error: errorMap });
  if (parsed.success) {
    const { rows, fit } = parsed.data;
    const ids = rows.map((row) => row.id);
    const profiles = [...REGISTRY.profiles.keys()];
    for (const [i, row] of rows.entries()) {
      found.name(['rows', i, 'profile'], 'profile', profiles);
      if (row.over !== undefined) found.name(['rows', i, 'over'], 'row', ids);
    }
    found.keys(['fit'], 'profile', profiles);
    for (const [profile, primitives] of Object.entries(fit)) {
      const known = Object.keys(REGISTRY.profiles.get(profile)?.costNs ?? {});
      if (known.length > 0) primitives.forEach((_, i) => found.name(['fit', profile, i], 'primitive', known));
    }
  } else for (const problem of problems(parsed.error.issues, data)) found.add(problem);
  if (parsed.success && found.faults.length === 0) return parsed.data;
  throw scenarioError(found.faults, source, ROWS.what);
}

function planOf(row: Row): RunPlan {
  const actors = Array.from({ length: row.threads }, (_, part) => ({
    name: `actor-${part}`,
    task: part === 0 ? 'main' : 'thread',
    workload: row.workload,
    options:
      row.threads > 1 || row.workload === 'parallel-pin' ? { ...row.options, of: row.threads, part } : row.options,
    iterations: 1,
  }));
  const guest = {
    class: 'guest',
    memory: row.memory,
    cap_ipc_lock: true,
    iommu: row.iommu,
    containers: row.threads,
    actors,
  };
  const scenario = { name: row.id, variant: row.variant, profile: row.profile, guests: [guest] };
  return planRun(validateScenario(`row ${row.id}`, stringify(scenario), REGISTRY), REGISTRY);
}

interface Asked {
  readonly row: Row;
  /** Changed costs of its profile. */
  readonly costs?: Readonly<Record<string, number>> | undefined;
}

/** Simulates rows on threads; a plan is made once, however often its costs change. */
export class Simulator {
  readonly #plans = new Map<string, RunPlan>();
  #simulated = 0;

  constructor(readonly rows: readonly Row[]) {}

  /** The figures of rows, each in its unit. */
  values(asked: readonly Asked[]): Promise<number[]> {
    return Promise.all(
      asked.map(async ({ row, costs = {} }) => {
        const own = await this.#time(row, costs);
        if (row.over === undefined) return row.unit === 's' ? own / 1e9 : own;
        return own / (await this.#time(this.rows.find((r) => r.id === row.over) as Row, costs));
      }),
    );
  }

  close(): void {
    stderr.wipe();
  }

  async #time(row: Row, costs: Readonly<Record<string, number>>): Promise<number> {
    let plan = this.#plans.get(row.id);
    if (plan === undefined) this.#plans.set(row.id, (plan = planOf(row)));
    const { guests, ...head } = plan;
    const costNs = { ...plan.profile.costNs, ...costs };
    const task: HostTask = { plan: { ...head, profile: { ...plan.profile, costNs } }, guests };
    const [result] = (await simulateAll([task])) as [HostResult];
    this.#simulated += 1;
    stderr.draw(`${this.#simulated} rows simulated`);
    if (result.error !== null || result.marks.some(({ label }) => label.includes('failed'))) {
      throw new Error(`row ${row.id}: ${result.error ?? JSON.stringify(result.marks[0])}`);
    }
    if (row.measure === 'end') return (result.endNs * row.scale) / row.per;
    const snapshot = decodeSnapshot(statsLayout(plan), result.snapshot);
    // One write acquisition is that of the UNMAP which follows the MAP.
    if (row.measure === 'write_locks') return snapshot.counter('mmap_write_acquisitions') - 1;
    if (row.measure === 'read_locks') return snapshot.counter('mmap_read_acquisitions');
    return (snapshot.series(actualSeries(Op[row.measure], Outcome.ok))?.sumNs ?? 0) * (row.scale / row.per);
  }
}

export interface Reproduced {
  readonly id: string;
  readonly what: string;
  readonly profile: string;
  readonly variant: string;
  readonly unit: Row['unit'];
  readonly published: number;
  readonly simulated: number;
  readonly ratio: number;
  readonly fitted: boolean;
  readonly missing: string | null;
}

export async function reproduce(
  rows: readonly Row[],
  costs: Readonly<Record<string, Readonly<Record<string, number>>>> = {},
): Promise<Reproduced[]> {
  const simulator = new Simulator(rows);
  let values: number[];
  try {
    values = await simulator.values(rows.map((row) => ({ row, costs: costs[row.profile] })));
  } finally {
    simulator.close();
  }
  return rows.map((row, i) => {
    const simulated = values[i] as number;
    const { id, what, profile, variant, unit, published, fitted, missing } = row;
    return {
      id,
      what,
      profile,
      variant,
      unit,
      published,
      simulated,
      ratio: simulated / published,
      fitted,
      missing: missing ?? null,
    };
  });
}

/** How strongly a cost is held where it is: this share of the weight of one row per unit of logarithm. */
const PULL = 0.02;
const ROUNDS = 12;
const STEP = 0.02;

/** Largest change of a cost in one round, as a logarithm. */
const LEAP = 1;

/** Fits `primitives` of `profile` to its fitted rows. Returns their costs in ns. */
async function fitProfile(
  simulator: Simulator,
  profile: string,
  primitives: readonly string[],
): Promise<Record<string, number>> {
  const { rows } = simulator;
  const own = rows.filter((row) => row.profile === profile && row.fitted);
  if (own.length === 0)
    throw new UserError(EXIT.invalid, `no fitted row has profile '${profile}'`, 'mark rows with fitted: true');
  const present = REGISTRY.profiles.get(profile)?.costNs ?? {};
  // A cost of 0 has no logarithm: it starts at a nanosecond.
  const start = primitives.map((p) => Math.log(Math.max(present[p] ?? 1, 1)));
  let x = [...start];
  const costsAt = (at: readonly number[]): Record<string, number> =>
    Object.fromEntries(primitives.map((p, i) => [p, Math.exp(at[i] as number)]));
  const residuals = async (at: readonly number[]): Promise<number[]> => {
    const values = await simulator.values(own.map((row) => ({ row, costs: costsAt(at) })));
    return [
      ...own.map((row, i) => Math.log((values[i] as number) / row.published)),
      ...at.map((v, i) => PULL * (v - (start[i] as number))),
    ];
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    const points = [x, ...x.map((_, i) => x.map((v, j) => (i === j ? v + STEP : v)))];
    const [r, ...moved] = (await Promise.all(points.map(residuals))) as [number[], ...number[][]];
    const columns = moved.map((there) => there.map((value, k) => (value - (r[k] as number)) / STEP));
    const jacobian = new Matrix(columns).transpose();
    const delta = solve(jacobian, Matrix.columnVector(r.map((v) => -v)));
    x = x.map((v, i) => v + Math.max(-LEAP, Math.min(LEAP, delta.get(i, 0))));
  }
  return costsAt(x);
}

/** The rows that come with pinstorm. */
export const PUBLISHED_ROWS = join(ROOT, 'calibration', 'published.yaml');

/** Fits every profile the file names, or one of them. @throws UserError (exit 104) for a profile without a fit. */
export async function calibrate(
  file: Rows,
  path: string,
  only: string | undefined,
): Promise<{ costs: Record<string, Record<string, number>>; table: Reproduced[] }> {
  const profiles = only === undefined ? Object.keys(file.fit) : [only];
  const fits = profiles.map((profile) => {
    const primitives = file.fit[profile];
    if (primitives !== undefined) return { profile, primitives };
    const known = Object.keys(file.fit).join(', ') || 'none';
    throw new UserError(
      EXIT.invalid,
      `${path}: nothing says what to fit of profile '${profile}'`,
      `known under fit: ${known}`,
    );
  });
  const costs: Record<string, Record<string, number>> = {};
  const simulator = new Simulator(file.rows);
  try {
    for (const { profile, primitives } of fits) costs[profile] = await fitProfile(simulator, profile, primitives);
  } finally {
    simulator.close();
  }
  const rows = file.rows.filter((row) => profiles.includes(row.profile));
  return { costs, table: await reproduce(rows, costs) };
}

const significant = (n: number): string => String(Number(n.toPrecision(4)));

/** Fitted costs as they go into a profile file. */
export function costsText(costs: Readonly<Record<string, Readonly<Record<string, number>>>>): string {
  const lines: string[] = [];
  for (const [profile, own] of Object.entries(costs)) {
    lines.push(`# ${profile}`, 'costs:');
    for (const [primitive, ns] of Object.entries(own)) {
      lines.push(`  ${primitive}: { ns: ${significant(ns)}, source: fitted to the rows of ${profile} }`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** The table of rows, for people. */
export function rowsText(table: readonly Reproduced[]): string {
  const lines: string[] = [];
  const cell = (value: number, unit: Row['unit']): string =>
    `${significant(value)}${unit === 's' ? ' s' : unit === 'ns' ? ' ns' : ''}`;
  let profile = '';
  for (const row of table) {
    if (row.profile !== profile) {
      profile = row.profile;
      lines.push(
        '',
        `profile ${profile}`,
        `  ${'row'.padEnd(26)}${'variant'.padEnd(9)}${'published'.padStart(12)}${'simulated'.padStart(12)}${'ratio'.padStart(8)}`,
      );
    }
    const own = `${row.fitted ? 'fitted' : 'predicted'}${row.missing === null ? '' : ' *'}`;
    lines.push(
      `  ${row.id.padEnd(26)}${row.variant.padEnd(9)}${cell(row.published, row.unit).padStart(12)}` +
        `${cell(row.simulated, row.unit).padStart(12)}${row.ratio.toFixed(3).padStart(8)}  ${own}`,
    );
  }
  const predicted = table.filter((row) => !row.fitted);
  const within = (rows: readonly Reproduced[]): number => rows.filter((row) => Math.abs(row.ratio - 1) <= 0.15).length;
  lines.push(
    '',
    `${within(table)} of ${table.length} rows within 15 %; of the ${predicted.length} predicted ones ${within(predicted)}`,
  );
  for (const row of table) if (row.missing !== null) lines.push(`* ${row.id}: the model lacks ${row.missing}`);
  return `${lines.slice(1).join('\n')}\n`;
}
