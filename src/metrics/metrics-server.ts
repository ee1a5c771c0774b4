import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { listenError } from '../base/listen-error.ts';
import type { MetricSources } from './exposition.ts';

export interface MetricsServer {
  /** The port it listens on, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves /metrics and /healthz. Loads the library for metrics, so that only a process that serves them pays for it.
 * @param options.port 0 takes any free port.
 * @param options.host default: only this machine.
 * @throws UserError 104 if the port cannot be had.
 */
export async function serveMetrics(
  sources: MetricSources,
  options: { readonly port: number; readonly host?: string | undefined },
): Promise<MetricsServer> {
  const { port, host = '127.0.0.1' } = options;
  const { createRegistry } = await import('./exposition.ts');
  const registry = createRegistry(sources);
  const hosts = new Set<string>();
  const server = createServer((request, response) => {
    if (isLoopback(host) && !hosts.has(request.headers.host ?? '')) misdirected(response, host);
    else void answer(registry, request, response);
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(listenError(error, { host, port }, '--metrics-port')),
    );
    server.listen(port, host, resolve);
  });
  const { port: taken } = server.address() as AddressInfo;
  for (const name of [host, 'localhost', '127.0.0.1', '[::1]']) hosts.add(`${name}:${taken}`);
  return {
    port: taken,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Only this machine can reach it: then no page of another site may, by a name that was made to point here. */
const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.');

function misdirected(response: ServerResponse, host: string): void {
  response.writeHead(421, { 'content-type': 'text/plain' });
  response.end(`these are the metrics of ${host}: ask for that, or listen on another address with --metrics-host\n`);
}

async function answer(registry: Registry, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const reply = (status: number, type: string, body: string) => {
    response.writeHead(status, { 'content-type': type });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  try {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') reply(405, 'text/plain', 'GET only\n');
    else if (path === '/metrics') reply(200, registry.contentType, await registry.metrics());
    else if (path === '/healthz') reply(200, 'text/plain', 'ok\n');
    else reply(404, 'text/plain', 'try /metrics or /healthz\n');
  } catch (error) {
    reply(500, 'text/plain', `${error instanceof Error ? error.message : String(error)}\n`);
  }
}
