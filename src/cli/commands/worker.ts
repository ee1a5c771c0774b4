import { availableParallelism, hostname } from 'node:os';
import { EXIT, UserError } from '../../base/errors.ts';
import { say } from '../../console/output.ts';
import { defineCommand, flag, integer, notAsExpected, text, value } from '../command.ts';
import { METRICS_OPTIONS, REDIS_OPTIONS } from '../live-options.ts';

export const command = defineCommand({
  description:
    'Emulates guests for a coordinator, or simulates hosts for compare and sweep: it registers, takes guests from ' +
    'Redis, runs them on its threads, and reports. Without --run it waits for the next run at this Redis. It ends ' +
    'with the run. Ctrl-C or SIGTERM makes it leave early; other workers then run its guests again at once.',
  arguments: {},
  options: {
    ...REDIS_OPTIONS,
    run: text({ placeholder: 'id', help: 'take part only in this run' }),
    name: text({
      placeholder: 'id',
      help: 'name of the worker; a number is added if it is taken; default: host and process',
    }),
    capacity: value<number | 'measured', 'measured'>({
      placeholder: 'n',
      help: "guests at a time; 'measured': as many as this machine can emulate in time, by a trial of 1 to 3 seconds",
      default: 'measured',
      parse(given) {
        if (given === 'measured') return given;
        const n = /^\d+$/.test(given) ? Number(given) : NaN;
        if (n >= 1 && n <= 1_000_000) return n;
        throw notAsExpected(`a whole number from 1 to 1000000, or 'measured'`, given);
      },
    }),
    threads: integer({ placeholder: 'n', help: 'threads; default: cores - 1, at least 2', min: 2, max: 256 }),
    ...METRICS_OPTIONS,
    supervised: flag('end when standard input closes, for programs that start workers'),
  },
  examples: [{ command: 'pinstorm worker --redis redis://localhost', what: 'join the next run' }],
  exits: [],
  async run(_, options, interrupts) {
    if (options.redis === undefined) {
      throw new UserError(EXIT.invalid, '--redis is missing', 'give the address the coordinator uses');
    }
    const [{ checkRedis }, { parseRedisUrl }, { takePart }, { isKeyPart }] = await Promise.all([
      import('../../coordinator/redis-check.ts'),
      import('../../wire/redis.ts'),
      import('../../worker/take-part.ts'),
      import('../../wire/queue.ts'),
    ]);
    // The process that started this one is gone: nobody waits for an orderly end.
    const orphaned = new Promise<typeof EXIT.inconclusive>((resolve) => {
      if (options.supervised) process.stdin.on('close', () => resolve(EXIT.inconclusive)).resume();
    });
    const workerId = options.name ?? ownName();
    for (const [name, text_] of Object.entries({ '--name': workerId, '--run': options.run ?? 'x' })) {
      if (isKeyPart(text_)) continue;
      const what = `${name}: expected 1 to 64 letters, digits and hyphens`;
      throw new UserError(EXIT.invalid, what, `for example ${name} rack-7`);
    }
    const target = parseRedisUrl(options.redis, options);
    await checkRedis(target);
    const ended = new AbortController();
    // The first asks it to leave the run in order.
    interrupts.onFirst(() => ended.abort());
    const tell = (line: string): void => (options.supervised ? undefined : say(`pinstorm: ${line}\n`));
    const threads = options.threads ?? Math.max(2, availableParallelism() - 1);
    const part = takePart(
      { ...options, target, expected: options.supervised, workerId, threads, leave: ended.signal },
      tell,
    );
    return Promise.race([orphaned, part.then(() => (ended.signal.aborted ? EXIT.stopped : EXIT.ok))]);
  },
});

/** A name that no other worker has, as far as this machine can tell. */
function ownName(): string {
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9-]/g, '-')
    .slice(0, 40);
  return `${host}-${process.pid}-${Date.now().toString(36)}`;
}
