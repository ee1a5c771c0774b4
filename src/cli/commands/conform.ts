import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, several, text } from '../command.ts';

export const command = defineCommand({
  description:
    'Replays sequences of VFIO operations that were recorded on real kernels, and compares the model with the ' +
    'kernel after every operation: error, unmapped size, VmLck of every process, free mapping slots. For each ' +
    'transcript that differs, it prints the first difference: what comes later may follow from it. Each transcript is ' +
    'compared with the variant of the kernel it was recorded on. Then it says which variants answer as each kernel ' +
    'did, in all of its transcripts, so that a patched kernel is found out.',
  arguments: { paths: several('transcripts, - for standard input, or directories of them (*.jsonl)', ['recordings']) },
  options: {
    variant: text({
      placeholder: 'V',
      help: 'compare all of them with this variant or kernel version instead',
      names: ['variant'],
    }),
  },
  examples: [
    { command: 'pinstorm conform recordings', what: 'the recordings that come with pinstorm' },
    {
      command: 'pinstorm conform recordings/6.1/directed --variant 6.12',
      what: 'what changed between two kernels, by the first difference of each sequence',
    },
  ],
  exits: [EXIT.failed],
  async run({ paths }, { variant }) {
    const { conform, describeDifference, recordedVariant } = await import('../../study/conform/conform.ts');
    const { Likeness } = await import('../../study/conform/likeness.ts');
    const { variantNamed } = await import('../../run/variant-named.ts');
    const { TRANSCRIPT, transcriptFiles } = await import('../../transcript/files.ts');
    const { parseTranscript } = await import('../../transcript/transcript.ts');
    const { readInput } = await import('../../console/input.ts');
    const chosen = variant === undefined ? null : variantNamed(variant);
    const files = transcriptFiles(paths);
    const likeness = new Likeness();
    let failed = 0;
    for (const { path } of files) {
      const input = await readInput(path, TRANSCRIPT);
      const transcript = parseTranscript(input.text, input.name);
      const compared = chosen ?? recordedVariant(transcript);
      const difference = conform(transcript, compared);
      if (chosen === null) likeness.add(transcript, { variant: compared, difference });
      if (difference === null) continue;
      failed += 1;
      print(`${describeDifference(input.name, difference)}\n`);
    }
    print(`${likeness.describe()}${files.length - failed} passed, ${failed} failed\n`);
    return failed === 0 ? EXIT.ok : EXIT.failed;
  },
});
