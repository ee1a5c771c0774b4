/** The variants, oldest first, and how users name them. Adding one: write its file, list it here. */
import { closest } from 'fastest-levenshtein';
import { A } from './a.ts';
import { B } from './b.ts';
import { C } from './c.ts';
import { D } from './d.ts';
import { E } from './e.ts';
import { E2 } from './e2.ts';
import { F } from './f.ts';
import { G } from './g.ts';
import { H, STABLE_6_1 } from './h.ts';
import { H2 } from './h2.ts';
import type { Variant } from './variant.ts';

export const VARIANTS: readonly Variant[] = [A, B, C, D, E, E2, F, G, STABLE_6_1, H, H2];

/** Thrown for a name that is neither a variant nor a kernel version that one covers. */
export class UnknownVariantError extends Error {
  constructor(
    readonly given: string,
    readonly suggestion: string,
  ) {
    super(`unknown variant '${given}'; did you mean '${suggestion}'?`);
    this.name = 'UnknownVariantError';
  }
}

function versionNumber(v: string): number {
  const m = /^(\d+)\.(\d+)(?:\.(\d+))?(?:-rc(\d+))?$/.exec(v);
  if (m === null) return Number.NaN;
  const [, major, minor, patch, rc] = m;
  // A release candidate comes before its release.
  return Number(major) * 1e9 + Number(minor) * 1e6 + Number(patch ?? 0) * 1e3 + (rc === undefined ? 999 : Number(rc));
}

/** Upper end of a range: `4.11` covers every 4.11.x. */
function endNumber(v: string): number {
  return /^\d+\.\d+$/.test(v) ? versionNumber(v) + 999_999 - 999 : versionNumber(v);
}

/**
 * The variant for `E`, `e2`, `linux-4.10`, `6.12` or `4.10-rc1`. A version names what that release shipped; a more exact
 * entry wins over a range. Throws UnknownVariantError.
 */
export function resolveVariant(name: string): Variant {
  const byId = VARIANTS.find((v) => v.id.toLowerCase() === name.toLowerCase());
  if (byId !== undefined) return byId;
  const version = name
    .toLowerCase()
    .replace(/^(linux|kernel)-?/, '')
    .replace(/^v/, '');
  const n = versionNumber(version);
  if (!Number.isNaN(n)) {
    let best: Variant | null = null;
    let width = Number.POSITIVE_INFINITY;
    for (const v of VARIANTS) {
      for (const [first, last] of v.versions) {
        const lo = versionNumber(first) - (first.includes('-rc') || first.split('.').length > 2 ? 0 : 999);
        const hi = last === null ? Number.POSITIVE_INFINITY : endNumber(last);
        if (n >= lo && n <= hi && hi - lo < width) {
          best = v;
          width = hi - lo;
        }
      }
    }
    if (best !== null) return best;
  }
  throw new UnknownVariantError(
    name,
    closest(
      name.toUpperCase(),
      VARIANTS.map((v) => v.id),
    ),
  );
}
