/** `pinstorm conform`: which transcripts to replay, against which variant, and what to say about them. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, UserError } from '../../base/errors.ts';
import { locateInput } from '../../console/shipped.ts';
import type { Variant } from '../../model/env.ts';
import { resolveVariant, UnknownVariantError } from '../../model/kernels/index.ts';
import { type Difference, replay } from './replay.ts';
import type { Transcript } from '../../transcript/transcript.ts';

const RECORDINGS_HINT = 'name transcripts or a directory of them, for example recordings';

/**
 * The files to replay: each file as it is, of a directory everything below it that ends in .jsonl, in order of name.
 */
export function transcriptFiles(paths: readonly string[]): string[] {
  return paths.flatMap((given) => {
    const { path } = locateInput(given);
    // What is no directory, or not there, is told when it is read.
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return [path];
    const names = readdirSync(path, { recursive: true, encoding: 'utf8' });
    const files = names.filter((name) => name.endsWith('.jsonl')).sort();
    if (files.length === 0)
      throw new UserError(EXIT.invalid, `${path}: no transcript (*.jsonl) in this directory`, RECORDINGS_HINT);
    return files.map((name) => join(path, name));
  });
}

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
      `  ${field.padEnd(width)}  expected ${expected}\n  ${' '.repeat(width)}  got      ${got}\n`,
  );
  return `${file}:${operation.line}: ${operation.action.op} by ${operation.actor} differs\n  ${operation.text}\n${rows.join('')}`;
}
