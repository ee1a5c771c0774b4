import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand } from '../command.ts';

export const command = defineCommand({
  description:
    'Prints the JSON schema of scenarios, for editors that complete and check keys as you type. pinstorm init ' +
    'puts its path on the first line of the file it writes. validate checks more than a schema can express.',
  arguments: {},
  options: {},
  examples: [{ command: 'pinstorm schema > scenario.schema.json', what: 'the schema, in a file of your own' }],
  exits: [],
  async run() {
    const { readFileSync } = await import('node:fs');
    const { SCHEMA_FILE } = await import('../../console/shipped.ts');
    print(readFileSync(SCHEMA_FILE, 'utf8'));
    return EXIT.ok;
  },
});
