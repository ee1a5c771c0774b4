/** What is found out about the limits of a fleet. */
import type { GuestPlan, RunPlan } from '../../engine/plan.ts';
import type { Setting } from '../../report/experiment.ts';
import type { Payer } from './formula.ts';
import type { Probe } from './probe.ts';

export interface Advice {
  readonly variant: string;
  /** Devices of a guest, each in a container of its own; a guest of which the scenario has more has those. */
  readonly devices: number;
  readonly payer: Payer;
  /** The smallest limit in pages; null: no limit suffices, not even unlimited. */
  readonly limitPages: number | null;
  readonly formulaPages: number;
  /** Under that limit; where there is none, under no limit at all. */
  readonly at: Probe;
  /** One page less; null where the limit is 0 or there is none. */
  readonly below: Probe | null;
  /** Simulations of the whole fleet it took. */
  readonly simulations: number;
  readonly seeds: readonly number[];
  readonly setting: Setting;
}

export interface Advised {
  readonly name: string;
  readonly guests: number;
  readonly seeds: readonly number[];
  readonly cells: readonly Advice[];
  /** Limits that were asked for; fewer `cells`: it was stopped. */
  readonly wanted: number;
  /** Said below the table. */
  readonly notes: readonly string[];
}

/** The fleet of one row. */
export interface Fleet {
  /** With the devices of the row, one plan for each seed. */
  readonly plans: readonly RunPlan[];
  /** Guests as the scenario has them. */
  readonly given: readonly GuestPlan[];
  readonly formulaPages: number;
}
