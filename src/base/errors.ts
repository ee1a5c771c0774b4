/**
 * What the program tells its caller: exit statuses, and the one kind of error that is meant for users.
 */

import { oneLine } from './printable.ts';

/** Exit statuses of every command. Scripts rely on them: a number, once given a meaning, never gets another. */
export const EXIT = {
  /** All good. */
  ok: 0,
  /** A check the user asked for found differences: `conform` with a transcript that does not match. */
  failed: 1,
  /** A bug in pinstorm itself: no statement about the run (EX_SOFTWARE of sysexits.h). */
  bug: 70,
  /** A threshold of the scenario was crossed. */
  threshold: 99,
  /** The scenario, an option, an argument or the environment is invalid; nothing was run. */
  invalid: 104,
  /** Stopped by the user (SIGINT, SIGTERM, SIGHUP) before the planned end. */
  stopped: 105,
  /** An accounting invariant was violated and the scenario did not expect it. */
  violated: 112,
  /**
   * No verdict: workers were lost, the coverage is too low, a threshold was never measured, or what was found out could
   * not be written.
   */
  inconclusive: 113,
  /** The load generator could not keep its schedule, and a latency was to be judged. */
  saturated: 114,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** One line per status, for `--help` and the documentation. */
export const EXIT_MEANING: Readonly<Record<ExitCode, string>> = {
  [EXIT.ok]: 'all good',
  [EXIT.failed]: 'the check found differences',
  [EXIT.bug]: 'a bug in pinstorm; says nothing about the run',
  [EXIT.threshold]: 'a threshold was crossed',
  [EXIT.invalid]: 'invalid scenario, option or environment; nothing was run',
  [EXIT.stopped]: 'stopped by the user',
  [EXIT.violated]: 'an accounting invariant was violated unexpectedly',
  [EXIT.inconclusive]: 'inconclusive: workers lost, threshold not measured, results not written',
  [EXIT.saturated]: 'the generator was too late to judge a latency',
};

/**
 * An error whose message is meant for the user: what is wrong, where (file:line:column when there is one), what was
 * expected. `hint` says how to fix it. The command line prints both, without a stack, and exits with `exitCode`.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
  readonly exitCode: number;
  readonly hint: string | null;

  /**
   * @param message a list where it has several lines: a name from elsewhere cannot begin a line of its own.
   * @param hint null only where the message itself says how to fix it, or where there is nothing to fix.
   */
  constructor(exitCode: number, message: string | readonly string[], hint: string | null) {
    super(typeof message === 'string' ? oneLine(message) : message.map(oneLine).join('\n'));
    this.exitCode = exitCode;
    this.hint = hint === null ? null : oneLine(hint);
  }
}

/** A text with the passwords of the URLs in it masked. */
export const withoutPasswords = (text: string): string => text.replace(/(:\/\/[^\s/@:'"]*):[^\s/]*@/g, '$1:***@');
