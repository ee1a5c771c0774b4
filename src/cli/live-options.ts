/** Options and exit statuses that the commands of a live run share. */
import { EXIT, type ExitCode } from '../base/errors.ts';
import { flag, integer, text } from './command.ts';

export const LIVE_OPTIONS = {
  metricsPort: integer({
    placeholder: 'port',
    help: 'serve Prometheus metrics on this port of 127.0.0.1; 0: any free one',
    min: 0,
    max: 65_535,
  }),
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
