/** Records sequences in a child process, and sees to it that the child ends. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { EXIT, UserError } from '../base/errors.ts';
import type { Sequence } from '../transcript/transcript.ts';
import type { Job, Message } from './record-job.ts';
import type { Claim } from './safety.ts';

export interface RecordOptions {
  readonly claim: Claim;
  readonly memoryBytes: number;
  readonly sequences: readonly Sequence[];
  /** For all of them together. */
  readonly limitMs: number;
  /** Called with each recording as it is made. */
  recorded(index: number, text: string): void;
  /** The script of the child; tests say another. */
  readonly script?: string;
}

export interface Recording {
  /** Rejects with UserError when the kernel, the time limit or the end of the child stops it. */
  readonly done: Promise<void>;
  /** Ends the child at once; the kernel gives everything back. */
  kill(): void;
}

export function recordAll(options: RecordOptions): Recording {
  const { claim, sequences } = options;
  const script = options.script ?? fileURLToPath(new URL('./record-child.js', import.meta.url));
  // Numbers of 64 bit go as they are. No variable of the user reaches the child but the one for stacks.
  const child = fork(script, {
    serialization: 'advanced',
    execArgv: [],
    env: { PINSTORM_DEBUG: process.env['PINSTORM_DEBUG'] ?? '' },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const job: Job = {
    parent: process.pid,
    kernel: claim.host.release,
    groups: claim.groups,
    capIpcLock: claim.host.capIpcLock,
    ownMachine: claim.host.ownMachine,
    memoryBytes: options.memoryBytes,
    sequences,
  };
  // A child that has ended already is told of by its exit.
  child.send(job, () => {});
  return { done: follow(child, options), kill: () => void child.kill('SIGKILL') };
}

function follow(child: ChildProcess, { sequences, limitMs, recorded }: RecordOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    let at = 0;
    let end: Message | null = null;
    let late = false;
    const fail = (error: unknown): void => {
      child.kill('SIGKILL');
      reject(error as Error);
    };
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, limitMs);
    child.on('message', (message: Message) => {
      if (message.kind === 'begins') at = message.index;
      else if (message.kind === 'recorded') {
        try {
          recorded(message.index, message.text);
        } catch (error) {
          fail(error);
        }
      } else end = message;
    });
    child.once('error', fail);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (end?.kind === 'done') resolve();
      else reject(whyEnded(end, late ? limitMs : null, signal ?? `exit status ${code}`, sequences[at]?.file ?? ''));
    });
  });
}

function whyEnded(end: Message | null, lateMs: number | null, how: string, file: string): Error {
  if (end?.kind === 'refused') return new UserError(end.exitCode, end.message, end.hint);
  if (end?.kind === 'failed') return new Error(`${file}: ${end.message}`);
  if (lateMs !== null)
    return new UserError(
      EXIT.inconclusive,
      `stopped at ${file}: the time limit of ${lateMs / 1000} s has passed`,
      'say more with --time-limit, or record fewer files; those that were recorded are kept',
    );
  return new UserError(
    EXIT.inconclusive,
    `the process that records ended by itself at ${file} (${how})`,
    'dmesg may say why: when memory runs out it is the first to go',
  );
}
