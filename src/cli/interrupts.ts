/** Ctrl-C for commands that simulate: once ends gracefully, twice at once. */
import { EXIT, UserError } from '../base/errors.ts';
import { StopSignal } from '../worker/virtual-pool.ts';

/** Runs `body`, which looks at the signal it is given. Rejects with UserError 105 on the second interrupt. */
export async function interruptible<T>(body: (stop: StopSignal) => Promise<T>): Promise<T> {
  const stop = new StopSignal();
  let stopNow: (error: UserError) => void = () => {};
  const stopped = new Promise<never>((_, reject) => (stopNow = reject));
  const onSignal = (): void => {
    if (stop.isSet) stopNow(new UserError(EXIT.stopped, 'stopped at once by the user'));
    else
      process.stderr.write(
        `${process.stderr.isTTY ? '\r\u001b[K' : ''}pinstorm: stopping; once more to stop at once\n`,
      );
    stop.set();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await Promise.race([stopped, body(stop)]);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
