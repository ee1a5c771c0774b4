/** The variants, oldest first, and how users name them. Adding one: write its file, list it here. */
import { nearest } from '../../base/suggest.ts';
import type { Variant } from '../env.ts';
import { A } from './a-3.6.ts';
import { B } from './b-4.10-rc1.ts';
import { C } from './c-proposed-flag.ts';
import { D } from './d-4.10.ts';
import { E, STABLE_4_10, STABLE_4_14 } from './e-4.12.ts';
import { E2, EARLY_E2 } from './e2-4.18.ts';
import { EARLY_F, F, LATE_F } from './f-5.3.ts';
import { G } from './g-5.12.ts';
import { H, STABLE_6_1 } from './h-6.3.ts';
import { H2 } from './h2-6.18.ts';
import { I, I_COMPAT, I_MM, I_NONE } from './i-iommufd.ts';
import { J, J_CACHE, J_CAS } from './j-proposed-atomic.ts';

export const VARIANTS: readonly Variant[] = [
  A,
  B,
  C,
  D,
  STABLE_4_10,
  E,
  STABLE_4_14,
  EARLY_E2,
  E2,
  EARLY_F,
  F,
  LATE_F,
  G,
  STABLE_6_1,
  H,
  H2,
  I,
  I_MM,
  I_COMPAT,
  I_NONE,
  J,
  J_CAS,
  J_CACHE,
];

/** Other names, in lower case. */
const ALIASES: Readonly<Record<string, string>> = { 'i-user': 'i', iommufd: 'i' };

/** Thrown for a name that is neither a variant nor a kernel version that one covers. */
export class UnknownVariantError extends Error {
  override readonly name = 'UnknownVariantError';
  readonly hint = 'pinstorm variants lists them and their kernels';
}

interface Version {
  /** Orders versions; a release candidate comes before its release. */
  readonly number: number;
  readonly exact: boolean;
  readonly major: number;
  readonly minor: number;
}

/** `4.10`, `4.10.17`, `4.10-rc1`; what distributions append (`6.1.0-18-amd64`) is left out. Null for anything else. */
function parseVersion(text: string): Version | null {
  const m = /^(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?(?:-rc(\d{1,2}))?(?:[-+~].*)?$/.exec(text);
  if (m === null) return null;
  const [, major, minor, patch, rc] = m;
  const number =
    Number(major) * 1e9 +
    Number(minor) * 1e6 +
    (Number(patch ?? 0) + 1) * 100 +
    (rc === undefined ? 0 : Number(rc) - 100);
  const exact = patch !== undefined || rc !== undefined;
  return { number, exact, major: Number(major), minor: Number(minor) };
}

/** First and last number of a range: `4.11` begins with its first release candidate and covers every 4.11.x. */
function bounds(first: string, last: string | null): [low: number, high: number] {
  const low = parseVersion(first);
  const high = last === null ? null : parseVersion(last);
  if (low === null || (last !== null && high === null)) throw new RangeError(`variant range ${first} to ${last}`);
  return [
    low.exact ? low.number : low.number - 100,
    high === null ? Infinity : high.exact ? high.number : high.number + 999_899,
  ];
}

/** The newest kernel whose text the model was made from. */
const NEWEST_NAME = '7.1';
const [, NEWEST] = bounds(NEWEST_NAME, NEWEST_NAME);

/** The last release of each series: after 4.20 came 5.0. */
const LAST_MINOR: Readonly<Record<number, number>> = { 3: 19, 4: 20, 5: 19, 6: 19 };

/** Series go up to 19 or 20, so the one after the newest may begin while this program is in use, but not the next. */
const MINOR_MAX = 20;
const MAJOR_MAX = 8;

/** @throws UnknownVariantError for a version that there never was, or cannot be yet. */
function checkReleased(name: string, { major, minor }: Version): void {
  const last = LAST_MINOR[major];
  if (last !== undefined && minor > last)
    throw new UnknownVariantError(`there is no kernel ${name}: after ${major}.${last} came ${major + 1}.0`);
  if (major <= MAJOR_MAX && minor <= MINOR_MAX) return;
  throw new UnknownVariantError(`there is no kernel ${name} yet: the newest the model knows is ${NEWEST_NAME}`);
}

/** The version in `linux-4.10` or `v6.12`. Null for the name of a variant, or anything else. */
function versionNamed(name: string): Version | null {
  const wanted = name.trim().toLowerCase();
  if (VARIANTS.some((v) => v.id.toLowerCase() === (ALIASES[wanted] ?? wanted))) return null;
  return parseVersion(wanted.replace(/^(?:linux|kernel)?[- ]?v?/, ''));
}

/**
 * The variant for `E`, `e2`, `linux-4.10`, `6.12` or `4.10-rc1`. A version names what that release shipped; a more
 * exact entry wins over a range. @throws UnknownVariantError with a message for the user.
 */
export function resolveVariant(name: string): Variant {
  const wanted = name.trim().toLowerCase();
  const byId = VARIANTS.find((v) => v.id.toLowerCase() === (ALIASES[wanted] ?? wanted));
  if (byId !== undefined) return byId;
  const version = versionNamed(wanted);
  if (version === null) {
    const ids = VARIANTS.map((v) => v.id);
    const near = nearest(name, ids);
    throw new UnknownVariantError(
      `unknown variant '${name}'${near === null ? '.' : `; did you mean '${near}'?`} There are ${ids.join(', ')}, and kernel ` +
        'versions such as 4.10 or linux-6.12',
    );
  }
  checkReleased(name, version);
  let best: Variant | null = null;
  let width = Infinity;
  for (const v of VARIANTS) {
    for (const [first, last] of v.versions) {
      const [low, high] = bounds(first, last);
      if (version.number < low || version.number > high || (best !== null && high - low >= width)) continue;
      best = v;
      width = high - low;
    }
  }
  if (best !== null) return best;
  if (version.number > NEWEST) return H2;
  const oldest = VARIANTS[0] as Variant;
  throw new UnknownVariantError(
    `no variant models kernel ${name}: the oldest is ${oldest.id} (${oldest.kernels}), because VFIO came with Linux 3.6`,
  );
}

/**
 * What users should know about the variant that a name stands for: that its kernel is newer than the model. Null:
 * nothing.
 */
export function variantNote(name: string): string | null {
  const version = versionNamed(name);
  if (version === null || version.number <= NEWEST) return null;
  const { id, kernels } = resolveVariant(name);
  return `kernel ${name} is newer than the model, which knows Linux up to ${NEWEST_NAME}: taken as ${id} (${kernels})`;
}
