/**
 * The live page of a run, served by the coordinator to this machine only. Changes go to the page as server-sent events.
 * A request must name this server as its host (a page of another site that got a name to point here does not), and one
 * that stops the run must come from the page itself and carry its token.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { listenError } from '../../base/listen-error.ts';
import type { HdrScale } from '../../metrics/hdr.ts';
import type { WorkerHealth } from '../../metrics/run-metrics.ts';
import { verdictSentence } from '../../report/advice.ts';
import type { EventMark, LiveUpdate, PackedGuest } from '../../report/chart-data.ts';
import { eventMarks, packGuest } from '../../report/contents.ts';
import { fragmentsOf, livePage } from '../../report/html/live.ts';
import type { RunIdentity, RunResults } from '../../report/results.ts';
import { Timeline } from '../../report/timeline.ts';
import type { RunEvent, RunInterval, RunSink } from '../run-event.ts';

export interface LivePageOptions {
  /** 0: any free one. */
  readonly port: number;
  readonly run: RunIdentity;
  readonly scale: HdrScale;
  /** The figures so far, for readers. */
  readonly figures: { soFar(): RunResults; readonly workers: readonly WorkerHealth[] };
  /** Where the report is going to be, once the run has a directory. */
  readonly report: () => string;
  /** The reader asks the run to stop. */
  readonly onStop: () => void;
}

const HOST = '127.0.0.1';

/** A reader that does not keep up is let go when this much waits for it, bytes; its browser comes back by itself. */
const BACKLOG_MAX = 16 << 20;

/** Seconds of the run between two spectra: they are the largest part of a message. */
const SPECTRA_SECONDS = 3;

/** How long readers may take to receive the end, ms. */
const FAREWELL_MS = 2000;

export class LivePage implements RunSink {
  readonly url: string;
  readonly #options: LivePageOptions;
  readonly #server: Server;
  readonly #hosts: readonly string[];
  readonly #token = randomBytes(24).toString('base64url');
  readonly #readers = new Set<ServerResponse>();
  readonly #timeline: Timeline;
  readonly #events: EventMark[] = [];
  readonly #guests: PackedGuest[] = [];
  #sent = { slots: 0, merged: 1, events: 0, guests: 0, spectraAt: -Infinity };
  #seconds = 0;
  #fragments: Readonly<Record<string, string>> = {};
  #state: LiveUpdate['state'] = 'waiting';
  #end: LiveUpdate['end'];
  /** Resolves for each reader that has received the end. */
  #told: Promise<void>[] = [];

  /** @throws UserError 104 if the port cannot be had. */
  static async open(options: LivePageOptions): Promise<LivePage> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(listenError(error, { port: options.port }, '--ui-port')),
      );
      server.listen(options.port, HOST, resolve);
    });
    return new LivePage(options, server);
  }

  private constructor(options: LivePageOptions, server: Server) {
    this.#options = options;
    this.#server = server;
    this.#timeline = new Timeline(options.scale);
    const { port } = server.address() as AddressInfo;
    this.#hosts = [`${HOST}:${port}`, `localhost:${port}`];
    this.url = `http://${HOST}:${port}/`;
    server.on('request', (request, response) => this.#answer(request, response));
  }

  take(event: RunEvent): void {
    switch (event.t) {
      case 'interval':
        this.#interval(event);
        break;
      case 'event':
        this.#events.push(...eventMarks([{ atSeconds: event.atSeconds, kind: event.kind, ...event.fields }]));
        if (event.kind === 'stop') this.#state = 'stopping';
        break;
      case 'guest':
        this.#guests.push(packGuest(event.row));
        break;
      case 'ended':
        this.#ended(event.results);
        break;
      case 'begun':
        break;
    }
  }

  /** Waits until readers know how the run ended, if it did, and lets them go. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, FAREWELL_MS)));
    await Promise.race([Promise.all(this.#told), late]);
    clearTimeout(timer);
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #interval({ startSeconds, endSeconds, delta, gauges, guests }: RunInterval): void {
    if (this.#state === 'waiting') this.#state = 'running';
    const counters = delta.countersByName();
    this.#timeline.add(
      { startSeconds, endSeconds, counters, gauges, guests: { ...guests } },
      [...delta.data].map(([id, { cells }]) => [id, cells] as const),
    );
    this.#seconds = endSeconds;
    // Nobody looks: the next reader gets everything.
    if (this.#readers.size === 0) return;
    const { figures } = this.#options;
    this.#fragments = fragmentsOf(figures.soFar(), figures.workers, this.#events);
    this.#tell();
  }

  #ended(results: RunResults): void {
    const { figures, report } = this.#options;
    this.#state = 'ended';
    this.#end = { verdict: results.verdict.verdict, sentence: verdictSentence(results), report: report() };
    this.#fragments = fragmentsOf(results, figures.workers, this.#events);
    this.#sent = { ...this.#sent, spectraAt: -Infinity };
    this.#tell();
    // With its last message a stream ends: a page that closes it by itself sees a request that failed.
    this.#told = [...this.#readers].map(
      (reader) => new Promise<void>((resolve) => reader.on('close', resolve).end(() => resolve())),
    );
  }

  /** Sends what is new to everybody. */
  #tell(): void {
    const { merged } = this.#timeline;
    // The last slot may have grown; when slots were joined all of them are others.
    const from = merged === this.#sent.merged ? Math.max(0, this.#sent.slots - 1) : 0;
    const spectra = this.#seconds - this.#sent.spectraAt >= SPECTRA_SECONDS;
    const text = `data: ${JSON.stringify(this.#update(from, this.#sent, spectra))}\n\n`;
    for (const reader of this.#readers) {
      if (reader.writableLength > BACKLOG_MAX) reader.destroy();
      else reader.write(text);
    }
    this.#sent = {
      slots: this.#timeline.length,
      merged,
      events: this.#events.length,
      guests: this.#guests.length,
      spectraAt: spectra ? this.#seconds : this.#sent.spectraAt,
    };
  }

  #update(
    from: number,
    since: { readonly events: number; readonly guests: number } | null,
    spectra: boolean,
  ): LiveUpdate {
    return {
      from,
      slots: this.#timeline.slots(from),
      merged: this.#timeline.merged,
      durationSeconds: this.#seconds,
      ...(spectra ? { spectra: this.#timeline.spectra() } : {}),
      events: this.#events.slice(since?.events ?? 0),
      guests: this.#guests.slice(since?.guests ?? 0),
      whole: since === null,
      fragments: this.#fragments,
      state: this.#state,
      text: this.#end === undefined ? STATE_TEXT[this.#state] : `ended: ${this.#end.verdict}`,
      ...(this.#end === undefined ? {} : { end: this.#end }),
    };
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const reply = (status: number, type: string, body: string): void => {
      response.writeHead(status, { ...HEADERS, 'content-type': `${type}; charset=utf-8` });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    const { host, origin } = request.headers;
    const path = (request.url ?? '').split('?', 1)[0];
    if (host === undefined || !this.#hosts.includes(host)) {
      reply(421, 'text/plain', `this is ${this.url}\n`);
    } else if (path === '/stop' && request.method === 'POST') {
      const own = origin === undefined || origin === `http://${host}`;
      if (!own || !this.#isToken(request.headers['x-pinstorm-token'])) {
        reply(403, 'text/plain', 'only the page itself may stop the run\n');
        return;
      }
      this.#options.onStop();
      reply(202, 'text/plain', 'stopping\n');
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      reply(405, 'text/plain', 'GET only\n');
    } else if (path === '/') {
      reply(200, 'text/html', livePage(this.#options.run, this.#token));
    } else if (path === '/events' && request.method === 'GET') {
      response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
      // Everything so far; from then on it hears what the others hear.
      response.write(`retry: 1000\ndata: ${JSON.stringify(this.#update(0, null, true))}\n\n`);
      this.#readers.add(response);
      response.on('close', () => this.#readers.delete(response));
    } else {
      reply(404, 'text/plain', 'there is only the page at /\n');
    }
  }

  #isToken(given: string | string[] | undefined): boolean {
    const [a, b] = [Buffer.from(this.#token), Buffer.from(typeof given === 'string' ? given : '')];
    return a.length === b.length && timingSafeEqual(a, b);
  }
}

const STATE_TEXT: Readonly<Record<LiveUpdate['state'], string>> = {
  waiting: 'waiting for workers',
  running: 'running',
  stopping: 'stopping',
  ended: 'ended',
};

const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
};
