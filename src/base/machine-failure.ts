/** What the machine did to the program, as an error for users: no bug of ours, and no statement about the run. */
import { EXIT, UserError } from './errors.ts';

const NO_THREAD = [
  'there is no room for another thread',
  'use fewer workers or --threads, or raise ulimit -u',
] as const;
const NO_MEMORY = [
  'there is not enough memory',
  'use fewer or smaller guests, or more workers on other machines',
] as const;
const NO_FILE = ['too many files are open', 'raise ulimit -n'] as const;

const BY_CODE: Readonly<Record<string, readonly [string, string]>> = {
  ERR_WORKER_INIT_FAILED: NO_THREAD,
  EAGAIN: NO_THREAD,
  ERR_WORKER_OUT_OF_MEMORY: NO_MEMORY,
  ENOMEM: NO_MEMORY,
  EMFILE: NO_FILE,
  ENFILE: NO_FILE,
};

/** UserError 113 with what it lacks and the remedy; undefined when an error says nothing of the machine. */
export function machineFailure(error: unknown): UserError | undefined {
  if (!(error instanceof Error) || error instanceof UserError) return undefined;
  const known = BY_CODE[(error as NodeJS.ErrnoException).code ?? ''];
  if (known !== undefined) return new UserError(EXIT.inconclusive, ...known);
  if (/allocation failed/i.test(error.message)) return new UserError(EXIT.inconclusive, ...NO_MEMORY);
  // Of a pool: a thread that was ended from outside tells no more.
  if (/^worker exited with code/i.test(error.message)) {
    return new UserError(EXIT.inconclusive, 'a thread ended unasked', 'the machine may lack memory: see its log');
  }
  return undefined;
}
