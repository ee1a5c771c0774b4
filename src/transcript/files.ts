/** Which files the user means by paths of transcripts. */
import { readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { EXIT, UserError } from '../base/errors.ts';
import type { InputKind } from '../console/input.ts';
import { locateInput } from '../console/shipped.ts';

/** Files of transcripts, for `readInput`. */
export const TRANSCRIPT: InputKind = {
  what: 'transcript',
  example: 'recordings',
  smaller: 'split it',
  maxBytes: 64 * 1024 ** 2,
};

const HINT = 'name transcripts or a directory of them, for example recordings';

export interface TranscriptFile {
  readonly path: string;
  /** Its path below the directory that the user named, or else its last part. */
  readonly name: string;
}

/** Each file as it is, of a directory everything below it that ends in .jsonl, in order of name. @throws UserError */
export function transcriptFiles(paths: readonly string[]): readonly TranscriptFile[] {
  return paths.flatMap((given) => {
    const { path } = locateInput(given);
    // What is no directory, or not there, is told when it is read.
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return [{ path, name: basename(path) }];
    const names = readdirSync(path, { recursive: true, encoding: 'utf8' });
    const files = names.filter((name) => name.endsWith('.jsonl')).sort();
    if (files.length === 0)
      throw new UserError(EXIT.invalid, `${path}: no transcript (*.jsonl) in this directory`, HINT);
    return files.map((name) => ({ path: join(path, name), name }));
  });
}
