import { EXIT, UserError } from '../../base/errors.ts';
import { SEED_MAX } from '../../base/prng.ts';
import { parseBytes, parseDuration } from '../../base/units-text.ts';
import { defineCommand, flag, integer, onCommandLine, repeated, severalOrNone, text, value } from '../command.ts';

const MEMORY_BYTES = 64 * 1024 ** 2;
const LIMIT_MS = 60_000;

export const command = defineCommand({
  description:
    'Runs sequences of VFIO operations on the kernel of this machine, through a group that you name, and writes down ' +
    'what it answers: recordings that pinstorm conform compares with the model. A recording can be recorded again. ' +
    'No DMA ever happens, no device is bound, nothing of the host is set. What maps memory is a child process, and ' +
    'whatever ends it gives everything back. docs/own-kernel.md says what to prepare, and what never happens.',
  arguments: {
    paths: severalOrNone('transcripts or input sequences, - for standard input, or directories of them (*.jsonl)', [
      'recordings',
    ]),
  },
  options: {
    group: onCommandLine(
      repeated({
        placeholder: 'n',
        help: 'IOMMU group to use, one per container; required',
        parse: parseGroup,
      }),
    ),
    out: text({ placeholder: 'dir', help: 'new directory for the recordings; required' }),
    random: integer({ placeholder: 'n', help: 'record n random operations', min: 1, max: 1_000_000 }),
    seed: integer({ placeholder: 'n', help: 'seed of the random operations', min: 0, max: SEED_MAX, default: 1 }),
    memory: onCommandLine(
      value({
        placeholder: 'size',
        help: 'what buffers and the process that maps them may take; default: 64MiB',
        parse: parseBytes,
      }),
    ),
    timeLimit: onCommandLine(
      value({
        placeholder: 't',
        help: 'stop after this time; default: 60s',
        parse: (given) => Math.ceil(parseDuration(given) / 1e6),
      }),
    ),
    asRoot: onCommandLine(flag('record although the locked-memory limit does not hold for root')),
  },
  examples: [
    {
      command: 'pinstorm record recordings/6.12/directed --group 12 --out mine',
      what: 'what this kernel answers to recorded sequences',
    },
    {
      command: 'pinstorm record --random 200 --seed 7 --group 12 --out mine',
      what: '200 random operations; pinstorm conform mine says whether the model agrees',
    },
  ],
  exits: [],
  async run({ paths }, options, interrupts) {
    const { recordCommand } = await import('../../kernel/record-command.ts');
    const { out, random } = options;
    if (out === undefined)
      throw new UserError(EXIT.invalid, 'no --out is given', 'name a new directory for the recordings, --out mine');
    if (paths.length === 0 && random === undefined)
      throw new UserError(EXIT.invalid, 'nothing to record', 'name transcripts, or say --random 200');
    if (paths.length > 0 && random !== undefined)
      throw new UserError(EXIT.invalid, 'both transcripts and --random', 'record them one after the other');
    const { group: groups, memory: memoryBytes = MEMORY_BYTES, timeLimit: limitMs = LIMIT_MS, asRoot, seed } = options;
    return recordCommand({ paths, out, random, seed, limitMs, request: { groups, memoryBytes, asRoot } }, interrupts);
  },
});

function parseGroup(given: string): number {
  if (/^\d{1,6}$/.test(given)) return Number(given);
  throw new UserError(
    EXIT.invalid,
    `expected the number of an IOMMU group, got ${JSON.stringify(given)}`,
    'ls /sys/kernel/iommu_groups/*/devices shows groups and their devices',
  );
}
