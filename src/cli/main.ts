import { withoutPasswords } from '../base/errors.ts';
import { runCommandLine, reportError } from './frame.ts';

// Argument lists are public on most machines. Setting the title overwrites what they show from here on.
const given = process.argv.slice(2).join(' ');
if (withoutPasswords(given) !== given) process.title = `pinstorm ${withoutPasswords(given)}`;

// A reader that has seen enough (`pinstorm plan ... | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : reportError(error, process.env));
});
process.on('uncaughtException', (error) => process.exit(reportError(error, process.env)));

const status = await runCommandLine(process.argv.slice(2), process.env);
// Not left to the event loop: a connection that a library still holds must not keep a finished command alive.
process.exit(status);
