/**
 * What a guest's actors do. One workload a file; each is a generator over kernel paths, so it runs under every driver.
 */
import type { z } from 'zod';
import { formatBytes } from '../../base/units-text.ts';
import { asBytes } from '../../base/units.ts';
import type { OptionKinds } from '../../base/zod-units.ts';
import type { Actor } from '../../engine/actor.ts';
import type { ActorPlan, GuestPlan } from '../../engine/plan.ts';
import type { OpName } from '../../metrics/ops.ts';
import type { Path, Variant } from '../../model/env.ts';

/** What one actor of a workload needs of the arena, at most. */
export interface Needs {
  readonly mappings: number;
  /** Pieces its memory can fall into. */
  readonly segments: number;
  /** It forks: a process more, and a copy of what describes the guest's memory. */
  readonly forks?: boolean;
  /** Pages an mdev driver can hold. */
  readonly externalPages: number;
  /** Pages it maps at most, counted once per mapping; left out: few. */
  readonly mappedPages?: number;
}

/** An actor of a class of guests, before a plan is made. */
export interface ActorSetting {
  readonly name: string;
  readonly count: number;
  /** Every guest of the class has it. */
  readonly always: boolean;
  readonly task: ActorPlan['task'];
  readonly workload: string;
  /** Valid for the workload. */
  readonly options: ActorPlan['options'];
}

/** A class of guests, as far as it decides what can work. */
export interface GuestSetting {
  /** Smallest and largest buffer. */
  readonly memoryBytes: readonly [smallest: number, largest: number];
  /** The page of its memory that cannot be split: that of hugetlb, else 4 KiB; of several backings the largest. */
  readonly pageBytes: number;
  readonly iommu: GuestPlan['iommu'];
  readonly containers: number;
  readonly mdev: 'none' | NonNullable<GuestPlan['mdev']>;
  readonly actors: readonly ActorSetting[];
}

/** Why something can only fail, and how to change that. */
export interface Refusal {
  /** Where it is written, below the class of guests. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly hint: string;
}

export interface Setting {
  readonly variant: Variant;
  readonly guest: GuestSetting;
  readonly actor: ActorSetting;
}

export interface Workload<O = unknown> {
  readonly name: string;
  /** One line for lists and editors. */
  readonly summary: string;
  /** Their schema, made of what it is given: the threads that run workloads get valid options and load no zod. */
  options(kinds: OptionKinds): z.ZodObject<z.ZodRawShape> & z.ZodType<O, unknown>;
  /** The operations it performs under some option. */
  readonly ops: readonly OpName[];
  /** A kernel thread can do it. Left out: it needs the memory or the descriptors of a process. */
  readonly kthread?: true;
  /** It takes numbers from `actor.random`. Left out: it does the same under every seed. */
  readonly draws?: true;
  /** The option that is the index of the container it works on. */
  readonly container?: 'container' | 'part';
  /** It closes its container. */
  readonly closes?: true;
  /** What of it can only fail in that setting; the path begins at the actor. */
  refuse?(options: O, setting: Setting): Refusal | null;
  needs(options: O, guest: GuestPlan): Needs;
  /** Runs until the actor is told to stop or the work is done. */
  run(actor: Actor, options: O): Path<void>;
}

/** A fault of one option. */
export const refused = (option: string, message: string, hint: string): Refusal => ({
  path: ['options', option],
  message,
  hint,
});

/** Why there is no mdev under a variant. */
export function noMdev(variant: Variant): Omit<Refusal, 'path'> {
  const message =
    variant.iommufd === null
      ? `variant ${variant.id} (${variant.kernels}) has no mdev: it came with 4.10`
      : `variant ${variant.id} (${variant.kernels}) has no mdev: drivers pin through an access of iommufd, which is not modelled`;
  return { message, hint: 'use a variant of type1 from B (4.10-rc1) on, or take the mdev out' };
}

/** MADV_DONTNEED takes whole pages of hugetlb (EINVAL). */
export function partOfPage(option: string, bytes: number, { pageBytes }: GuestSetting): Refusal | null {
  if (bytes % pageBytes === 0) return null;
  const [size, page] = [formatBytes(asBytes(bytes)), formatBytes(asBytes(pageBytes))];
  const whole = formatBytes(asBytes(Math.ceil(bytes / pageBytes) * pageBytes));
  return refused(
    option,
    `${size} is not a multiple of the ${page} page of the guest's memory`,
    `write for example ${whole}`,
  );
}

/** Ties a workload's options to its schema; the registry itself forgets the type again. */
export function workload<O>(w: Workload<O>): Workload {
  return w as unknown as Workload;
}
