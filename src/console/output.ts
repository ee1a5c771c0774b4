/**
 * The one way to standard output and standard error. Nothing that a terminal obeys goes through it but our own colours;
 * what is written is written whole, however slow its reader is; and what cannot be written is known at the end.
 */
import { fstatSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { bounded, escaped, oneLine } from '../base/printable.ts';
import { writeFailure } from '../base/write-failure.ts';

/** Between two lines of progress where there is no terminal, ms: often enough to see that it goes on. */
const LINE_EVERY_MS = 10_000;

/** What Output needs of process.stdout. */
export interface OutputStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string, done: (error?: Error | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

export class Output {
  #failure: NodeJS.ErrnoException | null = null;
  #nextLineMs = performance.now() + LINE_EVERY_MS;
  readonly #stream: OutputStream;
  /**
   * A file or device, which Node's own stream would write to in one go: a disk that takes only a part of it goes
   * unnoticed.
   */
  readonly #file: number | null;

  constructor(stream: OutputStream, fd: number) {
    this.#stream = stream;
    const stat = fstatSync(fd);
    this.#file = stat.isFile() || (stat.isCharacterDevice() && !isatty(fd)) ? fd : null;
    stream.on('error', (error) => this.#failed(error));
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number | undefined {
    return this.#stream.columns;
  }

  /** Text for people or a program. @param painted it holds colours of ours, and none from elsewhere. */
  write(text: string, painted = false): void {
    this.raw(escaped(text, painted && this.isTTY));
  }

  /**
   * Shows how far a command is: on a terminal in place of the last such line; elsewhere as a line of its own, the first
   * when the command has taken a while.
   */
  draw(line: string): void {
    if (!this.isTTY) {
      const nowMs = performance.now();
      if (nowMs < this.#nextLineMs) return;
      this.#nextLineMs = nowMs + LINE_EVERY_MS;
      this.write(`pinstorm: ${line}\n`);
      return;
    }
    // The last column stays free: some terminals wrap as soon as it is written.
    const width = Math.max(1, (this.columns || 80) - 1);
    this.raw(`\r${oneLine(line).slice(0, width)}\u001b[K`);
  }

  /** Takes the drawn line away. */
  wipe(): void {
    if (this.isTTY) this.raw('\r\u001b[K');
  }

  /** Text in which control characters mean what they say. */
  raw(text: string): void {
    if (this.#failure !== null) return;
    if (this.#file === null) {
      this.#stream.write(text, (error) => {
        if (error) this.#failed(error);
      });
      return;
    }
    try {
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at);
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  /** Waits until everything is written or cannot be. @returns why it cannot be, null otherwise. */
  async drained(): Promise<NodeJS.ErrnoException | null> {
    if (this.#file === null && this.#failure === null) {
      await new Promise<void>((resolve) => this.#stream.write('', () => resolve()));
    }
    return this.#failure;
  }

  #failed(error: Error): void {
    this.#failure ??= error;
  }
}

/** Standard output. */
export const stdout = new Output(process.stdout, 1);

/** Standard error. */
export const stderr = new Output(process.stderr, 2);

/** Prints results. */
export const print = (text: string): void => stdout.write(text);

/** Prints a summary, whose texts from elsewhere are clean. */
export const printPainted = (summary: string): void => stdout.write(summary, true);

/** Tells the user something beside the results. */
export const say = (text: string): void => stderr.write(bounded(text));

/**
 * Waits until all output has arrived. A reader of standard output that has seen enough (`| head`) is no error; anything
 * else that keeps results from arriving is told and ends the command with 113. @returns the exit status.
 */
export async function deliver(status: number, out = stdout, err = stderr): Promise<number> {
  const failure = await out.drained();
  let end = status;
  if (failure !== null && failure.code !== 'EPIPE') {
    const { message, hint, exitCode } = writeFailure('to standard output', failure);
    err.write(`pinstorm: error: ${message}; what is there is not whole\nhint: ${hint ?? ''}\n`);
    end = exitCode === 104 ? 113 : exitCode;
  }
  // Who does not hear messages cannot be told so.
  await err.drained();
  return end;
}
