/**
 * proto/silverback.proto as TypeScript sees it: the shape of every message, and the methods with
 * their encoders. The proto is the truth; `test/grpc/protocol.test.ts` holds these shapes against it.
 *
 * In a decoded message every field is present (absent ones have proto3's default; an absent message
 * is null), 64-bit integers are numbers (all of ours stay below 2^53), enums are their names, and
 * `bytes` are views into the received message: nothing is copied, and a view keeps the whole message alive.
 */
import { fileURLToPath } from 'node:url';
import { loadSync } from '@grpc/proto-loader';
import type { WireErrorCode } from './errors.ts';
import type { Hello, WireVersions } from './versions.ts';

/** `LOCAL`: in one log by write(2). `FSYNC`: on the disk. `PEER`: in the logs of two failure zones. */
export type AckLevel = 'LOCAL' | 'FSYNC' | 'PEER';

/** The codes that travel: those of core/errors.ts that a write or a read can end with, and OK. */
export type WireCode = 'OK' | WireErrorCode;

export interface WriteRequest {
  readonly hello: Hello | null;
  readonly batchId: number;
  readonly ack: AckLevel;
  readonly shards: readonly ShardBatch[];
  readonly peerWaitMs: number;
}

/** Columns, little-endian and packed; see the proto. */
export interface ShardBatch {
  readonly shard: number;
  readonly epoch: number;
  readonly definitions: Uint8Array;
  readonly refs: Uint8Array;
  readonly counts: Uint8Array;
  readonly timestamps: Uint8Array;
  readonly values: Uint8Array;
  readonly exemplars: Uint8Array;
  readonly metadata: Uint8Array;
}

export interface WriteReply {
  readonly batchId: number;
  readonly shards: readonly ShardOutcome[];
  readonly speaks: readonly WireVersions[];
}

export interface ShardOutcome {
  readonly shard: number;
  readonly code: WireCode;
  readonly message: string;
  readonly retryAfterMs: number;
  readonly unknownRefs: Uint8Array;
  readonly rejections: readonly Rejection[];
  readonly exemplars: number;
  readonly refusedExemplars: readonly ExemplarRefusal[];
}

export interface ExemplarRefusal {
  readonly code: WireCode;
  readonly message: string;
}

export interface Rejection {
  readonly ref: number;
  readonly code: WireCode;
  readonly message: string;
  readonly samples: number;
  readonly retryAfterMs: number;
}

export interface WireMatcher {
  readonly name: string;
  readonly op: 'EQ' | 'NE' | 'RE' | 'NRE';
  readonly value: string;
}

export interface SelectRequest {
  readonly shards: readonly number[];
  readonly matchers: readonly WireMatcher[];
  readonly fromMs: number;
  readonly toMs: number;
  readonly maxSeries: number;
  readonly maxSamples: number;
}

export interface AggregateRequest {
  readonly select: SelectRequest | null;
  readonly operation: string;
  readonly grouping: readonly string[];
  readonly without: boolean;
  readonly function: string;
  readonly rangeMs: number;
  readonly startMs: number;
  readonly stepMs: number;
  readonly steps: number;
  readonly perStep: boolean;
  readonly parameter: number;
  readonly limit: number;
}

export interface WireCoverage {
  readonly shards: readonly number[];
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: 'COMPLETE' | 'UNCONFIRMED' | 'MISSING';
  readonly reason: string;
  /** Something of them was sent, whatever is missing: another copy would send it again. */
  readonly given?: boolean;
}

export interface LabelsRequest {
  readonly shards: readonly number[];
  readonly fromMs: number;
  readonly toMs: number;
  readonly selectors: readonly { readonly matchers: readonly WireMatcher[] }[];
  readonly name: string;
  readonly asJson?: boolean;
}

export interface RangeRequest {
  readonly shards: readonly number[];
  readonly fromMs: number;
  readonly toMs: number;
}

export interface ReadRequest {
  readonly hello: Hello | null;
  readonly id: number;
  readonly select: SelectRequest | null;
  readonly series: LabelsRequest | null;
  readonly labelNames: LabelsRequest | null;
  readonly labelValues: LabelsRequest | null;
  readonly windowVersions: RangeRequest | null;
  readonly cardinality: RangeRequest | null;
  readonly credit: number;
  readonly cancel: boolean;
  readonly aggregate: AggregateRequest | null;
  readonly exemplars: LabelsRequest | null;
  readonly metadata: LabelsRequest | null;
  readonly wholeOnly?: boolean;
}

/** Asks nothing: the fields of a request that are not said. */
export const BLANK_READ: ReadRequest = {
  hello: null,
  id: 0,
  select: null,
  series: null,
  labelNames: null,
  labelValues: null,
  windowVersions: null,
  cardinality: null,
  credit: 0,
  cancel: false,
  aggregate: null,
  exemplars: null,
  metadata: null,
};

export interface ReadReply {
  readonly id: number;
  readonly page: Uint8Array;
  readonly values: readonly string[];
  readonly done: boolean;
  readonly coverage: readonly WireCoverage[];
  readonly code: WireCode;
  readonly message: string;
  readonly retryAfterMs: number;
}

export interface ReplicateRequest extends ShardRecords {
  readonly hello: Hello | null;
  readonly region: string;
  readonly node: string;
  readonly frontiers: readonly WireFrontier[];
  readonly stampMs: number;
  readonly asked: readonly number[];
  readonly gathers: boolean;
  readonly others: readonly ShardRecords[];
}

export interface ShardRecords {
  readonly shard: number;
  readonly attempt: number;
  readonly run: number;
  readonly incarnation: number;
  readonly firstSequence: number;
  readonly endSequence: number;
  readonly records: Uint8Array;
  readonly catchingUp: boolean;
  readonly awaited: boolean;
}

export interface WireFrontier {
  readonly shard: number;
  readonly afterMs: number;
  readonly lostRecords: number;
  readonly wallMs: number;
}

export interface ReplicateReply {
  readonly shard: number;
  readonly attempt: number;
  readonly code: WireCode;
  readonly message: string;
  readonly retryAfterMs: number;
  readonly writtenSequence: number;
  readonly durableSequence: number;
  readonly stampMs: number;
  readonly speaks: readonly WireVersions[];
  readonly tellsLogs: boolean;
  readonly logs: readonly ReceivingLog[];
  readonly others: readonly ShardProgress[];
  readonly gathers: boolean;
}

export interface ReceivingLog {
  readonly shard: number;
  readonly incarnations: readonly number[];
  readonly problem: string;
}

export interface ShardProgress {
  readonly shard: number;
  readonly attempt: number;
  readonly writtenSequence: number;
  readonly durableSequence: number;
}

export interface DigestRequest {
  readonly shard: number;
}

export interface DigestReply {
  readonly windows: readonly { readonly startMs: number; readonly sums: Uint8Array }[];
}

export interface DeleteRequest {
  readonly hello: Hello | null;
  readonly shards: readonly number[];
  readonly matchers: readonly WireMatcher[];
  readonly fromMs: number;
  readonly toMs: number;
}

export interface CleanRequest {
  readonly hello: Hello | null;
  readonly shards: readonly number[];
}

export interface EraseReply {
  readonly failures: readonly ShardFailure[];
}

export interface ShardFailure {
  readonly shard: number;
  readonly code: WireCode;
  readonly message: string;
}

export interface CompareRequest {
  readonly hello: Hello | null;
  readonly shard: number;
  readonly fromMs: number;
  readonly windows: readonly number[];
  readonly buckets: boolean;
  readonly region: string;
  readonly node: string;
  readonly recoveredRecords: number;
}

export interface CompareReply {
  readonly windows: readonly WindowSummary[];
  readonly settledMs: number;
  readonly gaps: readonly WireCoverage[];
  readonly frontiers: readonly KnownFrontier[];
}

export interface KnownFrontier {
  readonly origin: string;
  readonly ageMs: number;
  readonly lostRecords: number;
  readonly wallMs: number;
}

export interface WindowSummary {
  readonly startMs: number;
  readonly digest: Uint8Array;
  readonly buckets: Uint8Array;
  readonly blockBytes: number;
}

export interface FetchRequest {
  readonly hello: Hello | null;
  readonly shard: number;
  readonly windowMs: number;
  readonly buckets: Uint8Array;
  readonly block: boolean;
  readonly annex: boolean;
}

export interface FetchReply {
  readonly deletions: Uint8Array;
  readonly page: Uint8Array;
  readonly block: Uint8Array;
}

export interface RepairRequest {
  readonly hello: Hello | null;
  readonly shards: readonly number[];
  readonly run: boolean;
}

export interface RepairReply {
  readonly shards: readonly ShardRepair[];
}

export interface ShardRepair {
  readonly shard: number;
  readonly running: boolean;
  readonly rounds: number;
  readonly compared: number;
  readonly differing: number;
  readonly healed: number;
  readonly samples: number;
  readonly bytes: number;
  readonly lastRoundMs: number;
  readonly lastError: string;
  readonly filledWindows: number;
  readonly fillWindows: number;
}

export type StatusRequest = Readonly<Record<string, never>>;

export interface StatusReply {
  readonly node: string;
  readonly version: string;
  readonly ready: boolean;
  readonly shards: readonly ShardStatus[];
  readonly region: string;
  readonly zone: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly memoryUsedBytes: number;
  readonly memoryBudgetBytes: number;
  readonly residentBytes: number;
  readonly lags: readonly LagStatus[];
  readonly callers: readonly CallerStatus[];
  readonly seriesPerShard: number;
  readonly moveBytesPerSecond: number;
  readonly movedBytesPerSecond: number;
  readonly speaks: readonly WireVersions[];
  readonly refused: readonly string[];
}

export interface CallerStatus {
  readonly caller: string;
  readonly newSeries: number;
  readonly newSeriesLastHour: number;
  readonly refusedSamples: number;
}

export interface LagStatus {
  readonly shard: number;
  readonly region: string;
  readonly node: string;
  readonly records: number;
  readonly bytes: number;
  readonly inFlightBytes: number;
  readonly ageMs: number;
  readonly ageUnknown: boolean;
  readonly lostRecords: number;
}

export interface ShardStatus {
  readonly shard: number;
  readonly state: string;
  readonly series: number;
  readonly samples: number;
  readonly memoryBytes: number;
  readonly logBytes: number;
  readonly problem: string;
  readonly diskBytes: number;
  readonly gap: string;
}

export type PlacementRequest = Readonly<Record<string, never>>;

export interface PlacementReply {
  readonly clusterId: string;
  readonly shardCount: number;
  readonly revision: number;
  readonly shards: readonly { readonly copies: readonly WireCopy[] }[];
}

export interface WireCopy {
  readonly region: string;
  readonly zone: string;
  readonly node: string;
  readonly address: string;
  readonly state: string;
  readonly epoch: number;
  readonly from: string;
}

export interface QueryRequest {
  readonly query: string;
  readonly timeMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly stepMs: number;
  readonly region: string;
}

export interface QueryReply {
  readonly status: number;
  readonly body: Uint8Array;
}

/** One method of a service, as both ends need it. */
export interface Method<Request, Reply> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: Request) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Request;
  readonly responseSerialize: (value: Reply) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Reply;
}

/** The service of a node. */
export interface ShardsService {
  readonly Write: Method<WriteRequest, WriteReply>;
  readonly Read: Method<ReadRequest, ReadReply>;
  readonly Status: Method<StatusRequest, StatusReply>;
  readonly Replicate: Method<ReplicateRequest, ReplicateReply>;
  readonly Digest: Method<DigestRequest, DigestReply>;
  readonly Delete: Method<DeleteRequest, EraseReply>;
  readonly Clean: Method<CleanRequest, EraseReply>;
  readonly Compare: Method<CompareRequest, CompareReply>;
  readonly Fetch: Method<FetchRequest, FetchReply>;
  readonly Repair: Method<RepairRequest, RepairReply>;
}

export interface RemoveLostNodeRequest {
  readonly region: string;
  readonly node: string;
}

/** The service of a coordinator. */
export interface ClusterService {
  readonly Placement: Method<PlacementRequest, PlacementReply>;
  readonly Query: Method<QueryRequest, QueryReply>;
  readonly RemoveLostNode: Method<RemoveLostNodeRequest, object>;
}

// The sources lie in core/, the compiled program in dist/core/; the proto lies in proto/ for both.
const definition = loadSync('silverback.proto', {
  includeDirs: ['../proto/', '../../proto/'].map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
  longs: Number,
  enums: String,
  defaults: true,
});

// The loader types every message as `object`; these two lines are where the proto gets its types.
export const shardsService = definition['silverback.v1.Shards'] as unknown as ShardsService;
export const clusterService = definition['silverback.v1.Cluster'] as unknown as ClusterService;
