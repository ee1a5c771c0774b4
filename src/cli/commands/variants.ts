import { release } from 'node:os';
import { EXIT } from '../../base/errors.ts';
import { print, stdout } from '../../console/output.ts';
import { defineCommand, flag } from '../command.ts';

/** Wider lines are not read. */
const WIDTH_MAX = 120;

export const command = defineCommand({
  description:
    'Lists the accounting policies of the model, oldest first: the id, the kernels that had it, and what changed. ' +
    'Wherever an option or a scenario takes a variant, the id and a kernel version (4.10, linux-6.12, 4.10-rc1) ' +
    'both work, in upper or lower case. A star marks the kernel of this machine; no result depends on it.',
  arguments: {},
  options: { json: flag('print one JSON document instead of the table') },
  examples: [
    { command: 'pinstorm variants', what: 'the table' },
    { command: 'pinstorm variants --json', what: 'the same for programs' },
  ],
  exits: [],
  async run(_arguments, { json }) {
    const { resolveVariant, VARIANTS } = await import('../../model/kernels/index.ts');
    const { wrap } = await import('../../report/format.ts');
    const kernel = release();
    const running = runningVariant(kernel, resolveVariant);
    const rows = VARIANTS.map(({ id, kernels, versions, identity }) => ({ id, kernels, versions, identity }));
    if (json) {
      print(`${JSON.stringify({ kernel, running, variants: rows }, null, 2)}\n`);
      return EXIT.ok;
    }
    const head = { id: 'id', kernels: 'kernels', identity: 'what changed' };
    const width = Math.min(WIDTH_MAX, stdout.columns ?? 80);
    const idWidth = Math.max(...[head, ...rows].map((r) => r.id.length)) + 3;
    const kernelsWidth = 18;
    for (const row of [head, ...rows]) {
      const kernels = wrap(row.kernels, kernelsWidth - 2);
      const identity = wrap(row.identity, width - idWidth - kernelsWidth);
      for (let i = 0; i < Math.max(kernels.length, identity.length); i += 1) {
        const line =
          (i === 0 ? `${row.id}${row.id === running ? '*' : ''}` : '').padEnd(idWidth) +
          (kernels[i] ?? '').padEnd(kernelsWidth) +
          (identity[i] ?? '');
        print(`${line.trimEnd()}\n`);
      }
    }
    const known = running === null ? 'which the model does not know' : `variant ${running}`;
    print(`\n* the kernel of this machine: ${kernel}, ${known}\n`);
    return EXIT.ok;
  },
});

/** The variant of the kernel of this machine; null where the model knows none. */
function runningVariant(kernel: string, resolve: (name: string) => { readonly id: string }): string | null {
  try {
    return resolve(kernel).id;
  } catch {
    return null;
  }
}
