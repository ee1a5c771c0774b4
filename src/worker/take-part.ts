/** A worker from its start to its end: the run or the experiment that comes first, and its part in it. */
import { redisFailure } from '../wire/redis.ts';
import { awaitExperiment, runExperiment } from './experiment-node.ts';
import { awaitRun } from './find-run.ts';
import { runWorker, type WorkerOptions } from './worker.ts';

export interface PartOptions extends Omit<WorkerOptions, 'runId'> {
  /** The only run to take part in; undefined: whatever comes first. */
  readonly run: string | undefined;
  readonly leave: AbortSignal;
}

/**
 * Takes part until that is over, or `leave` asks to go: then nothing that fails matters.
 * @param tell hears what the user should know.
 * @throws UserError when the worker cannot take part, or Redis is gone.
 */
export async function takePart(options: PartOptions, tell: (line: string) => void): Promise<void> {
  const { target, workerId, threads, run, leave } = options;
  try {
    if (run === undefined) {
      const start = `pinstorm coordinator FILE --redis ${target.label}`;
      tell(`worker ${workerId} waits at ${target.label} for a run or an experiment; start a run with ${start}`);
    }
    const taken = run === undefined ? await first(options) : { run };
    if ('experiment' in taken) {
      tell(`simulating for experiment ${taken.experiment}`);
      await runExperiment(target, taken.experiment, threads, leave);
      return;
    }
    tell(`taking guests of run ${taken.run}, on ${threads} threads`);
    await runWorker({ ...options, runId: taken.run });
    tell(`done with run ${taken.run}`);
  } catch (error) {
    if (!leave.aborted) throw redisFailure(target, error) ?? error;
  }
}

/** Waits for a run or an experiment, whichever comes first. */
async function first({ target, leave }: PartOptions): Promise<{ run: string } | { experiment: string }> {
  const found = new AbortController();
  const signal = AbortSignal.any([leave, found.signal]);
  const taken = await Promise.race([
    awaitRun(target, signal).then((run) => ({ run })),
    awaitExperiment(target, signal).then((experiment) => ({ experiment })),
  ]);
  found.abort();
  return taken;
}
