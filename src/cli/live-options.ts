/** Options and exit statuses that the commands of a live run share. */
import { EXIT, type ExitCode } from '../base/errors.ts';
import { parseDuration } from '../base/units-text.ts';
import { choice, flag, integer, notAsExpected, text, value } from './command.ts';

/** Where metrics are served: to this machine alone unless told otherwise. */
export const METRICS_OPTIONS = {
  metricsPort: integer({
    placeholder: 'port',
    help: 'serve Prometheus metrics on this port; 0: any free port',
    min: 0,
    max: 65_535,
  }),
  metricsHost: text({
    placeholder: 'address',
    help: 'address to listen on; 0.0.0.0 lets other machines connect',
    default: '127.0.0.1',
  }),
};

export const LIVE_OPTIONS = {
  ...METRICS_OPTIONS,
  ui: flag('serve a live page on 127.0.0.1 that shows the run and can stop it'),
  uiPort: integer({ placeholder: 'port', help: 'the port of that page; implies --ui', min: 0, max: 65_535 }),
  out: text({ placeholder: 'dir', help: 'directory for run directories', default: 'runs' }),
  json: flag('print the results as one JSON document on stdout'),
  strict: flag('fail the run (114) when its latencies cannot be trusted, even without a threshold on a latency'),
};

/** How to reach Redis. */
export const REDIS_OPTIONS = {
  redis: text({ placeholder: 'url', help: 'redis://, rediss:// or a socket path; required' }),
  prefix: text({
    placeholder: 'name',
    help: 'prefix of every Redis key; default: pinstorm',
  }),
  tlsCa: text({ placeholder: 'file', help: 'certificates to trust with rediss://, PEM' }),
};

/** What happens when workers do not hold out. */
export const LOSS_OPTIONS = {
  lease: value({
    placeholder: 't',
    help: 'how long a worker may be silent before it counts as lost; default: 10s',
    parse: (given) => {
      const ms = parseDuration(given) / 1e6;
      if (ms >= 500 && ms <= 3_600_000) return ms;
      throw notAsExpected('a duration from 500ms to 1h', given);
    },
  }),
  onWorkerLoss: choice({
    placeholder: 'what',
    help: 'rerun: run its guests again on other workers; partial: end the run without them',
    choices: ['rerun', 'partial'],
    default: 'rerun',
  }),
};
export const LIVE_EXITS: readonly ExitCode[] = [EXIT.threshold, EXIT.violated, EXIT.saturated];
