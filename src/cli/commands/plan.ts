import { canonicalJson } from '../../base/canonical-json.ts';
import { EXIT, UserError } from '../../base/errors.ts';
import { readSource } from '../../console/input.ts';
import { print } from '../../console/output.ts';
import { REGISTRY } from '../../run/registry.ts';
import { scenarioOf } from '../../run/scenario-file.ts';
import { planText } from '../../scenario/plan-text.ts';
import { planRun } from '../../scenario/plan.ts';
import { defineCommand, flag, scenarioFile } from '../command.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

/** A plan of more guests is not written out: as JSON it would be hundreds of megabytes. */
const MAX_JSON_GUESTS = 100_000;

export const command = defineCommand({
  description:
    'Shows what a run would do, without running it: each guest with its memory, limits, actors and start time, ' +
    'all drawn from the seed. The same scenario, seed and options give the same plan on every machine; compare ' +
    'the hashes to check.',
  arguments: { scenario: scenarioFile() },
  options: { ...SCENARIO_OPTIONS, json: flag('print the whole plan as one JSON document') },
  examples: [
    { command: 'pinstorm plan scenarios/huge-guest.yaml', what: 'a table of the guests' },
    { command: 'pinstorm plan scenarios/huge-guest.yaml --seed 7 --json', what: 'the whole plan, for a program' },
  ],
  exits: [],
  async run({ scenario: file }, options) {
    const resolved = scenarioOf(await readSource(file), overridesOf(options));
    const plan = planRun(resolved, REGISTRY);
    if (!options.json) {
      print(planText(plan, resolved.scenario.description, REGISTRY));
      return EXIT.ok;
    }
    if (plan.guests.length > MAX_JSON_GUESTS) {
      const message = `${plan.guests.length} guests are too many to print; the maximum is ${MAX_JSON_GUESTS}`;
      throw new UserError(EXIT.invalid, message, 'leave --json out, or lower the count with --set');
    }
    print(`${canonicalJson(plan)}\n`);
    return EXIT.ok;
  },
});
