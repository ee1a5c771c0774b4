/** Long computations on the main thread, with pauses in which signals are heard. */
import { setImmediate } from 'node:timers/promises';

/** How long it may go on between two pauses, ms. */
const TURN_MS = 20;

/** Runs `steps` to its end and gives back what it returns. */
export async function unhurried<T>(steps: Generator<void, T, void>): Promise<T> {
  let turnMs = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (performance.now() - turnMs < TURN_MS) continue;
    await setImmediate();
    turnMs = performance.now();
  }
}
