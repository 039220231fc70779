/** A cluster that is written to and asked is restarted node by node: its clients see no error, and nothing that was acknowledged is lost. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { History } from '../../chaos/history.ts';
import { Processes } from '../../chaos/processes.ts';
import { Steady } from '../../chaos/steady.ts';
import { untilWhole } from '../../chaos/whole.ts';
import { readsBackWhole } from './cluster.ts';

const REGIONS = ['east', 'west'];
const WHOLE_MS = 240_000;

let processes: Processes;
let directory: string;
afterEach(async () => {
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

test.each(['stop', 'kill'] as const)('node by node, by %s', { timeout: 900_000 }, async (how) => {
  directory = await mkdtemp(join(tmpdir(), 'silverback-rolling-'));
  processes = await Processes.create({ dataDir: directory, regions: REGIONS, nodeCount: 2, shardCount: 4 });
  processes.start();
  await processes.ready();
  const { url, grpc } = processes;
  const originMs = Math.floor(Date.now() / 1_000) * 1_000;
  const history = new History({ seed: 1, seriesCount: 60, originMs, stepMs: 500 });
  const steady = new Steady({ history, url, grpc, regions: REGIONS, retryMs: 120_000, readPauseMs: 100 });
  await untilWhole(url, WHOLE_MS);
  steady.start();
  for (const node of processes.nodes) {
    await processes[how]([node]);
    processes.start([node]);
    await untilWhole(url, WHOLE_MS);
    // No node follows before each of them went on; what an answer may have lacked, it said.
    const counts = [0, 0, 0];
    do {
      await new Promise((wake) => setTimeout(wake, 50));
      const { sdk, remote, answers } = steady.look();
      for (const [i, { errors, count }] of [sdk, remote, answers].entries()) {
        expect([...errors], node).toEqual([]);
        counts[i] = (counts[i] as number) + count;
      }
      expect([...answers.coverage.keys()], node).not.toContain('missing');
    } while (counts.includes(0));
  }
  await steady.stop();
  processes.checkAlive();
  await readsBackWhole(processes, history, WHOLE_MS);
});
