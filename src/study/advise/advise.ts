/**
 * How much memory a fleet must be allowed to lock: found by running the model, and set beside the formula that explains
 * it.
 *
 * A cell (variant, number of devices) is a search for the smallest limit at which few enough requests are refused. It
 * begins at what the formula says, so that where the two agree it is over after two simulations: the formula passes,
 * one page less does not.
 */
import { EXIT, UserError } from '../../base/errors.ts';
import type { StopSignal } from '../../base/stop-signal.ts';
import type { GuestPlan, RunPlan } from '../../engine/plan.ts';
import type { Variant } from '../../model/env.ts';
import { resolveVariant } from '../../model/kernels/index.ts';
import type { Setting } from '../../report/experiment.ts';
import { scenarioOf } from '../../run/scenario-file.ts';
import type { Override } from '../../scenario/overrides.ts';
import type { ParsedSource } from '../../scenario/source.ts';
import { plansOf, settingOf } from '../experiment.ts';
import { notesOf } from './advice-text.ts';
import type { Advice, Advised, Fleet } from './advice.ts';
import { formulaPages, payerOf, withDevices } from './formula.ts';
import { type Probe, probeAll, type Question, shareOf } from './probe.ts';

/** Beyond this (4 PiB) no limit helps. */
const LIMIT_MAX_PAGES = 2 ** 40;

export interface AdviseOptions {
  readonly variants: readonly string[];
  readonly devices: readonly number[];
  /** Share of requests that may be refused, 0 to 1. */
  readonly maxFailures: number;
  readonly repeat: number;
  readonly threads: number | undefined;
  readonly onProgress?: (done: number, of: number) => void;
  /** Set: what is not found by then is left out. */
  readonly stop?: StopSignal;
}

/** The probe of the smallest limit, and that of a page less. */
interface Found {
  readonly at: Probe;
  readonly below: Probe | null;
}

/** Asks for probes of limits until it knows the smallest one at which `ok` holds. Null: there is none. */
function* smallest(formula: number, ok: (probe: Probe) => boolean): Generator<number | null, Found, Probe> {
  let high: Probe;
  let low: Probe | null = null;
  const first = yield formula;
  const pagesOf = (probe: Probe): number => probe.limitPages as number;
  if (ok(first)) {
    high = first;
    for (let step = 1; low === null && pagesOf(high) > 0; step *= 2) {
      const probe: Probe = yield Math.max(0, pagesOf(high) - step);
      if (ok(probe)) high = probe;
      else low = probe;
    }
  } else {
    low = first;
    const most = yield LIMIT_MAX_PAGES;
    if (!ok(most)) return { at: yield null, below: null };
    high = most;
    for (let step = 1; pagesOf(low) + step < pagesOf(high); step *= 2) {
      const probe: Probe = yield pagesOf(low) + step;
      if (ok(probe)) high = probe;
      else low = probe;
    }
  }
  while (low !== null && pagesOf(high) - pagesOf(low) > 1) {
    const probe: Probe = yield Math.floor((pagesOf(low) + pagesOf(high)) / 2);
    if (ok(probe)) high = probe;
    else low = probe;
  }
  return { at: high, below: low };
}

/** The search for one limit. */
class Search implements Question, Fleet {
  readonly plans: readonly RunPlan[];
  readonly given: readonly GuestPlan[];
  readonly formulaPages: number;
  /** The limit to be tried next; null: none. */
  limitPages: number | null;
  #found: Found | null = null;
  #simulations = 0;
  readonly #setting: Setting;
  readonly #variant: Variant;
  readonly #devices: number;
  readonly #steps: ReturnType<typeof smallest>;

  constructor(setting: Setting, plans: readonly RunPlan[], devices: number, ok: (probe: Probe) => boolean) {
    const [first] = plans as readonly [RunPlan];
    this.#setting = setting;
    this.#variant = resolveVariant(first.variant);
    this.#devices = devices;
    this.given = first.guests;
    this.plans = plans.map((plan) => ({ ...plan, guests: plan.guests.map((guest) => withDevices(guest, devices)) }));
    this.formulaPages = Math.max(...this.plans.map((plan) => formulaPages(plan.guests, payerOf(this.#variant))));
    this.#steps = smallest(this.formulaPages, ok);
    this.limitPages = this.#steps.next().value as number | null;
  }

  get isOver(): boolean {
    return this.#found !== null;
  }

  /** What came of the limit to be tried. */
  tell(probe: Probe): void {
    this.#simulations += this.plans.length;
    const step = this.#steps.next(probe);
    if (step.done === true) this.#found = step.value;
    else this.limitPages = step.value;
  }

  /** Null: the search is not over. */
  advice(): Advice | null {
    if (this.#found === null) return null;
    return {
      variant: this.#variant.id,
      devices: this.#devices,
      payer: payerOf(this.#variant),
      limitPages: this.#found.at.limitPages,
      formulaPages: this.formulaPages,
      at: this.#found.at,
      below: this.#found.below,
      simulations: this.#simulations,
      seeds: this.plans.map(({ seed }) => seed),
      setting: this.#setting,
    };
  }
}

/** @throws UserError for a faulty scenario. */
export async function advise(
  source: ParsedSource,
  overrides: readonly Override[],
  { variants, devices, maxFailures, repeat, threads, onProgress, stop }: AdviseOptions,
): Promise<Advised> {
  const ok = (probe: Probe): boolean => shareOf(probe) <= maxFailures;
  const origin = { kind: 'flag', text: '--variants' } as const;
  const searches = variants.flatMap((name) => {
    const resolved = scenarioOf(source, [...overrides, { path: 'variant', value: name, origin }]);
    const planned = plansOf(resolved, repeat);
    // Where nothing is drawn, one seed stands for all.
    const plans = planned.random ? planned.plans : planned.plans.slice(0, 1);
    const [first] = plans as [RunPlan];
    // Devices that every guest has anyway make no row of their own.
    const least = Math.min(...first.guests.map(({ containers }) => containers));
    const rows = [...new Set(devices.map((n) => Math.max(n, least)))];
    return rows.map((n) => new Search(settingOf(first, planned.random), plans, n, ok));
  });
  for (;;) {
    // One round: the next probe of every search that is not over, side by side.
    const open = searches.filter((search) => !search.isOver);
    onProgress?.(searches.length - open.length, searches.length);
    if (open.length === 0) break;
    const probes = await probeAll(open, threads, stop);
    if (stop?.isSet === true) break;
    for (const [i, search] of open.entries()) search.tell(probes[i] as Probe);
  }
  const cells = searches.flatMap((search) => search.advice() ?? []);
  if (cells.length === 0) throw new UserError(EXIT.stopped, 'stopped by the user before a limit was found', null);
  const [plan] = searches[0]?.plans ?? [];
  const seeds = searches[0]?.plans.map(({ seed }) => seed) ?? [];
  const facts = { name: plan?.name ?? '', guests: plan?.guests.length ?? 0, seeds, cells, wanted: searches.length };
  return { ...facts, notes: notesOf(cells, searches, ok) };
}
