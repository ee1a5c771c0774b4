import { EXIT, UserError } from '../../base/errors.ts';
import { print, say } from '../../console/output.ts';
import { defineCommand, flag, required } from '../command.ts';

/** What explore has printed, with a token in it. */
const PRINTED = {
  what: 'file',
  example: 'found.txt',
  smaller: 'give only the line with the token',
  maxBytes: 16 * 1024 ** 2,
};

export const command = defineCommand({
  description:
    'Repeats a schedule that explore, history or simulate found, and draws it. The token names the case and the ' +
    'variant. A token that no longer fits is refused with the reason: its format, the version of the model, or ' +
    'the case has changed.',
  arguments: { token: required('the word after "pinstorm replay"; - reads the first one from standard input') },
  options: {
    all: flag('also draw the steps that no other actor can see'),
    json: flag('print the steps as one JSON document'),
  },
  examples: [
    {
      command: 'pinstorm explore cases/over-commit.yaml --variant D 2>&1 | pinstorm replay -',
      what: 'the failure that explore finds, once more',
    },
  ],
  exits: [EXIT.violated],
  async run({ token: word }, options) {
    const { readInput } = await import('../../console/input.ts');
    const { checkModel, decodeToken } = await import('../../engine/explore/codec.ts');
    const { makerOf, programOf } = await import('../../run/explore-program.ts');
    const { variantNamed } = await import('../../run/variant-named.ts');
    const { withoutOps } = await import('../../engine/explore/shrink.ts');
    const { traceOf } = await import('../../engine/explore/trace.ts');
    const { chart } = await import('../../engine/explore/chart.ts');
    const token = decodeToken(word === '-' ? tokenIn((await readInput('-', PRINTED)).text) : word);
    checkModel(token);
    const program = await programOf(token);
    const variant = variantNamed(token.variant);
    const plan = withoutOps(program.plan, token.dropped);
    const trace = traceOf(makerOf(program, variant)(plan), token, token.failure);
    const status = trace.failure === null ? EXIT.ok : EXIT.violated;
    if (options.json) {
      print(`${JSON.stringify({ case: plan.name, variant: variant.id, failure: trace.failure, steps: trace.rows })}\n`);
      return status;
    }
    print(`${plan.name}, variant ${variant.id} (${variant.kernels})\n\n${chart(trace, options.all)}`);
    if (trace.failure === null) print(`\n${token.failure} does not show in this schedule\n`);
    else say(`\n${trace.failure.kind}: ${trace.failure.detail}\n`);
    return status;
  },
});

/** The token in what explore has printed, or the whole text. */
function tokenIn(text: string): string {
  const found = /pinstorm replay (\S+)/.exec(text)?.[1] ?? text.trim();
  if (found !== '') return found;
  throw new UserError(
    EXIT.invalid,
    'there is no token on standard input',
    'pipe the output of pinstorm explore into it',
  );
}
