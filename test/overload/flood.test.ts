/** Clients that write more than a node takes, over many connections and with huge messages: they wait, others do not. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Processes } from '../../chaos/processes.ts';
import { eventually } from '../local/cluster.ts';
import { flood } from './flood.ts';
import { addressOf, PoliteWriter, residentBytes, rowsOf, sumOf } from './support.ts';

const MIB = 2 ** 20;
const CALLERS = 'silverback_node_caller_';

const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(): Promise<Processes> {
  const dataDir = await mkdtemp(join(tmpdir(), 'silverback-flood-'));
  closers.push(() => rm(dataDir, { recursive: true }));
  const processes = await Processes.create({ dataDir, nodeCount: 1, shardCount: 1 });
  closers.push(() => processes.kill());
  processes.start();
  await processes.ready();
  return processes;
}

test('one that floods over many connections waits; a polite one loses nothing, and metrics say who it is', async () => {
  const processes = await start();
  const [node] = processes.nodes as [string];
  const metrics = processes.metricsOf(node);
  const polite = new PoliteWriter(processes.grpc);
  closers.push(() => polite.client.close(0));
  await polite.tick();
  const emptyBytes = residentBytes(processes.pidOf(node));
  const { stop, kill } = flood(addressOf(metrics), 16, 60_000);
  closers.push(kill);
  polite.start();
  let mostResident = 0;
  let mostInFlight = 0;
  // Until both were at it for long enough, however slow the machine is.
  const floodedCount = () => sumOf(metrics, `${CALLERS}requests_total`, { caller: 'flooder' });
  for (let rounds = 0; rounds < 200 && (polite.tickCount < 100 || (await floodedCount()) < 500); rounds++) {
    await new Promise((wake) => setTimeout(wake, 500));
    mostResident = Math.max(mostResident, residentBytes(processes.pidOf(node)));
    mostInFlight = Math.max(mostInFlight, await sumOf(metrics, `${CALLERS}in_flight_bytes`, { caller: 'flooder' }));
  }
  await polite.stop();
  const told = await stop();
  expect(polite.failures).toEqual([]);
  expect(polite.tickCount).toBeGreaterThanOrEqual(100);
  expect(await polite.storedCount(processes.url)).toBe(polite.sentCount);
  // What was too much was refused with a delay, and nobody had more under way than was left to others.
  expect(told.replies['RESOURCE_EXHAUSTED']).toBeGreaterThan(0);
  expect(told.retryAfterMs).toBeGreaterThan(0);
  expect(told.messages.join('\n')).toMatch(/bytes wait for the log's disk|nobody may have more than is left to others/);
  expect(mostInFlight).toBeLessThanOrEqual(64 * MIB);
  // Messages that connections have half received are not among those.
  expect(mostResident - emptyBytes).toBeLessThan(512 * MIB);
  const refused = await rowsOf(metrics, `${CALLERS}refused_samples_total`);
  const most = refused.reduce((one, other) => (other.value > one.value ? other : one));
  expect(most.labels).toEqual({ caller: 'flooder', code: 'RESOURCE_EXHAUSTED' });
});

test('a request of more samples than its answer could name is refused as a whole, with words', async () => {
  const processes = await start();
  const [node] = processes.nodes as [string];
  const { stop, kill } = flood(addressOf(processes.metricsOf(node)), 1, 140_000);
  closers.push(kill);
  await eventually(async () => {
    const counted = await sumOf(processes.metricsOf(node), `${CALLERS}turned_away_total`, { caller: 'flooder' });
    if (counted < 5) throw new Error(`only ${counted} requests were turned away`);
  });
  const { replies, messages } = await stop();
  expect(Object.keys(replies)).toEqual(['TOO_LARGE']);
  expect(messages).toEqual(['request of N samples, at most N are accepted']);
});
