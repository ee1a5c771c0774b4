/**
 * Arrival models: when the next iteration of an actor is meant to start. Closed models wait for the last iteration,
 * open ones do not, so under overload their latency from the intended start shows the queue that users would stand in.
 */
import type { Prng } from '../../base/prng.ts';
import type { Arrival } from '../../engine/actor.ts';
import type { ArrivalPlan } from '../../engine/plan.ts';
import { burst } from './burst.ts';
import { closed } from './closed.ts';
import { constant } from './constant.ts';
import { poisson } from './poisson.ts';
import { ramp } from './ramp.ts';

/** `startNs`: when the actor starts. @throws RangeError for options the planner should have refused. */
export function arrivalOf(plan: ArrivalPlan, startNs: number, random: Prng): Arrival {
  const number = (key: string, fallback?: number): number => {
    const value = plan.options[key] ?? fallback;
    if (value === undefined || !(value >= 0)) throw new RangeError(`arrival ${plan.kind}: '${key}' must be a number`);
    return value;
  };
  const arrivals: Record<ArrivalPlan['kind'], () => Arrival> = {
    closed: () => closed(startNs, number('thinkNs', 0)),
    constant: () => constant(startNs, number('perSecond')),
    poisson: () => poisson(startNs, number('perSecond'), random),
    ramp: () => ramp(startNs, number('fromPerSecond'), number('toPerSecond'), number('overNs')),
    burst: () => burst(startNs, number('operations'), number('everyNs')),
  };
  return arrivals[plan.kind]();
}
