/** The driver threads of a worker process: each is one long Piscina task with a port of its own. */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { WallControl } from '../engine/wall/wall-control.ts';
import type { FromThread, ThreadTask, ToThread } from './thread-messages.ts';

export class DriverThreads {
  readonly #pool: Piscina;
  /** Resolves when all of them are warm. */
  readonly ready: Promise<void>;
  readonly #control: WallControl;
  readonly #ports: MessagePort[] = [];
  readonly #tasks: Promise<unknown>[] = [];

  constructor(
    threads: number,
    control: WallControl,
    taskOf: (thread: number) => Omit<ThreadTask, 'thread' | 'port'>,
    receive: (message: Exclude<FromThread, { type: 'ready' }>) => void,
  ) {
    this.#control = control;
    this.#pool = new Piscina({
      filename: new URL('./wall-thread.js', import.meta.url).href,
      name: 'run',
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: 1,
      maxQueue: threads,
      atomics: 'disabled',
    });
    let warm = 0;
    let allWarm = (): void => {};
    this.ready = new Promise((resolve) => (allWarm = resolve));
    for (let thread = 0; thread < threads; thread += 1) {
      const { port1, port2 } = new MessageChannel();
      port1.on('message', (m: FromThread) => {
        if (m.type !== 'ready') receive(m);
        else if ((warm += 1) === threads) allWarm();
      });
      this.#ports.push(port1);
      const task: ThreadTask = { ...taskOf(thread), thread, port: port2 };
      this.#tasks.push(this.#pool.run(task, { transferList: [port2] }));
    }
  }

  /** Rejects when one of them dies. */
  get failure(): Promise<unknown> {
    return Promise.race(this.#tasks);
  }

  send(thread: number, message: ToThread): void {
    this.#ports[thread]?.postMessage(message);
    this.#control.announceMessage(thread);
  }

  /** After the control block has told them to stop. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#tasks);
    for (const port of this.#ports) port.close();
    await this.#pool.destroy();
  }
}
