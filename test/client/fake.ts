/** A node without storage: keeps what it is sent by identity, and fails when and how it is told. */
import { nodeEnv } from '../../core/env/node.ts';
import type { SilverbackError } from '../../core/errors.ts';
import { readExemplars } from '../../core/exemplars.ts';
import { type Duplex, RpcServer } from '../../core/grpc.ts';
import { decodeIdentity, formatLabels } from '../../core/labels.ts';
import type { Copy, Placement } from '../../core/placement.ts';
import {
  type AggregateRequest,
  type LabelsRequest,
  type RangeRequest,
  type ReadReply,
  type ReadRequest,
  type Rejection,
  type SelectRequest,
  type ShardBatch,
  type ShardOutcome,
  shardsService,
  type WireCode,
  type WireCoverage,
  type WriteReply,
  type WriteRequest,
} from '../../core/protocol.ts';

import { type Hello, SPOKEN, type Spoken, toWire } from '../../core/versions.ts';

export const env = nodeEnv;

/** What to say to a shard batch instead of storing it; undefined: store it. */
export type Verdict =
  | { readonly code: WireCode; readonly message?: string; readonly retryAfterMs?: number }
  | undefined;

/** A reply to a read, as far as it is not blank. */
export type SentReply = Partial<ReadReply>;

export class FakeNode {
  /** `series` -> samples as `timestamp=bits`. */
  readonly samples = new Map<string, Set<string>>();
  readonly requests: WriteRequest[] = [];
  readonly hellos: Hello[] = [];
  spoken: Spoken = SPOKEN;
  streamCount = 0;
  /** Asked before each shard batch. */
  judge: (batch: ShardBatch) => Verdict = () => undefined;
  /** Asked for each series of a batch: refuse its samples? */
  reject: (series: string) => Pick<Rejection, 'code' | 'message'> | undefined = () => undefined;
  /** Called instead of answering a request; `answer` answers it. */
  hold: ((answer: () => void) => void) | undefined;
  /** Answers a select. */
  select: (request: SelectRequest, send: (reply: SentReply) => void, signal: AbortSignal) => Promise<void> = async (
    request,
    send,
  ) => send({ done: true, coverage: complete(request) });
  /** Answers an aggregation. */
  aggregate: (request: AggregateRequest, send: (reply: SentReply) => void, signal: AbortSignal) => Promise<void> =
    async ({ select }, send) => send({ done: true, coverage: complete(select as SelectRequest) });
  labels: (request: LabelsRequest) => Promise<readonly string[]> = async () => [];
  /** It is of before values came as pages. */
  isOld = false;
  /** What it says that it has; undefined: it does not say. */
  weigh: (request: RangeRequest) => readonly WireCoverage[] | undefined = complete;
  /** Ends streams of reads at their first request. */
  refusal: SilverbackError | undefined;
  /** What readers said: requests, credit, cancellations. */
  readonly reads: ReadRequest[] = [];
  address = '';
  #server: RpcServer | undefined;
  readonly #streams = new Set<{ call: Duplex<WriteRequest, WriteReply>; refs: Map<string, string> }>();

  static async start(): Promise<FakeNode> {
    const node = new FakeNode();
    await node.start('127.0.0.1:0');
    return node;
  }

  async start(address = this.address): Promise<void> {
    this.#server = new RpcServer()
      .duplex(shardsService.Write, (call) => this.#write(call))
      .duplex(shardsService.Read, (call) => this.#read(call));
    const port = await this.#server.listen(address);
    this.address = `127.0.0.1:${port}`;
  }

  /** As kill -9 does: connections break. */
  stop(): void {
    this.#server?.stop();
    this.#streams.clear();
  }

  /** Ends the streams but keeps the server. */
  hangUp(): void {
    for (const { call } of this.#streams) call.finish();
  }

  /** Forgets the references of all streams. */
  forget(): void {
    for (const { refs } of this.#streams) refs.clear();
  }

  get sampleCount(): number {
    let count = 0;
    for (const samples of this.samples.values()) count += samples.size;
    return count;
  }

  #read(call: Duplex<ReadRequest, ReadReply>): void {
    const open = new Map<number, AbortController>();
    call.signal.addEventListener('abort', () => {
      for (const controller of open.values()) controller.abort();
    });
    const answer = async (request: ReadRequest, signal: AbortSignal): Promise<void> => {
      const { id } = request;
      const send = (reply: SentReply) => call.send({ ...BLANK_REPLY, id, ...reply });
      try {
        if (request.select !== null) await this.select(request.select, send, signal);
        if (request.aggregate !== null) await this.aggregate(request.aggregate, send, signal);
        const labels = request.labelNames ?? request.labelValues;
        if (labels !== null) {
          const values = await this.labels(labels);
          const content =
            labels.asJson === true && !this.isOld ? { page: Buffer.from(JSON.stringify(values)) } : { values };
          send({ ...content, done: true, coverage: complete(labels) });
        }
        const coverage = request.windowVersions && this.weigh(request.windowVersions);
        if (coverage) send({ done: true, coverage });
      } catch (error) {
        const { code, message } = error as SilverbackError;
        send({ code: code as WireCode, message });
      }
    };
    call.listen({
      request: (request) => {
        if (this.refusal !== undefined) throw this.refusal;
        this.reads.push(request);
        if (request.cancel) open.get(request.id)?.abort();
        const { select, aggregate, labelNames, labelValues, windowVersions } = request;
        if ([select, aggregate, labelNames, labelValues, windowVersions].every((one) => one === null)) return;
        const controller = new AbortController();
        open.set(request.id, controller);
        void answer(request, controller.signal).finally(() => open.delete(request.id));
      },
      end: () => call.finish(),
    });
  }

  #write(call: Duplex<WriteRequest, WriteReply>): void {
    this.streamCount++;
    const stream = { call, refs: new Map<string, string>() };
    this.#streams.add(stream);
    call.signal.addEventListener('abort', () => this.#streams.delete(stream));
    call.listen({
      request: (request) => {
        if (request.hello !== null) {
          this.hellos.push(request.hello);
          call.send({ batchId: 0, shards: [], speaks: toWire(this.spoken) });
          return;
        }
        this.requests.push(request);
        const answer = () =>
          call.send({
            batchId: request.batchId,
            shards: request.shards.map((batch) => this.#store(batch, stream.refs)),
            speaks: [],
          });
        if (this.hold === undefined) answer();
        else this.hold(answer);
      },
      end: () => call.finish(),
    });
  }

  #store(batch: ShardBatch, refs: Map<string, string>): ShardOutcome {
    const verdict = this.judge(batch);
    const outcome = {
      shard: batch.shard,
      code: 'OK',
      message: '',
      retryAfterMs: 0,
      unknownRefs: Buffer.alloc(0),
      rejections: [],
      exemplars: 0,
      refusedExemplars: [],
    } as const;
    if (verdict !== undefined) return { ...outcome, ...verdict };
    let exemplars = 0;
    readExemplars(batch.exemplars, 'CORRUPT', () => exemplars++);
    const definitions = Buffer.from(batch.definitions);
    for (let at = 0; at < definitions.length; ) {
      const end = at + 8 + definitions.readUInt32LE(at + 4);
      const labels = decodeIdentity(definitions.subarray(at + 8, end));
      refs.set(`${batch.shard}:${definitions.readUInt32LE(at)}`, formatLabels(labels));
      at = end;
    }
    const unknown: number[] = [];
    const rejections: Rejection[] = [];
    const columns = {
      refs: Buffer.from(batch.refs),
      counts: Buffer.from(batch.counts),
      timestamps: Buffer.from(batch.timestamps),
      values: Buffer.from(batch.values),
    };
    let sample = 0;
    for (let run = 0; run < columns.refs.length / 4; run++) {
      const ref = columns.refs.readUInt32LE(4 * run);
      const count = columns.counts.length === 0 ? 1 : columns.counts.readUInt32LE(4 * run);
      const series = refs.get(`${batch.shard}:${ref}`);
      const refusal = series === undefined ? undefined : this.reject(series);
      if (series === undefined) unknown.push(ref);
      else if (refusal !== undefined) rejections.push({ ref, samples: count, retryAfterMs: 0, ...refusal });
      else {
        let stored = this.samples.get(series);
        stored ??= new Set();
        this.samples.set(series, stored);
        for (let i = sample; i < sample + count; i++) {
          stored.add(
            `${columns.timestamps.readBigInt64LE(8 * i)}=${columns.values.readBigUInt64LE(8 * i).toString(16)}`,
          );
        }
      }
      sample += count;
    }
    return { ...outcome, unknownRefs: Buffer.from(Uint32Array.from(unknown).buffer), rejections, exemplars };
  }
}

const BLANK_REPLY: ReadReply = {
  id: 0,
  page: Buffer.alloc(0),
  values: [],
  done: false,
  coverage: [],
  code: 'OK',
  message: '',
  retryAfterMs: 0,
};

export function complete(request: {
  readonly shards: readonly number[];
  readonly fromMs: number;
  readonly toMs: number;
}): WireCoverage[] {
  const { fromMs, toMs } = request;
  return [{ shards: request.shards, fromMs, toMs, state: 'COMPLETE', reason: '' }];
}

/** A placement of one region: shard i is on `owners[i]`, the addresses of its copies. */
export function placementOf(owners: readonly (readonly string[])[], revision = 1): Placement {
  const copies = owners.map((addresses) =>
    addresses.map(
      (address): Copy => ({ region: 'r', zone: 'a', node: address, address, state: 'active', epoch: revision }),
    ),
  );
  return { clusterId: 'c', shardCount: owners.length, revision, copies };
}
