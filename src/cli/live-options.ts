/** Options and exit statuses that the commands of a live run share. */
import { EXIT, type ExitCode } from '../base/errors.ts';
import { flag, integer, text } from './command.ts';

/** Where metrics are served: to this machine alone unless told otherwise. */
export const METRICS_OPTIONS = {
  metricsPort: integer({
    placeholder: 'port',
    help: 'serve Prometheus metrics on this port; 0: any free one',
    min: 0,
    max: 65_535,
  }),
  metricsHost: text({
    placeholder: 'address',
    help: 'address that port is opened on; 0.0.0.0: other machines reach it too',
    default: '127.0.0.1',
  }),
};

export const LIVE_OPTIONS = {
  ...METRICS_OPTIONS,
  out: text({ placeholder: 'dir', help: 'where run directories go', default: 'runs' }),
  json: flag('print the results as one JSON document on stdout'),
};

export const LIVE_EXITS: readonly ExitCode[] = [
  EXIT.threshold,
  EXIT.stopped,
  EXIT.violated,
  EXIT.inconclusive,
  EXIT.saturated,
];
