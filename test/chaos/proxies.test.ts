/** The faults of links, against a real Toxiproxy: each does to a connection what its name says, and healing ends it. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Proxies } from '../../chaos/proxies.ts';
import { eventually, freePort } from '../local/cluster.ts';

const TOXIPROXY = process.env['SILVERBACK_TEST_TOXIPROXY'];

describe.runIf(TOXIPROXY !== undefined)('a link', () => {
  let proxies: Proxies;
  let server: Server;
  let address: string;
  const sockets: Socket[] = [];
  let heard = '';

  beforeAll(async () => {
    // Answers everything with the same, and keeps it.
    server = createServer((socket) => {
      sockets.push(socket.on('error', () => undefined));
      socket.on('data', (bytes) => {
        heard += bytes.toString();
        socket.write(bytes);
      });
    });
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    proxies = await Proxies.start(TOXIPROXY!, 1);
    address = await proxies.open('a.b', `127.0.0.1:${port}`);
  });

  afterAll(() => {
    proxies?.close();
    for (const socket of sockets) socket.destroy();
    server?.close();
  });

  async function dial(): Promise<{ socket: Socket; text: () => string; closed: () => boolean }> {
    const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
    sockets.push(socket);
    let text = '';
    let isClosed = false;
    socket.on('data', (bytes) => {
      text += bytes.toString();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      isClosed = true;
    });
    await once(socket, 'connect');
    return { socket, text: () => text, closed: () => isClosed };
  }

  async function expectHealthy(): Promise<void> {
    await eventually(async () => {
      const { socket, text } = await dial();
      socket.write('hello');
      await eventually(() => expect(text()).toBe('hello'), 5_000);
      socket.destroy();
    });
  }

  test('that is cut breaks its connections and takes none until it is healed', async () => {
    const before = await dial();
    await proxies.strike('a.b', { kind: 'cut' });
    await eventually(() => expect(before.closed()).toBe(true));
    await expect(dial()).rejects.toThrow('ECONNREFUSED');
    await proxies.heal();
    await expectHealthy();
  });

  test('that is cut one way still carries the other', async () => {
    for (const direction of ['upstream', 'downstream'] as const) {
      const { socket, text, closed } = await dial();
      socket.write('1');
      await eventually(() => expect(text()).toBe('1'));
      await proxies.strike('a.b', { kind: 'one-way', direction });
      heard = '';
      socket.write('2');
      if (direction === 'downstream') await eventually(() => expect(heard).toBe('2'));
      await new Promise((wake) => setTimeout(wake, 300));
      expect(heard).toBe(direction === 'downstream' ? '2' : '');
      expect([text(), closed()]).toEqual(['1', false]);
      await proxies.heal(['a.b']);
      await expectHealthy();
    }
  });

  test('that is slow holds everything back, and lets it through when it heals', async () => {
    const { socket, text } = await dial();
    await proxies.strike('a.b', { kind: 'latency', latencyMs: 600_000, jitterMs: 0 });
    socket.write('held');
    await new Promise((wake) => setTimeout(wake, 300));
    expect(text()).toBe('');
    await proxies.heal();
    await eventually(() => expect(text()).toBe('held'));
  });

  test('that resets breaks connections, old and new; the others take their faults too', async () => {
    const before = await dial();
    await proxies.strike('a.b', { kind: 'reset', afterMs: 0 });
    await eventually(() => {
      before.socket.write('x');
      expect(before.closed()).toBe(true);
    });
    await proxies.heal();
    await proxies.strike('a.b', { kind: 'half-open' });
    await proxies.strike('a.b', { kind: 'bandwidth', kilobytesPerSecond: 10 });
    await proxies.strike('a.b', { kind: 'slow-close', delayMs: 100 });
    await proxies.heal();
    await expectHealthy();
    await expect(proxies.strike('c.d', { kind: 'cut' })).rejects.toThrow('there is no link c.d');
  });
});
