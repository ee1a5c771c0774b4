/** Values of a scenario that may be drawn for each guest. */
import { z } from 'zod';
import { formatBytes } from '../base/units-text.ts';
import type { Bytes } from '../base/units.ts';

/** A value that may be drawn for each guest. */
export type Distribution<T> =
  | { readonly kind: 'fixed'; readonly value: T }
  | { readonly kind: 'choose'; readonly values: readonly T[]; readonly weights: readonly number[] }
  | { readonly kind: 'uniform'; readonly min: T; readonly max: T; readonly step: T };

type Text = string | number;
type Issues = { readonly issues: unknown[] };

/** Reports a fault at `path` below the value being checked. */
export function report(
  context: Issues,
  path: readonly (string | number)[],
  input: unknown,
  message: string,
  hint: string,
): void {
  context.issues.push({ code: 'custom', message, input, path: [...path], params: { hint } });
}

export function fixedOrChosen<T, I>(inner: z.ZodType<T, I>) {
  const choose = z
    .strictObject({
      choose: z.array(inner).min(1).max(64).describe('The values to draw from.'),
      weights: z
        .array(z.number().positive())
        .optional()
        .describe('Relative weight of each value; equal when left out.'),
    })
    .check((context) => {
      const { choose: values, weights } = context.value;
      if (weights !== undefined && weights.length !== values.length) {
        const message = `choose has ${values.length} values, weights has ${weights.length}`;
        report(context, ['weights'], weights, message, 'give one weight for each value of choose, or none at all');
      }
    })
    .transform(({ choose: values, weights }): Distribution<T> => ({
      kind: 'choose',
      values,
      weights: weights ?? values.map(() => 1),
    }));
  return [inner.transform((value): Distribution<T> => ({ kind: 'fixed', value })), choose] as const;
}

export function drawnSize(inner: z.ZodType<Bytes, Text>) {
  const uniform = z
    .strictObject({
      uniform: z.tuple([inner, inner]).describe('Smallest and largest value, both included.'),
      step: inner.prefault('4KiB').describe('Distance between two neighbouring values.'),
    })
    .check((context) => {
      const [min, max] = context.value.uniform;
      if (max < min) {
        const hint = `write [${formatBytes(max)}, ${formatBytes(min)}]`;
        report(context, ['uniform'], context.value.uniform, 'the range is upside down', hint);
      }
      if (context.value.step <= 0)
        report(context, ['step'], context.value.step, 'the step is 0', 'write for example 4KiB');
    })
    .transform(({ uniform: [min, max], step }): Distribution<Bytes> => ({ kind: 'uniform', min, max, step }));
  return z.union([...fixedOrChosen(inner), uniform]);
}

/** Every value the distribution's checks must hold for: all of a choice, both kinds of end of a range. */
export function extremes<T>(distribution: Distribution<T>): readonly T[] {
  if (distribution.kind === 'fixed') return [distribution.value];
  if (distribution.kind === 'choose') return distribution.values;
  return [distribution.min, distribution.max];
}
