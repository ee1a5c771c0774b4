import { withoutPasswords } from '../base/errors.ts';
import { Interrupts, SIGNALS } from '../console/interrupts.ts';
import { deliver } from '../console/output.ts';
import { reportError, runCommandLine } from './frame.ts';

// Argument lists are public on most machines. Setting the title overwrites what they show from here on.
const given = process.argv.slice(2).join(' ');
if (withoutPasswords(given) !== given) process.title = `pinstorm ${withoutPasswords(given)}`;

const interrupts = new Interrupts();
for (const signal of SIGNALS) process.on(signal, () => interrupts.signal());
process.on('uncaughtException', (error) => void end(reportError(error, process.env)));
await end(await runCommandLine(process.argv.slice(2), process.env, interrupts));

/** Not left to the event loop: a connection that a library still holds must not keep a finished command alive. */
async function end(status: number): Promise<void> {
  // Nor must a reader that takes nothing, once the user has had enough.
  process.exit(await Promise.race([deliver(status), interrupts.over()]));
}
