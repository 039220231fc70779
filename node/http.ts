/** A node's HTTP face, for operators: `/metrics`, `/-/healthy`, `/-/ready`. */
import { createServer, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import type { Connections } from '../core/connections.ts';
import { SilverbackError } from '../core/errors.ts';

export interface HttpOptions {
  readonly registry: Registry;
  readonly isReady: () => boolean;
  readonly connections: Connections;
}

export interface HttpServer {
  readonly port: number;
  close(): void;
}

/** Listens; port 0: any free one. Rejects with UNAVAILABLE if the address is taken. */
export function serveHttp(host: string, port: number, options: HttpOptions): Promise<HttpServer> {
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (path === '/metrics') {
      options.registry.metrics().then(
        (text) => send(response, 200, text, options.registry.contentType),
        (error: unknown) => send(response, 500, String(error)),
      );
    } else if (path === '/-/healthy') send(response, 200, 'healthy');
    else if (path === '/-/ready')
      send(response, options.isReady() ? 200 : 503, options.isReady() ? 'ready' : 'recovering');
    else send(response, 404, 'there are /metrics, /-/healthy and /-/ready');
  });
  options.connections.bound(server);
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new SilverbackError('UNAVAILABLE', `cannot listen on ${host}:${port}: ${cause.message}`, { cause }));
    });
    server.listen(port, host, () => {
      const address = server.address();
      const bound = address !== null && typeof address === 'object' ? address.port : port;
      resolve({
        port: bound,
        close() {
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}

function send(response: ServerResponse, status: number, text: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': type }).end(text);
}
