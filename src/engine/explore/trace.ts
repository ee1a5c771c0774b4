/** What an execution did, step by step, for people. */
import type { Arena, Ref } from '../../model/arena.ts';
import { MM, USER } from '../../model/layout.ts';
import { lockedVm } from '../../model/locked-vm.ts';
import { show } from '../../model/oracle.ts';
import { STEP_ACCESS } from '../../model/step-access.ts';
import { functionOf, S, type StepId } from '../../model/steps.ts';
import { opText } from './case.ts';
import type { Execution, Failure } from './execution.ts';
import { isLocal } from './footprint.ts';
import { type Recording, ReplayStrategy } from './replay.ts';
import type { StepActor } from './stepper.ts';

export interface TraceRow {
  /** 1-based. */
  readonly step: number;
  readonly actor: string;
  /** The kernel function, or what user space asked for. */
  readonly fn: string;
  /** What came of it; empty where there is nothing to say. */
  readonly note: string;
  /** The result, where the operation ended with this step. */
  readonly result: string | null;
  /** Nobody else can tell when it happened. */
  readonly local: boolean;
}

export interface Trace {
  readonly rows: readonly TraceRow[];
  readonly failure: Failure | null;
  /** Names of the actors that took a step, in order of appearance. */
  readonly actors: readonly string[];
}

/** Replays a schedule until it fails or ends. @throws ReplayDivergedError */
export function traceOf(x: Execution, recording: Recording, kind: string | null): Trace {
  const replay = new ReplayStrategy(recording);
  const rows: TraceRow[] = [];
  const waits = new Set<StepActor>();
  replay.begin();
  x.reset();
  const failed = (): Failure | null => x.failures.find((f) => kind === null || f.kind === kind) ?? null;
  for (let enabled = x.enabled(); enabled.length > 0 && failed() === null; enabled = x.enabled()) {
    rows.push(takeTraced(x, replay.pick(x, enabled), replay, waits));
  }
  if (failed() === null) x.finish();
  return { rows, failure: failed(), actors: [...new Set(rows.map((r) => r.actor))] };
}

const USER_STEPS: ReadonlySet<StepId> = new Set([S.LockedVmRead, S.LockedVmAtomic, S.LockedVmCmpxchg]);

/** Reads the counter that a step on an address space, or of iommufd on a user, may change. */
function counterOf(a: Arena, step: StepId, object: Ref, iommufd: boolean): () => bigint {
  if (object === 0) return () => 0n;
  if (step === S.PinnedVmAtomic) return () => a.getU64(object, MM.pinnedVm);
  if (iommufd && USER_STEPS.has(step)) return () => a.getU64(object, USER.lockedVm);
  return () => lockedVm(a, object);
}

function takeTraced(x: Execution, id: number, replay: ReplayStrategy, waits: Set<StepActor>): TraceRow {
  const a = x.arena;
  const actor = x.actors[id];
  if (actor === undefined) throw new Error(`no actor ${id}`);
  const { nextStep: step, nextObject: object } = actor;
  const standing = x.standings[id];
  const iommufd = x.variant.iommufd !== null;
  const mm = STEP_ACCESS[step]?.of === 'mm' ? object : 0;
  const counter = counterOf(a, step, mm, iommufd);
  const before = counter();
  const results = standing?.results.length ?? 0;
  const waited = waits.has(actor);
  let injected = '';
  x.take(id, (site) => {
    const happens = replay.fault();
    if (happens) injected = `${site} fails`;
    return happens;
  });
  if (actor.blocked) waits.add(actor);
  else waits.delete(actor);
  let fn = functionOf(step, object, iommufd) ?? 'start';
  let note = '';
  if (step === S.Syscall) {
    const op = standing === undefined ? undefined : x.plan.actors[id]?.ops[standing.op];
    fn = op === undefined ? fn : `> ${opText(op)}`;
  } else if (step === S.DownWriteTrylock) {
    note = a.get(mm, MM.semOwner) === actor.actor ? 'got it' : 'busy';
  } else if (step === S.LockedVmRead) {
    note = `is ${show(before)}`;
  } else if (before !== counter()) {
    note = `${show(before)} -> ${show(counter())}`;
  } else if (x.created.length > 0) {
    note = x.created.map((n) => x.actors[n]?.name).join(', ');
  } else if (actor.blocked && !(standing?.parked ?? false)) {
    note = waited ? 'waits on' : 'waits';
  } else if (waited) {
    const killed = step === S.DownWriteKillable && a.get(mm, MM.semOwner) !== actor.actor;
    note = killed ? 'interrupted' : 'has it now';
  }
  if (injected !== '') note = note === '' ? injected : `${note}, ${injected}`;
  const got = standing !== undefined && standing.results.length > results ? standing.results.at(-1) : undefined;
  return { step: x.depth, actor: actor.name, fn, note, result: got ?? null, local: isLocal(step) && note === '' };
}
