/** The one interface of all strategies, and of what wraps them. */
import type { FaultSite } from '../../model/env.ts';
import type { Execution } from './execution.ts';
import type { Footprint } from './footprint.ts';

export interface Strategy {
  readonly name: string;
  /** Before each execution. False: there is nothing left to try. */
  begin(): boolean;
  /** The id of the enabled actor that goes next; -1: this execution can show nothing new. */
  pick(x: Execution, enabled: readonly number[]): number;
  /** Whether the fault happens that may happen now. */
  fault(x: Execution, site: FaultSite): boolean;
  /** A step has been taken. */
  took?(x: Execution, footprint: Readonly<Footprint>): void;
  /** The execution is over, or was given up. */
  end?(x: Execution): void;
  /** Whether the step at this depth is executed for the first time; always, where it is left out. */
  isFresh?(depth: number): boolean;
  /** The execution under way repeats the one before it and counts for nothing. */
  readonly repeating?: boolean;
  /** What kept the search from being complete; null: nothing did. */
  bound(): string | null;
  /** One line for people: what this strategy promises. Known only after the last execution. */
  promise?(): string;
}

/** The actor that went last if it can go on, otherwise the first: the schedule with the fewest switches. */
export function goOn(x: Execution, enabled: readonly number[]): number {
  return enabled.includes(x.current) ? x.current : (enabled[0] as number);
}
