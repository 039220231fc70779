/** Two copies of every shard in one region: either node alone has everything and takes everything. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { History, violations } from '../../chaos/history.ts';
import { openClient } from '../../chaos/load.ts';
import { Processes } from '../../chaos/processes.ts';
import { readBack } from '../../chaos/readback.ts';
import type { AckLevel } from '../../core/protocol.ts';
import { eventually } from '../local/cluster.ts';
import { writeSpan } from './cluster.ts';

const SERIES_COUNT = 60;

/** Records of each shard that the node has and the other has not. */
async function lag(metricsUrl: string): Promise<number[]> {
  const text = await (await fetch(metricsUrl)).text();
  return [...text.matchAll(/^silverback_replication_lag_records\{.*\} (\d+)$/gm)].map(([, count]) => Number(count));
}

let processes: Processes | undefined;
let directory: string | undefined;
afterEach(async () => {
  await processes?.kill();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

test('with --copies 2 a region of two nodes goes on without either, and the one that returns catches up', async () => {
  directory = await mkdtemp(join(tmpdir(), 'silverback-copies-'));
  processes = await Processes.create({
    dataDir: directory,
    nodeCount: 2,
    shardCount: 4,
    coordinatorArgs: ['--copies', '2'],
  });
  const { grpc } = processes;
  processes.start();
  await processes.ready();
  const shards = await processes.status();
  expect(shards.map(({ node, shard }) => `${node} ${shard}`)).toEqual(
    ['node-1', 'node-2'].flatMap((node) => [0, 1, 2, 3].map((shard) => `${node} ${shard}`)),
  );

  const originMs = Math.floor(Date.now() / 7_200_000) * 7_200_000 - 7_200_000;
  const history = new History({ seed: 1, seriesCount: SERIES_COUNT, originMs, stepMs: 1_000 });
  const write = async (fromTick: number, toTick: number, ack: AckLevel): Promise<void> => {
    const client = openClient(grpc, ack, 60_000);
    await writeSpan(client, history, { fromSeries: 0, toSeries: SERIES_COUNT, fromTick, toTick });
    await client.close();
  };
  const cluster = processes;
  const everything = (complete: boolean) =>
    eventually(async () => {
      const answer = await readBack(cluster, history);
      expect(violations(answer.verdict)).toEqual([]);
      expect(answer.counted).toBe(history.acknowledgedCount);
      if (complete) expect(answer.gaps).toEqual([]);
    }, 120_000);

  // PEER: in the logs of both nodes, which are in two zones.
  await write(0, 50, 'PEER');
  await everything(true);

  await processes.kill(['node-1']);
  await write(50, 100, 'LOCAL');
  await everything(false);

  // What the other took meanwhile comes by its log; then the first alone answers, too.
  processes.start(['node-1']);
  await processes.ready();
  await everything(true);
  await eventually(async () => expect(await lag(cluster.metricsOf('node-2'))).toEqual([0, 0, 0, 0]), 120_000);
  await processes.kill(['node-2']);
  await write(100, 120, 'LOCAL');
  await everything(false);
});
