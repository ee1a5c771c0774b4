/**
 * Loaded into a worker process by a test (NODE_OPTIONS): SIGUSR2 ends one of its pool threads, as a crash in it would.
 */
import { isMainThread, type Worker } from 'node:worker_threads';

if (isMainThread) {
  const threads: Worker[] = [];
  process.on('worker', (thread) => threads.push(thread));
  process.on('SIGUSR2', () => void threads[0]?.terminate());
}
