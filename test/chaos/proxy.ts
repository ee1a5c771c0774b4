/** A way to Redis that can be slow and can lose an answer together with its connection, as a network does. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

export class Proxy {
  readonly url: string;
  /** Every request and every answer takes so much longer. */
  delayMs = 0;
  #generation = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #watched = new Set<{ readonly text: string; readonly cut: boolean; seen(): void }>();

  private constructor(url: string, to: string) {
    this.url = url;
    this.#server = createServer((client) => {
      const redis = connect(to);
      const generation = this.#generation;
      let cut = false;
      const pass = (from: Socket, onto: Socket, look?: (data: Buffer) => void): void => {
        this.#sockets.add(from);
        from.on('data', (data: Buffer) => {
          if (cut && from === redis) {
            client.destroy();
            return;
          }
          look?.(data);
          const write = (): void => void (generation === this.#generation && onto.writable && onto.write(data));
          if (this.delayMs === 0) write();
          else setTimeout(write, this.delayMs);
        });
        from.on('error', () => {});
        from.on('close', () => {
          this.#sockets.delete(from);
          onto.destroy();
        });
      };
      pass(client, redis, (data) => {
        for (const watch of this.#watched) {
          if (!data.includes(watch.text)) continue;
          this.#watched.delete(watch);
          cut ||= watch.cut;
          watch.seen();
        }
      });
      pass(redis, client);
    });
  }

  static async open(directory: string, to: string): Promise<Proxy> {
    const proxy = new Proxy(join(directory, 'proxy.sock'), to);
    proxy.#server.listen(proxy.url);
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** Resolves when a request that contains `text` is on its way. */
  seen(text: string): Promise<void> {
    return new Promise((resolve) => this.#watched.add({ text, cut: false, seen: resolve }));
  }

  /** The answer to the next request that contains `text` is lost. Resolves when that request is on its way. */
  loseAnswerTo(text: string): Promise<void> {
    return new Promise((resolve) => this.#watched.add({ text, cut: true, seen: resolve }));
  }

  /** The connections of now carry nothing any more and stay open, as when a router forgets them. New ones work. */
  mute(): void {
    this.#generation += 1;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
