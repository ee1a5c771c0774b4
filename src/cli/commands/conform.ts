import { EXIT } from '../../base/errors.ts';
import { defineCommand, several, text } from '../command.ts';
import { print } from '../output.ts';

export const command = defineCommand({
  description:
    'Replays sequences of VFIO operations that were recorded on real kernels through the model, and compares what the ' +
    'kernel answered after every single one: error, unmapped size, VmLck of every process, free mapping slots. Of each ' +
    'transcript that differs the first difference is printed. Each transcript is held against the variant of the kernel ' +
    'it was recorded on.',
  arguments: { paths: several('transcripts, or directories of them (*.jsonl)') },
  options: {
    variant: text({ placeholder: 'V', help: 'hold all of them against this variant or kernel version instead' }),
  },
  examples: [
    { command: 'pinstorm conform test/conform/transcripts', what: 'the recordings that come with pinstorm' },
    {
      command: 'pinstorm conform test/conform/transcripts/6.1/directed --variant 6.12',
      what: 'what changed between two kernels, by the first difference of each sequence',
    },
  ],
  exits: [EXIT.failed],
  async run({ paths }, { variant }) {
    const { conform, describeDifference, transcriptFiles, variantNamed } = await import('../../conform/conform.ts');
    const chosen = variant === undefined ? null : variantNamed(variant);
    const files = transcriptFiles(paths);
    let failed = 0;
    for (const file of files) {
      const difference = conform(file, chosen);
      if (difference === null) continue;
      failed += 1;
      print(`${describeDifference(file, difference)}\n`);
    }
    print(`${files.length - failed} passed, ${failed} failed\n`);
    return failed === 0 ? EXIT.ok : EXIT.failed;
  },
});
