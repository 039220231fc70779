/** Whether a port can be had, asked by taking it for a moment. */
import { createServer } from 'node:net';

/** @returns undefined when `port` is free on `host`, else why not */
export function whyTaken(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'EADDRINUSE' ? `port ${port} is in use` : `port ${port} on ${host}: ${error.message}`),
    );
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
