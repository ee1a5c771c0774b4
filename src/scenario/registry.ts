/** What a scenario may name: variants, profiles, workloads, invariants, fault sites and metrics. Injected, so that the
 * scenario is checked against what this program really has, and tests can bring their own. */
import type { z } from 'zod';
import type { Json, MemoryPlan, RunPlan } from '../engine/plan.ts';
import type { GuestSetting, Refusal } from '../guest/workload/workload.ts';

export interface WorkloadInfo {
  readonly name: string;
  /** One line, for the documentation. */
  readonly summary: string;
  /** Its options; inputs are text with units, outputs numbers in base units. */
  readonly options: z.ZodType;
  /** The operations it performs. */
  readonly ops: readonly string[];
  /** It takes random numbers while it runs. Left out: it does the same under every seed. */
  readonly draws?: true;
  /** Pages one actor holds locked at most, if every operation succeeds; none when left out. */
  peakPages?(options: { readonly [key: string]: Json }, memory: MemoryPlan): number;
}

export interface ThresholdInfo {
  readonly ops: readonly string[] | null;
  /** It is of errors, over the whole run. */
  readonly errors: boolean;
  readonly mayBeEmpty: boolean;
  /** What a variant must do for it to be measured, as in 'variant E never defers an update'; null: nothing. */
  readonly needs: 'defers an update' | 'tries a lock' | null;
  /** It is never measured in simulated time. */
  readonly wallClock: boolean;
  /** Outcomes that a threshold of errors does not count as errors. */
  readonly expected: readonly string[];
}

export interface Registry {
  /** Canonical id of a variant, for `E`, `e` or `4.10`. @throws Error that names the nearest. */
  resolveVariant(name: string): string;
  /** What users should know about what that name stands for; null: nothing. */
  variantNote(name: string): string | null;
  readonly variants: readonly string[];
  readonly profiles: Pick<ReadonlyMap<string, RunPlan['profile']>, 'keys' | 'has' | 'get'>;
  readonly workloads: ReadonlyMap<string, WorkloadInfo>;
  /** What of a class of guests can only fail under a variant. */
  refusals(guest: GuestSetting, variant: string): readonly Refusal[];
  readonly invariants: readonly string[];
  readonly faultSites: readonly string[];
  /** Errors that the statistics tell apart, as errno names to outcomes; `other_error` is every other one. */
  readonly errors: ReadonlyMap<string, string>;
  /** Operations whose errors can be expected or judged. */
  readonly ops: readonly string[];
  /**
   * Reads a threshold, whose operations are null when it is of something else. @throws Error, with a `hint` when there
   * is one, that says what is wrong with it.
   */
  checkThreshold(metric: string, expression: string, stages: readonly string[]): ThresholdInfo;
  /** Whether a variant holds anybody to RLIMIT_MEMLOCK. */
  limits(variant: string): boolean;
  /** Whether a variant holds users to it: the guests of one share a quota. */
  limitsUsers(variant: string): boolean;
  /** Whether a variant ever tries a lock, and defers an update when it fails. */
  defers(variant: string): boolean;
}
