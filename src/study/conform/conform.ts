/** `pinstorm conform`: which transcripts to replay, against which variant, and what to say about them. */
import { EXIT, UserError } from '../../base/errors.ts';
import { oneLine } from '../../base/printable.ts';
import type { Variant } from '../../model/env.ts';
import { resolveVariant, UnknownVariantError } from '../../model/kernels/index.ts';
import { type Difference, replay } from './replay.ts';
import type { Transcript } from '../../transcript/transcript.ts';

/** The variant of the kernel that a transcript was recorded on. @throws UserError */
export function recordedVariant(transcript: Transcript): Variant {
  const { kernel } = transcript.header;
  const version = /^\d+\.\d+/.exec(kernel)?.[0];
  try {
    return resolveVariant(version ?? kernel);
  } catch (error) {
    if (!(error instanceof UnknownVariantError)) throw error;
    throw new UserError(
      EXIT.invalid,
      `${transcript.file}:1: kernel: no variant is known for ${JSON.stringify(kernel)}`,
      'say which one with --variant',
    );
  }
}

/** Replays a transcript. Null when the model agrees. `variant` null = the one it was recorded on. */
export function conform(transcript: Transcript, variant: Variant | null): Difference | null {
  return replay(transcript, variant ?? recordedVariant(transcript));
}

/** The first difference of a transcript, for people: place, operation, expected and got. */
export function describeDifference(file: string, difference: Difference): string {
  const { operation, differences } = difference;
  const width = Math.max(...differences.map((d) => d.field.length));
  const rows = differences.map(
    ({ field, expected, got }) =>
      `  ${field.padEnd(width)}  expected ${oneLine(expected)}\n  ${' '.repeat(width)}  got      ${oneLine(got)}\n`,
  );
  return `${file}:${operation.line}: ${operation.action.op} by ${operation.actor} differs\n  ${operation.text}\n${rows.join('')}`;
}
