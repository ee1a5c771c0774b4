import { EXIT, UserError } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, required, text } from '../command.ts';

export const command = defineCommand({
  description:
    'Writes a scenario for you to start from: a copy of one that comes with pinstorm, comments included, with the ' +
    'schema for your editor on its first line. It never overwrites a file.',
  arguments: { file: required('the file to write') },
  options: {
    from: text({
      placeholder: 'name',
      help: 'what to copy, a name from pinstorm scenarios',
      default: 'boot-storm',
      names: ['scenario', 'case', 'defect', 'rows'],
    }),
  },
  examples: [
    { command: 'pinstorm init my.yaml', what: 'a fleet that boots at once' },
    { command: 'pinstorm init stress.yaml --from accounting-stress', what: 'another one' },
  ],
  exits: [],
  async run({ file }, { from }) {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const { SCHEMA_FILE, shippedFile, shippedNames } = await import('../../console/shipped.ts');
    const { nearest } = await import('../../base/suggest.ts');
    const original = shippedFile(from);
    if (original === null) {
      const near = nearest(from, shippedNames('scenario', 'case', 'defect', 'rows'));
      const hint = near === null ? 'pinstorm scenarios lists the names' : `did you mean ${near}?`;
      throw new UserError(EXIT.invalid, `--from: nothing that comes with pinstorm is called ${from}`, hint);
    }
    const copy = readFileSync(original, 'utf8').replace(/(yaml-language-server: \$schema=).*/, `$1${SCHEMA_FILE}`);
    try {
      writeFileSync(file, copy, { flag: 'wx' });
    } catch (error) {
      throw refusal(file, error as NodeJS.ErrnoException);
    }
    print(`${file}: a copy of ${from}; check it with pinstorm validate ${file}\n`);
    return EXIT.ok;
  },
});

function refusal(file: string, { code, message }: NodeJS.ErrnoException): UserError {
  if (code === 'EEXIST') return new UserError(EXIT.invalid, `${file} is there already`, 'name another file');
  return new UserError(EXIT.invalid, `${file} cannot be written (${code ?? message})`, 'check the path');
}
