/** A driver thread: one long Piscina task that runs the wall driver's loop until the run is over. */
import { performance } from 'node:perf_hooks';
import { receiveMessageOnPort } from 'node:worker_threads';
import { stream } from '../base/prng.ts';
import { stepCosts } from '../engine/profile.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import { WallControl } from '../engine/wall/wall-control.ts';
import { WallLoop } from '../engine/wall/wall-loop.ts';
import { StatsBlock } from '../metrics/stats.ts';
import { AddressSpace } from '../model/address-space/address-space.ts';
import { Arena, type Ref } from '../model/arena.ts';
import { FAULT_SITES, type FaultSite, type Path } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { type InvariantName, INVARIANTS, Oracle } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';
import { actorPath, nothing } from './actor-path.ts';
import type { FromThread, ThreadTask, ToThread } from './thread-messages.ts';
import { warmUp } from './warm-up.ts';

/** An idle thread looks at its port at least this often. */
const IDLE_MS = 100;

/** Violations of one invariant that a thread tells in full. */
const VIOLATIONS_TOLD = 16;

/** The task Piscina runs. Returns when the control block says stop and no actor is left. */
export function run(task: ThreadTask): void {
  const { plan, port } = task;
  const send = (message: FromThread): void => port.postMessage(message);
  const arena = Arena.attach(task.arena, task.capacity);
  const control = WallControl.attach(task.control.buffer, task.control.threads, task.control.ringCells);
  const variant = resolveVariant(plan.variant);
  const oracle = new Oracle(arena);
  // A racing scenario violates an invariant thousands of times: the first of each kind are told, all are counted.
  oracle.onViolation = (violation) => {
    if (oracle.counts[violation.invariant] <= VIOLATIONS_TOLD) send({ type: 'violation', violation });
  };
  const counted = { ...oracle.counts };
  const newlyCounted = (): Partial<Record<InvariantName, number>> => {
    const out: Partial<Record<InvariantName, number>> = {};
    for (const name of INVARIANTS) {
      const more = oracle.counts[name] - counted[name];
      if (more > 0) out[name] = more;
      counted[name] = oracle.counts[name];
    }
    return out;
  };
  const shared: WallShared = {
    arena,
    control,
    thread: task.thread,
    stats: new StatsBlock(statsLayout(plan), task.stats.buffer, task.stats.byteOffset),
    variant,
    oracle,
    addressSpace: new AddressSpace(arena, variant.gup),
    costNs: plan.pace === 0 ? stepCosts(zeroCosts(plan.profile.costNs)) : stepCosts(plan.profile.costNs),
    pace: plan.pace,
    epochMs: performance.now(),
    onMark: (guest, incarnation, label, value) => send({ type: 'mark', guest, incarnation, label, value }),
  };
  warmUp(shared);
  const rates = new Map<FaultSite, number>();
  for (const site of FAULT_SITES) {
    const rate = plan.faults[site];
    if (rate !== undefined && rate > 0) rates.set(site, rate);
  }

  /** What each actor does now: its workload, or its exit. Also the first error of its workload. */
  const exiting = new Set<Ref>();
  const errors = new Map<Ref, string>();
  const parked = new Map<Ref, WallActor>();
  const loop = new WallLoop(shared, (actor) => {
    if (exiting.delete(actor.actor)) {
      // A wake-up that came late must be out of the mailbox before the main thread frees the actor.
      loop.collect();
      send({ type: 'exited', guest: actor.guest, actor: actor.actor, violations: newlyCounted() });
      return;
    }
    parked.set(actor.actor, actor);
    send({
      type: 'parked',
      guest: actor.guest,
      actor: actor.actor,
      operations: actor.operations,
      failedOperations: actor.failedOperations,
      error: errors.get(actor.actor) ?? null,
      violations: newlyCounted(),
    });
    errors.delete(actor.actor);
  });

  /** A workload's exception ends its actor, not the thread. */
  function* guarded(actor: WallActor, path: Path<void>): Path<void> {
    try {
      yield* path;
    } catch (error) {
      errors.set(actor.actor, error instanceof Error ? error.message : String(error));
    }
  }

  function handle(message: ToThread): void {
    if (message.type === 'exit') {
      for (const ref of message.actors) {
        const actor = parked.get(ref);
        if (actor === undefined) continue;
        parked.delete(ref);
        exiting.add(ref);
        loop.add(actor, guarded(actor, doExit(actor)), actor.clockNs());
      }
      return;
    }
    const { guest } = message;
    // Both clocks are monotonic: a jump of the machine's time of day moves nothing.
    shared.epochMs = performance.now() + message.runStartMs - Number(process.hrtime.bigint()) / 1e6;
    for (const built of message.actors) {
      const faults = rates.size === 0 ? null : { rate: rates, random: stream(guest.seed, `faults.${built.index}`) };
      const driver = new WallActor(
        shared,
        built.actor,
        built.task,
        guest.index,
        message.incarnation,
        message.guestMm,
        faults,
      );
      const work = actorPath(driver, guest, built.index, message.runEndNs, message);
      if (work === null) loop.add(driver, nothing(), 0);
      else loop.add(driver, guarded(driver, work.path), Math.max(work.startNs, driver.clockNs()));
    }
  }

  send({ type: 'ready' });
  for (;;) {
    if (control.takeMessageFlag(task.thread)) {
      for (let m = receiveMessageOnPort(port); m !== undefined; m = receiveMessageOnPort(port)) {
        handle((m as { message: ToThread }).message);
      }
    }
    const rest = loop.turn();
    if (control.stopLevel === 2 && loop.actors === 0) break;
    if (rest > 0) loop.wait(rest, IDLE_MS);
  }
  port.close();
}

function zeroCosts(costNs: { readonly [primitive: string]: number }): Record<string, number> {
  return Object.fromEntries(Object.keys(costNs).map((name) => [name, 0]));
}
