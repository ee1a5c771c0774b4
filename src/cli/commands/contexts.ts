import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, flag } from '../command.ts';

export const command = defineCommand({
  description:
    'Which mm, which limit and which capability does the accounting use, in every context that calls VFIO, under ' +
    'each way to find them? Builds each context in the model, runs it under each strategy with different limits ' +
    'and capabilities, and prints what happened. This was the open question of the mailing-list thread that ' +
    'started pinstorm: can `current` be trusted?',
  arguments: {},
  options: { json: flag('print one JSON document with everything that was observed, instead of the table') },
  examples: [
    { command: 'pinstorm contexts', what: 'the table' },
    {
      command: 'pinstorm contexts --json',
      what: 'every cell: whose account, pages, limit, capability; broken invariants',
    },
  ],
  exits: [],
  async run(_arguments, { json }) {
    const { judgeAll } = await import('../../study/contexts/judge.ts');
    const { CONTEXTS, STRATEGIES } = await import('../../study/contexts/strategies.ts');
    const cells = judgeAll();
    if (json) {
      const strategies = STRATEGIES.map(({ id, what, variant }) => ({ id, what, variant: variant.id }));
      const contexts = CONTEXTS.map(({ id, what }) => ({ id, what }));
      print(`${JSON.stringify({ strategies, contexts, cells }, null, 2)}\n`);
      return EXIT.ok;
    }
    const { contextsTable } = await import('../../study/contexts/table.ts');
    print(contextsTable(cells));
    return EXIT.ok;
  },
});
