import { EXIT, UserError } from '../../base/errors.ts';
import { plural } from '../../base/plural.ts';
import { readSource } from '../../console/input.ts';
import { print } from '../../console/output.ts';
import { REGISTRY } from '../../run/registry.ts';
import { scenarioOf } from '../../run/scenario-file.ts';
import { caseOf, isCase } from '../../scenario/case.ts';
import { originsOf, type ValueOrigin } from '../../scenario/origins.ts';
import type { ResolvedScenario } from '../../scenario/validate.ts';
import { defineCommand, flag, several } from '../command.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

export const command = defineCommand({
  description:
    'Checks scenarios and cases and reports every fault at once: file, line and column, what was expected, and ' +
    'how to fix it. Nothing is run. The options override keys of the scenario and are checked with it.',
  arguments: {
    files: several('scenarios or cases: files, - for standard input, or names from pinstorm scenarios', [
      'scenario',
      'case',
      'defect',
    ]),
  },
  options: { ...SCENARIO_OPTIONS, origin: flag('print every value, including defaults, and where it comes from') },
  examples: [
    { command: 'pinstorm validate scenarios/huge-guest.yaml', what: 'one line if all is well' },
    { command: 'pinstorm validate scenarios/huge-guest.yaml --origin --variant D', what: 'every value and its origin' },
  ],
  exits: [],
  async run({ files }, options) {
    const faulty: UserError[] = [];
    for (const file of files) {
      try {
        const parsed = await readSource(file);
        const name = parsed.source.file;
        if (isCase(parsed.root)) {
          const { plan } = caseOf(parsed);
          const { length } = plan.actors;
          print(`${name}: OK, a case of ${plural(length, 'actor')}, variant ${plan.variant}\n`);
          continue;
        }
        const resolved = scenarioOf(parsed, overridesOf(options));
        print(okLine(name, resolved));
        if (options.origin) print(originTable(originsOf(resolved, REGISTRY)));
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        faulty.push(error);
      }
    }
    if (faulty.length === 0) return EXIT.ok;
    const texts = faulty.map((error) =>
      error.hint === null ? error.message : `${error.message}\n  fix: ${error.hint}`,
    );
    throw new UserError(EXIT.invalid, texts.join('\n\n').split('\n'), null);
  },
});

function okLine(file: string, { scenario, variant }: ResolvedScenario): string {
  const guests = scenario.guests.reduce((sum, guest) => sum + guest.count, 0);
  return `${file}: OK, ${plural(guests, 'guest')}, variant ${variant}\n`;
}

function originTable(values: readonly ValueOrigin[]): string {
  const pathWidth = Math.max(...values.map((v) => v.path.length));
  const valueWidth = Math.min(24, Math.max(...values.map((v) => v.value.length)));
  const clipped = (text: string): string => (text.length > valueWidth ? `${text.slice(0, valueWidth - 2)}..` : text);
  return values
    .map((v) => `  ${v.path.padEnd(pathWidth)}  ${clipped(v.value).padEnd(valueWidth)}  ${v.origin}\n`)
    .join('');
}
