import { EXIT, UserError } from '../../base/errors.ts';
import { defineCommand, flag, integer, required, text } from '../command.ts';
import { LIVE_EXITS, LIVE_OPTIONS } from '../live-options.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

export const command = defineCommand({
  description:
    'Runs a scenario on workers that were started elsewhere with `pinstorm worker`: waits for --min-workers of them, starts ' +
    'all guests at one instant of the Redis clock, and reports. Everything else is as with `pinstorm run`.',
  arguments: { scenario: required('scenario file') },
  options: {
    ...SCENARIO_OPTIONS,
    redis: text({ placeholder: 'url', help: 'redis://, rediss:// or a socket path; needed' }),
    minWorkers: integer({ placeholder: 'n', help: 'start when this many workers are there', min: 1, default: 1 }),
    ...LIVE_OPTIONS,
    quiet: flag('no progress on stderr'),
  },
  examples: [
    {
      command: 'pinstorm coordinator scenarios/boot-storm.yaml --redis redis://localhost',
      what: 'with one worker in another terminal',
    },
  ],
  exits: LIVE_EXITS,
  async run({ scenario }, options) {
    if (options.redis === undefined) {
      throw new UserError(EXIT.invalid, '--redis is missing', 'workers on other machines must reach the same Redis');
    }
    const [{ loadScenario }, { planRun }, { REGISTRY }, { liveRun }] = await Promise.all([
      import('../../scenario/validate.ts'),
      import('../../scenario/plan.ts'),
      import('../registry.ts'),
      import('../live-run.ts'),
    ]);
    const resolved = loadScenario(scenario, REGISTRY, overridesOf(options));
    return liveRun({ ...options, resolved, plan: planRun(resolved, REGISTRY), workers: 0, threads: 0 });
  },
});
