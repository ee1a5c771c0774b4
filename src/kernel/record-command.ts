/** `pinstorm record`: from the files to the recordings. Everything is checked before anything is opened. */
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { plural } from '../base/plural.ts';
import { writeFailure } from '../base/write-failure.ts';
import { readInput } from '../console/input.ts';
import type { Interrupts } from '../console/interrupts.ts';
import { print } from '../console/output.ts';
import { makeDirectory, tryDirectory } from '../report/place.ts';
import { TRANSCRIPT, transcriptFiles } from '../transcript/files.ts';
import { randomSequences } from '../transcript/random.ts';
import { parseSequence, type Sequence } from '../transcript/transcript.ts';
import { readHost } from './host.ts';
import { checkPossible } from './possible.ts';
import { recordAll } from './record-all.ts';
import { type Claim, claim, type Request } from './safety.ts';

export interface RecordRequest {
  readonly paths: readonly string[];
  readonly request: Request;
  readonly out: string;
  /** Number of random operations; then there are no paths. */
  readonly random: number | undefined;
  readonly seed: number;
  readonly limitMs: number;
}

/** A sequence, and where its recording goes below --out. */
interface Planned {
  readonly name: string;
  readonly sequence: Sequence;
}

export async function recordCommand(asked: RecordRequest, interrupts: Interrupts): Promise<ExitCode> {
  const allowed = claim(readHost(), asked.request);
  const planned = asked.random === undefined ? await fromFiles(asked.paths) : drawn(asked.random, asked.seed, allowed);
  checkAll(planned, allowed);
  const made = emptyDirectory(asked.out);
  let operations = 0;
  let files = 0;
  const recording = recordAll({
    claim: allowed,
    memoryBytes: asked.request.memoryBytes,
    sequences: planned.map(({ sequence }) => sequence),
    limitMs: asked.limitMs,
    recorded(index, text) {
      const { name, sequence } = planned[index] as Planned;
      write(join(asked.out, name), text);
      files += 1;
      operations += sequence.steps.length;
    },
  });
  interrupts.defer(() => recording.kill());
  try {
    await recording.done;
  } catch (error) {
    if (made && files === 0) rmSync(asked.out, { recursive: true });
    throw error;
  }
  print(
    `recorded ${plural(files, 'sequence')} with ${operations} operations on ${allowed.host.release} in ${asked.out}\n` +
      `pinstorm conform ${asked.out} compares the model with them\n`,
  );
  return EXIT.ok;
}

async function fromFiles(paths: readonly string[]): Promise<readonly Planned[]> {
  const planned: Planned[] = [];
  const names = new Set<string>();
  for (const { path, name } of transcriptFiles(paths)) {
    const input = await readInput(path, TRANSCRIPT);
    const target = name === '-' ? 'stdin.jsonl' : name.endsWith('.jsonl') ? name : `${name}.jsonl`;
    if (names.has(target))
      throw new UserError(EXIT.invalid, `two files would be recorded as ${target}`, 'record them one after the other');
    names.add(target);
    planned.push({ name: target, sequence: parseSequence(input.text, input.name) });
  }
  return planned;
}

function drawn(operations: number, seed: number, { host, bufferBytes }: Claim): readonly Planned[] {
  // A claim is only given where the module is loaded.
  const bounds = { ...host, bufferBytes, dmaEntryLimit: host.dmaEntryLimit ?? 0 };
  return randomSequences(operations, seed, bounds).map((text, i) => {
    const name = `random-${seed}-${String(i).padStart(4, '0')}.jsonl`;
    return { name, sequence: parseSequence(text, name) };
  });
}

/** The first thing that cannot be done, with how many files of all could be recorded. @throws UserError */
function checkAll(planned: readonly Planned[], allowed: Claim): void {
  const refusals = planned.flatMap(({ sequence }) => {
    try {
      checkPossible(sequence, allowed);
      return [];
    } catch (error) {
      if (error instanceof UserError) return [error];
      throw error;
    }
  });
  const [first] = refusals;
  if (first === undefined) return;
  const count =
    planned.length === 1 ? '' : ` (${planned.length - refusals.length} of ${planned.length} files can be recorded)`;
  throw new UserError(first.exitCode, first.message, `${first.hint}${count}`);
}

/** Nothing is overwritten: the directory must be new, or empty. @returns whether it is new. @throws UserError */
function emptyDirectory(path: string): boolean {
  const made = !existsSync(path);
  tryDirectory(path);
  if (readdirSync(path).length > 0)
    throw new UserError(EXIT.invalid, `${path}: is not empty`, 'name a new directory with --out');
  return made;
}

function write(path: string, text: string): void {
  try {
    makeDirectory(dirname(path));
    writeFileSync(path, text);
  } catch (error) {
    throw writeFailure(path, error, '--out DIR', EXIT.inconclusive);
  }
}
