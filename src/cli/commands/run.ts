import { availableParallelism } from 'node:os';
import { defineCommand, flag, integer, scenarioFile, text } from '../command.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';
import { LIVE_EXITS, LIVE_OPTIONS, LOSS_OPTIONS, REDIS_OPTIONS } from '../live-options.ts';

export const command = defineCommand({
  description:
    'Runs a scenario in real time on this machine: a coordinator, and worker processes whose threads contend for ' +
    'the locks of the model. Guests and deferred accounting travel as BullMQ jobs through Redis: your own with ' +
    '--redis, otherwise a private redis-server that ends with the run. Press Ctrl-C once to stop gracefully with ' +
    'a full report, twice to stop immediately.',
  arguments: {
    scenario: scenarioFile(' or case'),
  },
  options: {
    ...SCENARIO_OPTIONS,
    workers: integer({ placeholder: 'n', help: 'worker processes', min: 1, max: 256, default: 1 }),
    threads: integer({
      placeholder: 'n',
      help: 'threads per worker; default: cores - 1, shared; at least 2',
      min: 2,
      max: 256,
    }),
    ...REDIS_OPTIONS,
    redis: text({ placeholder: 'url', help: 'redis://, rediss:// or a socket path; default: a private one' }),
    ...LOSS_OPTIONS,
    ...LIVE_OPTIONS,
    quiet: flag('no progress on stderr'),
  },
  examples: [
    { command: 'pinstorm run scenarios/boot-storm.yaml', what: '50 guests boot at once' },
    { command: 'pinstorm run scenarios/boot-storm.yaml --variant D --workers 2', what: 'two processes, variant D' },
  ],
  exits: LIVE_EXITS,
  async run({ scenario }, options, interrupts) {
    const [{ readSource }, { isCase }] = await Promise.all([
      import('../../console/input.ts'),
      import('../../scenario/case.ts'),
    ]);
    const parsed = await readSource(scenario);
    if (isCase(parsed.root)) {
      const { caseFromScenarioOptions } = await import('../../run/case-run.ts');
      return caseFromScenarioOptions(parsed, 'wall', options, interrupts);
    }
    const [{ scenarioOf }, { planRun }, { REGISTRY }, { liveRun }] = await Promise.all([
      import('../../run/scenario-file.ts'),
      import('../../scenario/plan.ts'),
      import('../../run/registry.ts'),
      import('../../run/live-run.ts'),
    ]);
    const resolved = scenarioOf(parsed, overridesOf(options));
    const { workers } = options;
    const threads = options.threads ?? Math.max(2, Math.floor((availableParallelism() - 1) / workers));
    const plan = planRun(resolved, REGISTRY);
    const { strict, lease, onWorkerLoss, redis, prefix, tlsCa } = options;
    return liveRun(
      {
        subject: { resolved, plan, run: undefined, resume: undefined, strict },
        policy: { minWorkers: workers, lease, onWorkerLoss },
        fleet: { workers, threads },
        redis: { redis, prefix, tlsCa },
        output: options,
      },
      interrupts,
    );
  },
});
