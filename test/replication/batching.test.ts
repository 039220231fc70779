/** How many messages replication takes, and what is not kept waiting for others to go with it, in simulated time. */
import { expect, test, vi } from 'vitest';
import type { Duplex } from '../../core/grpc.ts';
import { encodeMetadata } from '../../core/metadata.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import { type ReplicateReply, type ReplicateRequest, shardsService } from '../../core/protocol.ts';
import { helloOf, SPOKEN } from '../../core/versions.ts';
import { Refused } from '../../node/hello.ts';
import { Replication } from '../../node/replication/replication.ts';
import { type SinkContext, serveReplication } from '../../node/replication/sink.ts';
import { Budget } from '../../node/shard/budget.ts';
import { RecordKind } from '../../node/shard/log.ts';
import { Shard } from '../../node/shard/shard.ts';
import { asRecord } from '../../node/shard/window.ts';
import { batchOf, bitsOf, contentsOf, type Sample } from '../shard/model.ts';
import { Network } from '../sim/network.ts';
import { Sim } from '../sim/sim.ts';

const SHARD_COUNT = 8;
const SERIES_COUNT = 20;
const START_MS = Date.UTC(2026, 0, 1);

interface Host {
  readonly shards: Shard[];
  readonly replication: Replication;
  readonly context: SinkContext;
  /** Messages with records that came here, of how many shards they were together, and answers to them. */
  readonly counts: { messages: number; parts: number; answers: number };
}

/** Two regions of one node each, that have met. */
class Pair {
  readonly sim = new Sim(11);
  readonly hosts = new Map<string, Host>();
  #tick = 0;

  static async open(): Promise<Pair> {
    const pair = new Pair();
    const network = new Network(pair.sim);
    network.delayMs = 1;
    const copies = ['east', 'west'].map(
      (name): Copy => ({ region: name, zone: 'a', node: 'n', address: name, state: 'active', epoch: 1 }),
    );
    const placement: Placement = {
      ...{ clusterId: 'c', shardCount: SHARD_COUNT, revision: 1 },
      copies: Array.from({ length: SHARD_COUNT }, () => copies),
    };
    for (const { region } of copies) await pair.#start(region, network, placement);
    await pair.sim.advance(3_000);
    return pair;
  }

  get east(): Host {
    return this.hosts.get('east') as Host;
  }

  get west(): Host {
    return this.hosts.get('west') as Host;
  }

  /** One sample; resolves when it is acknowledged. */
  async write(host: Host, id: number, ack: 'LOCAL' | 'PEER'): Promise<void> {
    const series = `s${this.#tick % SERIES_COUNT}`;
    const samples: Sample[] = [{ series, timestampMs: START_MS + this.#tick, bits: bitsOf(this.#tick++) }];
    const sender = (host.shards[id] as Shard).attach();
    const outcome = await sender.append(
      batchOf(samples, (one) => Number(one.slice(1)), new Set([series])),
      ack,
    );
    sender.detach();
    expect(outcome).toMatchObject({ code: 'OK' });
  }

  /** Every shard holds the same in both. */
  async expectSame(): Promise<void> {
    for (let id = 0; id < SHARD_COUNT; id++) {
      const [one, other] = [this.east, this.west].map(({ shards }) => contentsOf(shards[id] as Shard));
      const lines = [...(await this.sim.settle(one as NonNullable<typeof one>)).lines()].sort();
      expect([...(await this.sim.settle(other as NonNullable<typeof other>)).lines()].sort()).toEqual(lines);
    }
  }

  async #start(name: string, network: Network, placement: Placement): Promise<void> {
    const { sim } = this;
    const machine = sim.machine();
    const env = machine.boot();
    network.up(name, machine);
    const say = () => undefined;
    const replication = await sim.settle(
      Replication.open({
        ...{ env, name: 'n', region: name, zone: 'a', clusterId: 'c', directory: '/d' },
        ...{ log: { info: say, warn: say }, frontierBoundMs: 30_000 },
        connect: (address) => network.channel(name, address),
      }),
    );
    const shards: Shard[] = [];
    for (let shard = 0; shard < SHARD_COUNT; shard++) {
      const limits = { maxKernelBytes: 1 << 24, maxSeriesCount: 256 };
      const options = { shard, budget: new Budget(1 << 30), limits, maxSampleAgeMs: Number.POSITIVE_INFINITY };
      shards.push(await sim.settle(Shard.open(env, `/d/${shard}`, options)));
    }
    const find = (id: number) => shards[id] as Shard;
    const node = { name: 'n', clusterId: 'c', spoken: SPOKEN, refused: new Refused(() => 0), find };
    const { origins, frontiers, pace } = replication;
    const context = { env, node, origins, frontiers, pace };
    const counts = { messages: 0, parts: 0, answers: 0 };
    network.serve(name, shardsService.Replicate, (call) => serveReplication(counted(call, counts), context));
    replication.follow(placement);
    for (const [id, shard] of shards.entries()) replication.opened(id, shard);
    this.hosts.set(name, { shards, replication, context, counts });
  }
}

function counted(
  call: Duplex<ReplicateRequest, ReplicateReply>,
  counts: Host['counts'],
): Duplex<ReplicateRequest, ReplicateReply> {
  return {
    ...call,
    listen: ({ request, end }) =>
      call.listen({
        request: (one) => {
          if (one.records.length > 0) {
            counts.messages++;
            counts.parts += 1 + one.others.length;
          }
          request(one);
        },
        end,
      }),
    send: (reply) => {
      if (reply.attempt > 0) counts.answers++;
      call.send(reply);
    },
  };
}

test('what is written in a moment goes over in one message, each shard once, and is answered in a few', async () => {
  const pair = await Pair.open();
  const { east, west, sim } = pair;
  for (let id = 0; id < SHARD_COUNT; id++) await sim.settle(pair.write(east, id, 'LOCAL'));
  await sim.advance(1_000);
  const before = { ...west.counts };
  const wrote = Array.from({ length: 4 * SHARD_COUNT }, (_, i) => pair.write(east, i % SHARD_COUNT, 'LOCAL'));
  await sim.advance(1_000);
  await Promise.all(wrote);
  expect(west.counts.messages - before.messages).toBe(1);
  expect(west.counts.parts - before.parts).toBe(SHARD_COUNT);
  // Once it is in the logs, and once it is durable there.
  expect(west.counts.answers - before.answers).toBeLessThanOrEqual(4);
  await pair.expectSame();
});

test('what nobody waits for is there soon all the same, however little it is', async () => {
  const pair = await Pair.open();
  const { east, sim } = pair;
  for (let turn = 0; turn < 20; turn++) {
    await sim.settle(pair.write(east, turn % SHARD_COUNT, 'LOCAL'));
    await sim.advance(100);
    for (const { recordCount } of east.replication.lags()) expect(recordCount).toBe(0);
  }
});

test('what somebody waits for waits for nothing but the way and the disks', async () => {
  const pair = await Pair.open();
  const { east, sim } = pair;
  // Another one is always held back, or kept to be answered.
  for (let turn = 0; turn < 50; turn++) {
    await sim.settle(pair.write(east, 1, 'LOCAL'));
    await sim.advance(turn);
    const startedMs = sim.nowMs;
    await sim.settle(pair.write(east, 0, 'PEER'));
    // Two ways of 1 ms, and ten times that now and then, and two writes of 2 ms at the most.
    expect(sim.nowMs - startedMs).toBeLessThan(sim.nowMs - startedMs > 8 ? 24 : 8);
  }
  await sim.advance(1_000);
  await pair.expectSame();
});

test('a log that only grows by what comes from elsewhere is not read, until something enters there', async () => {
  const pair = await Pair.open();
  const { east, west, sim } = pair;
  const reads = west.shards.map((shard) => vi.spyOn(shard.cursors.log as { read: unknown } & object, 'read' as never));
  for (let turn = 0; turn < 40; turn++) {
    await sim.settle(pair.write(east, turn % SHARD_COUNT, 'LOCAL'));
    await sim.advance(50);
  }
  await sim.advance(1_000);
  for (const read of reads) expect(read).not.toHaveBeenCalled();
  for (const { recordCount } of west.replication.lags()) expect(recordCount).toBe(0);
  // Of series that came from east: their definitions go back with them.
  for (let turn = 0; turn < 4 * SHARD_COUNT; turn++) {
    await sim.settle(pair.write(turn % 3 === 0 ? east : west, turn % SHARD_COUNT, 'LOCAL'));
    await sim.advance(turn);
  }
  await sim.advance(1_000);
  for (const read of reads) expect(read).toHaveBeenCalled();
  await pair.expectSame();
});

test('a sender that does not know of answers for several shards gets one for each message, at once', async () => {
  const { east, sim } = await Pair.open();
  const replies: ReplicateReply[] = [];
  let take: (request: ReplicateRequest) => void = () => undefined;
  const call: Duplex<ReplicateRequest, ReplicateReply> = {
    caller: { name: 'old', address: '' },
    signal: new AbortController().signal,
    listen: ({ request }) => {
      take = request;
    },
    send: (reply) => void replies.push(reply),
    pause: () => undefined,
    resume: () => undefined,
    finish: (error) => {
      if (error !== undefined) throw error;
    },
  };
  serveReplication(call, east.context);
  const { requestSerialize, requestDeserialize } = shardsService.Replicate;
  const send = (message: Partial<ReplicateRequest>) =>
    take(requestDeserialize(requestSerialize(message as ReplicateRequest)));
  send({ hello: helloOf(SPOKEN, 'c', 'north/n'), region: 'north', node: 'n' });
  for (let shard = 0; shard < SHARD_COUNT; shard++) {
    const metadata = encodeMetadata([{ name: `m${shard}`, type: 1, unit: '', help: '' }]);
    const records = asRecord(RecordKind.METADATA, metadata);
    send({ shard, attempt: 1, run: 1, incarnation: 1, firstSequence: 1, endSequence: 2, records });
  }
  await sim.advance(15);
  const answered = replies.filter(({ attempt }) => attempt > 0);
  expect(answered.map(({ shard }) => shard).sort()).toEqual(Array.from({ length: SHARD_COUNT }, (_, id) => id));
  for (const reply of answered) expect(reply).toMatchObject({ code: 'OK', writtenSequence: 2, others: [] });
});
