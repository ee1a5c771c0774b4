import { EXIT, UserError } from '../../base/errors.ts';
import { defineCommand, flag, integer, scenarioFile, text } from '../command.ts';
import { LIVE_EXITS, LIVE_OPTIONS, LOSS_OPTIONS, REDIS_OPTIONS } from '../live-options.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

export const command = defineCommand({
  description:
    'Runs a scenario on workers that you start elsewhere with `pinstorm worker`: waits for --min-workers of them, ' +
    'starts all guests at one instant of the Redis clock, and reports. Workers may join and leave: when one is ' +
    'lost, its guests run again on other workers, and its measurements are discarded. If the coordinator dies, ' +
    'the workers carry on; run the same command with --resume and the id it printed to take over. Everything else ' +
    'is as in `pinstorm run`.',
  arguments: { scenario: scenarioFile() },
  options: {
    ...SCENARIO_OPTIONS,
    ...REDIS_OPTIONS,
    minWorkers: integer({ placeholder: 'n', help: 'start when this many workers have registered', min: 1, default: 1 }),
    ...LOSS_OPTIONS,
    run: text({ placeholder: 'id', help: 'id of the run, part of its key names; default: a new one' }),
    resume: text({
      placeholder: 'id',
      help: 'take over this run, whose coordinator died; --out must hold its directory',
    }),
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
  async run({ scenario }, options, interrupts) {
    if (options.redis === undefined) {
      throw new UserError(EXIT.invalid, '--redis is missing', 'workers on other machines must reach the same Redis');
    }
    const [{ isKeyPart }, { readSource }, { scenarioOf }, { planRun }, { REGISTRY }, { liveRun }] = await Promise.all([
      import('../../wire/queue.ts'),
      import('../../console/input.ts'),
      import('../../run/scenario-file.ts'),
      import('../../scenario/plan.ts'),
      import('../../run/registry.ts'),
      import('../../run/live-run.ts'),
    ]);
    if (options.run !== undefined && !isKeyPart(options.run)) {
      throw new UserError(
        EXIT.invalid,
        '--run: expected 1 to 64 letters, digits and hyphens',
        'for example --run night-7',
      );
    }
    const resolved = scenarioOf(await readSource(scenario), overridesOf(options));
    const plan = planRun(resolved, REGISTRY);
    const { run, resume, strict, minWorkers, lease, onWorkerLoss, redis, prefix, tlsCa } = options;
    return liveRun(
      {
        subject: { resolved, plan, run, resume, strict },
        policy: { minWorkers, lease, onWorkerLoss },
        fleet: { workers: 0, threads: 0 },
        redis: { redis, prefix, tlsCa },
        output: options,
      },
      interrupts,
    );
  },
});
