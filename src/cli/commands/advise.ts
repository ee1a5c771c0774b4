import { EXIT } from '../../base/errors.ts';
import { print, say } from '../../console/output.ts';
import { defineCommand, flag, integer, notAsExpected, scenarioFile, text, value } from '../command.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

const VARIANTS = 'D,E,H2,I,I-mm';

export const command = defineCommand({
  description:
    'Finds how much memory the guests of a scenario must be allowed to lock (RLIMIT_MEMLOCK, ulimit -l): the ' +
    'smallest limit at which at most a given share of their requests for locked memory (map, pin, mlock, attach) ' +
    'is refused, for each variant and number of devices. It searches the limit by simulating the scenario, to the ' +
    'page, without CAP_IPC_LOCK. It also prints the formula that explains the limit and, where the two differ, ' +
    'why. Refusals with another cause are left out. Each device has a container of its own, as behind a vIOMMU: ' +
    "the scenario's devices count, and further ones map the same memory.",
  arguments: { scenario: scenarioFile() },
  options: {
    ...SCENARIO_OPTIONS,
    variants: text({
      placeholder: 'list',
      help: `variants or kernel versions, comma-separated; default: --variant, else ${VARIANTS}`,
    }),
    devices: value({
      placeholder: 'list',
      help: 'devices per guest in total, comma-separated',
      default: '1,2,4',
      parse(given): string {
        if (/^([1-9]|1[0-6])(,([1-9]|1[0-6]))*$/.test(given)) return given;
        throw notAsExpected('numbers from 1 to 16 with commas between', given);
      },
    }),
    maxFailures: value({
      placeholder: 'share',
      help: 'share of requests that may be refused',
      default: '0%',
      parse(given): string {
        if (/^\d+(\.\d+)?%$/.test(given) && Number.parseFloat(given) < 100) return given;
        throw notAsExpected('a share below 100%, such as 0.1%', given);
      },
    }),
    repeat: integer({ placeholder: 'n', help: 'seeds to try every limit with', min: 1, max: 30, default: 1 }),
    threads: integer({ placeholder: 'n', help: 'threads; default: cores', min: 1, max: 256 }),
    json: flag('print one JSON document on stdout'),
    quiet: flag('no progress on stderr'),
  },
  examples: [
    {
      command: 'pinstorm advise scenarios/boot-storm.yaml --duration 4s',
      what: 'how much each of 50 guests must be allowed, with one, two and four devices',
    },
    {
      command: 'pinstorm advise scenarios/accounting-stress.yaml --variants D,E --devices 1',
      what: 'two pages are enough for E, and no limit for D',
    },
  ],
  exits: [],
  async run({ scenario }, options, interrupts) {
    const [{ readSource }, { advise }, { adviceText, adviceJson }, { stopOnInterrupt }, { experimentProgress }] =
      await Promise.all([
        import('../../console/input.ts'),
        import('../../study/advise/advise.ts'),
        import('../../study/advise/advice-text.ts'),
        import('../../console/interrupts.ts'),
        import('../experiment-progress.ts'),
      ]);
    const list = (given: string): string[] => given.split(',').map((v) => v.trim());
    const maxFailures = Number.parseFloat(options.maxFailures) / 100;
    const progress = experimentProgress(options.quiet, 'searches over');
    const { refuseBeside, variantList } = await import('../lists.ts');
    const sets = overridesOf(options);
    // --variant alone is a list of one.
    refuseBeside('--variants', ['variant'], options.variants === undefined ? options.set : sets);
    const variants = variantList('--variants', options.variants ?? options.variant ?? VARIANTS);
    const devices = [...new Set(list(options.devices).map(Number))];
    const stop = stopOnInterrupt(interrupts);
    const how = { ...options, variants, devices, maxFailures, onProgress: progress.update, stop };
    const advised = await advise(await readSource(scenario), sets, how);
    const stopped = advised.cells.length < advised.wanted;
    progress.end();
    print(options.json ? adviceJson(advised, maxFailures) : adviceText(advised, maxFailures));
    if (!stopped) return EXIT.ok;
    say(`pinstorm: stopped, these are ${advised.cells.length} of ${advised.wanted} limits\n`);
    return EXIT.stopped;
  },
});
