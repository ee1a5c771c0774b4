/**
 * What explore, replay and history share: finding the case behind a file name, making executions of it, reporting
 * failures.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { EXIT, UserError } from '../base/errors.ts';
import { plural } from '../base/plural.ts';
import { stream } from '../base/prng.ts';
import { readSource, STDIN_NAME } from '../console/input.ts';
import { ROOT } from '../console/shipped.ts';
import { unhurried } from '../console/unhurried.ts';
import { Actor } from '../engine/actor.ts';
import { CASE_DEFAULTS, type ExploreCase } from '../engine/explore/case.ts';
import { chart } from '../engine/explore/chart.ts';
import { caseHash, encodeToken, type Token } from '../engine/explore/codec.ts';
import { Execution, type ScenarioWorld } from '../engine/explore/execution.ts';
import type { Recording } from '../engine/explore/replay.ts';
import type { Found } from '../engine/explore/search.ts';
import { type Make, shrinking, withoutOps } from '../engine/explore/shrink.ts';
import { traceOf } from '../engine/explore/trace.ts';
import { BUFFER_PAGE } from '../engine/machine.ts';
import type { GuestPlan } from '../engine/plan.ts';
import { arrivalOf } from '../guest/arrival/arrival.ts';
import { WORKLOADS } from '../guest/workload/index.ts';
import { capacityFor } from '../model/arena.ts';
import type { Variant } from '../model/env.ts';
import type { InvariantName } from '../model/oracle.ts';
import { MODEL_VERSION } from '../model/version.ts';
import { caseOf, type Defect, isCase } from '../scenario/case.ts';
import { planRun } from '../scenario/plan.ts';
import type { ParsedSource } from '../scenario/source.ts';
import { REGISTRY } from './registry.ts';
import { scenarioOf } from './scenario-file.ts';

/** Steps of one execution, where neither the user nor the search says otherwise. */
export const DEFAULT_MAX_STEPS = 10_000;

/** Something that can be explored: a case, or a guest of a scenario. */
export interface Program {
  readonly file: string;
  readonly plan: ExploreCase;
  readonly defect: Defect | null;
  /** The guest of a scenario; null for a case. */
  readonly guest: GuestPlan | null;
  /** Said to the user before anything runs. */
  readonly notes: readonly string[];
}

/** @throws UserError (exit 104) */
export async function loadProgram(file: string): Promise<Program> {
  return programFrom(await readSource(file));
}

/** @throws UserError (exit 104) */
export function programFrom(parsed: ParsedSource): Program {
  const { file } = parsed.source;
  if (isCase(parsed.root)) {
    const { plan, defect } = caseOf(parsed);
    return { file, plan, defect, guest: null, notes: [] };
  }
  const resolved = scenarioOf(parsed, []);
  const run = planRun(resolved, REGISTRY);
  const guest = run.guests[0];
  if (guest === undefined)
    throw new UserError(EXIT.invalid, `${file}: the scenario has no guest to explore`, 'give a class a count of 1');
  const plan: ExploreCase = {
    ...CASE_DEFAULTS,
    name: run.name,
    about: `guest 0 of the scenario, class ${guest.class}; plan ${run.hash.slice(0, 16)}`,
    actors: guest.actors.map(({ name, task }) => ({ name, task, ops: [] })),
    expect: { [run.variant]: run.expect as InvariantName[] },
    variant: run.variant,
    // What decides how the guest behaves, for the hash.
    outcomes: [{ results: { plan: [run.hash] } }],
  };
  const rest = run.guests.length - 1;
  return {
    file,
    plan,
    defect: null,
    guest,
    notes: rest === 0 ? [] : [`only the first guest is explored: the other ${rest} share no lock with it`],
  };
}

/** How executions of a program are made under a variant. */
export function makerOf(program: Program, variant: Variant): Make {
  const { guest } = program;
  if (guest === null) return (plan) => new Execution(plan, variant);
  const needs = guest.actors.map((a) => WORKLOADS.get(a.workload)?.needs(a.options, guest));
  const sum = (of: (n: NonNullable<(typeof needs)[number]>) => number): number =>
    needs.reduce((total, n) => total + (n === undefined ? 0 : of(n)), 0);
  const mappings = Math.min(
    sum((n) => n.mappings),
    4096,
  );
  const world: ScenarioWorld = {
    guest,
    capacity: {
      ...capacityFor({
        guests: 1,
        actorsPerGuest: guest.actors.length + 1,
        processesPerGuest: guest.actors.length + 2,
        containersPerGuest: guest.containers,
        mappingsPerGuest: mappings + 16,
        segmentsPerGuest:
          Math.min(
            sum((n) => n.segments),
            4096,
          ) + 256,
        pinnedPagesPerGuest: Math.min(
          sum((n) => n.externalPages),
          4096,
        ),
        extraActors: 2048,
      }),
      vwork: 1,
    },
    start(k, index) {
      const plan = guest.actors[index];
      const workload = plan === undefined ? undefined : WORKLOADS.get(plan.workload);
      if (plan === undefined || workload === undefined) throw new Error('a validated plan names an unknown workload');
      const actor = new Actor(
        k,
        guest,
        plan,
        stream(guest.seed, `actor.${index}`),
        arrivalOf(plan.arrival, 0, stream(guest.seed, `arrival.${index}`)),
        Infinity,
        BUFFER_PAGE,
        guest.memory.bytes / 4096,
      );
      return workload.run(actor, plan.options);
    },
  };
  // The allowed outcomes of a scenario's program only carry its hash.
  return (plan) => new Execution({ ...plan, outcomes: [] }, variant, world);
}

/** The name of a case file that a token carries: within pinstorm, else within the working directory, else as given. */
export function caseReference(file: string): string {
  if (file === STDIN_NAME) return file;
  const whole = path.resolve(file);
  for (const top of [ROOT, process.cwd()]) {
    const relative = path.relative(top, whole);
    if (!relative.startsWith('..') && !path.isAbsolute(relative)) return relative.split(path.sep).join('/');
  }
  return file;
}

/** The program a token was recorded on. @throws UserError that says why it cannot be replayed. */
export async function programOf(token: Token): Promise<Program> {
  const places = [token.caseFile, path.join(ROOT, token.caseFile)].filter((file) => existsSync(file));
  if (places.length === 0) {
    const hint =
      token.caseFile === STDIN_NAME
        ? 'save the case in a file and explore it there'
        : 'run it where the case file lies, under the same name';
    throw new UserError(EXIT.invalid, `the token is for ${token.caseFile}, which is not here`, hint);
  }
  let found: Program | null = null;
  for (const file of places) {
    const program = await loadProgram(file);
    if (caseHash(program.plan) === token.caseHash) return program;
    found ??= program;
  }
  throw new UserError(
    EXIT.invalid,
    `the token is for another ${token.caseFile}: it was made for hash ${token.caseHash}, the file now has ${caseHash((found as Program).plan)}`,
    'the file has changed since; run pinstorm explore again for a new token',
  );
}

/** A failure as it is told: small, drawn, and with the word that repeats it. */
export interface Report {
  readonly kind: string;
  readonly detail: string;
  readonly preemptions: number;
  readonly operationsLeftOut: number;
  readonly token: string;
  readonly chart: string;
}

export function tokenFor(
  program: Program,
  variant: string,
  f: Recording & { readonly kind: string; readonly dropped: readonly number[] },
): string {
  return encodeToken({
    modelVersion: MODEL_VERSION,
    variant,
    caseFile: caseReference(program.file),
    caseHash: caseHash(program.plan),
    failure: f.kind,
    dropped: f.dropped,
    faults: f.faults,
    choices: f.choices,
  });
}

export async function reportFailure(
  program: Program,
  variant: Variant,
  found: Found,
  maxSteps: number,
): Promise<Report> {
  const make = makerOf(program, variant);
  const bounds = { maxSteps, maxSchedules: Number.MAX_SAFE_INTEGER };
  const small = await unhurried(shrinking(program.plan, make, found, bounds));
  const token = tokenFor(program, variant.id, { ...small, kind: small.failure.kind });
  const trace = traceOf(make(withoutOps(program.plan, small.dropped)), small, small.failure.kind);
  return {
    kind: small.failure.kind,
    detail: small.failure.detail,
    preemptions: small.preemptions,
    operationsLeftOut: small.dropped.length,
    token,
    chart: chart(trace),
  };
}

/** The report as text, up to and with the line that replays it. */
export function reportText(report: Report, variant: Variant): string {
  const left = report.operationsLeftOut === 0 ? '' : `, ${plural(report.operationsLeftOut, 'operation')} left out`;
  return [
    `${report.kind}: ${report.detail}`,
    `variant ${variant.id}, ${plural(report.preemptions, 'preemption')}${left}`,
    '',
    report.chart,
    `pinstorm replay ${report.token}`,
    '',
  ].join('\n');
}
