import { EXIT } from '../../base/errors.ts';
import { parseDuration } from '../../base/units-text.ts';
import { defineCommand, flag, integer, notAsExpected, scenarioFile, text, value } from '../command.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

export const command = defineCommand({
  description:
    'Runs a scenario in simulated kernel time: the same guests, the same model and the same report as a live run, ' +
    'with every duration taken from the cost profile, on emulated hosts with the number of CPUs the scenario ' +
    'gives. The same scenario, seed and options give the same results.json, byte for byte, on any machine and ' +
    'with any number of threads.',
  arguments: {
    scenario: scenarioFile(' or case'),
  },
  options: {
    ...SCENARIO_OPTIONS,
    threads: integer({
      placeholder: 'n',
      help: 'threads for several emulated hosts; default: cores',
      min: 1,
      max: 256,
    }),
    interval: value({
      placeholder: 't',
      help: 'simulated time per line of intervals.jsonl; default: 1s, less for short runs',
      parse(given): number {
        const ns = parseDuration(given);
        if (ns >= 1000) return ns;
        throw notAsExpected('a duration of at least 1us', given);
      },
    }),
    out: text({ placeholder: 'dir', help: 'directory for run directories', default: 'runs' }),
    json: flag('print the results as one JSON document on stdout'),
    quiet: flag('no progress on stderr'),
  },
  examples: [
    { command: 'pinstorm simulate scenarios/huge-guest.yaml --variant B', what: 'the 1 TiB guest under variant B' },
    {
      command: 'pinstorm simulate scenarios/boot-storm.yaml --set host.cpus=8',
      what: '50 guests boot on a host of 8 CPUs',
    },
  ],
  exits: [EXIT.threshold, EXIT.violated],
  async run({ scenario }, options, interrupts) {
    const [{ readSource }, { isCase }] = await Promise.all([
      import('../../console/input.ts'),
      import('../../scenario/case.ts'),
    ]);
    const parsed = await readSource(scenario);
    if (isCase(parsed.root)) {
      const { caseFromScenarioOptions } = await import('../../run/case-run.ts');
      return caseFromScenarioOptions(parsed, 'virtual', options, interrupts);
    }
    const [{ scenarioOf }, { planRun }, { REGISTRY }, { simulateRun }] = await Promise.all([
      import('../../run/scenario-file.ts'),
      import('../../scenario/plan.ts'),
      import('../../run/registry.ts'),
      import('../../run/simulated-run.ts'),
    ]);
    const resolved = scenarioOf(parsed, overridesOf(options));
    return simulateRun(
      { ...options, intervalNs: options.interval, resolved, plan: planRun(resolved, REGISTRY) },
      interrupts,
    );
  },
});
