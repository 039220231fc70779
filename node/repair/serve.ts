/** What a node gives of its shards to other copies: digests to compare, and the parts that these then ask for. */
import { SilverbackError } from '../../core/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../core/grpc.ts';
import { WINDOW_MS } from '../../core/kernel/shard.ts';
import type {
  CompareReply,
  CompareRequest,
  FetchReply,
  FetchRequest,
  RepairReply,
  RepairRequest,
  WindowSummary,
} from '../../core/protocol.ts';
import { type Greeted, greet } from '../hello.ts';
import type { Node } from '../node.ts';
import { coverageOf } from '../read.ts';
import type { Frontiers } from '../replication/frontiers.ts';
import type { Destination } from '../shard/cursors.ts';
import type { Digests } from './digests.ts';
import type { Pace } from './pace.ts';
import { everyBucket, settledMs } from './plan.ts';
import type { Repair } from './repair.ts';

export interface ServeContext {
  readonly node: Greeted & Pick<Node, 'find' | 'gaps' | 'nowMs'>;
  readonly frontiers: Frontiers;
  readonly digests: Digests;
  /** Undefined: as fast as it goes. */
  readonly pace?: Pace | undefined;
}

interface Call<Reply> {
  readonly signal: AbortSignal;
  send(reply: Reply): Promise<void>;
}

const BLOCK_PART_BYTES = 1024 * 1024;
const MAX_PAGE_BYTES = MAX_MESSAGE_BYTES - 65_536;
/** Windows in one message. */
const PART_COUNT = 64;
const BUCKETS_BYTES = 32;
const NO_BYTES = new Uint8Array(0);

export async function serveCompare(
  request: CompareRequest,
  call: Call<CompareReply>,
  { node, frontiers, digests }: ServeContext,
): Promise<void> {
  greet(request.hello, node);
  for (const startMs of request.windows) checkWindow(startMs);
  const { shard: id, fromMs } = request;
  const shard = node.find(id);
  if (request.recoveredRecords > 0) {
    const isAsker = (copy: Destination) => copy.region === request.region && copy.node === request.node;
    shard.cursors.all.find(({ destination }) => isAsker(destination))?.recovered(request.recoveredRecords);
  }
  const starts = new Set(request.windows);
  if (!request.buckets) for (const startMs of shard.windows()) if (startMs >= fromMs) starts.add(startMs);
  const range = { fromMs, toMs: Math.max(fromMs, node.nowMs) };
  const asker = `${request.region}/${request.node}`;
  const gaps = node.gaps(id, range, asker);
  await call.send({
    windows: [],
    settledMs: Math.max(0, settledMs(frontiers.ages(id), node.nowMs)),
    gaps: coverageOf(id, range, gaps).filter(({ state }) => state !== 'COMPLETE'),
    // Before digests: what they are of is in them.
    frontiers: request.buckets ? [] : frontiers.known(id),
  });
  let windows: WindowSummary[] = [];
  for (const startMs of [...starts].sort((a, b) => b - a)) {
    const { digest, buckets } = await digests.of(shard, startMs);
    windows.push({
      startMs,
      digest: Buffer.from(digest, 'hex'),
      buckets: request.buckets ? buckets : NO_BYTES,
      blockBytes: shard.blockBytes().get(startMs) ?? 0,
    });
    call.signal.throwIfAborted();
    if (windows.length < PART_COUNT) continue;
    await call.send({ windows, settledMs: 0, gaps: [], frontiers: [] });
    windows = [];
  }
  if (windows.length > 0) await call.send({ windows, settledMs: 0, gaps: [], frontiers: [] });
}

export async function serveFetch(
  request: FetchRequest,
  call: Call<FetchReply>,
  { node, pace }: Pick<ServeContext, 'node' | 'pace'>,
): Promise<void> {
  // What is sent lies in these: the asker must read it as it is here.
  greet(request.hello, node, request.block ? ['log', 'block'] : ['log', 'page']);
  checkWindow(request.windowMs);
  const { windowMs, block } = request;
  const shard = node.find(request.shard);
  if (request.annex) {
    for await (const records of shard.annexRecords(call.signal)) {
      await call.send({ deletions: records, page: NO_BYTES, block: NO_BYTES });
    }
    return;
  }
  const buckets = block ? everyBucket() : request.buckets;
  if (buckets.length !== BUCKETS_BYTES) {
    throw new SilverbackError('INVALID_ARGUMENT', `a set of buckets has ${BUCKETS_BYTES} bytes, not ${buckets.length}`);
  }
  for await (const deletions of shard.windowDeletions(windowMs, buckets, call.signal)) {
    await call.send({ deletions, page: NO_BYTES, block: NO_BYTES });
  }
  if (block) {
    for await (const part of shard.blockFile(windowMs, BLOCK_PART_BYTES)) {
      await call.send({ deletions: NO_BYTES, page: NO_BYTES, block: part });
      await pace?.spend(part.length, call.signal);
    }
    return;
  }
  for await (const page of shard.windowPages(windowMs, buckets, call.signal)) {
    if (page.length > MAX_PAGE_BYTES) {
      const what = `a page of window ${windowMs} has ${page.length} bytes, at most ${MAX_PAGE_BYTES} can be sent`;
      throw new SilverbackError('TOO_LARGE', `shard ${request.shard}: ${what}`);
    }
    await call.send({ deletions: NO_BYTES, page, block: NO_BYTES });
    await pace?.spend(page.length, call.signal);
  }
}

export async function serveRepair(
  request: RepairRequest,
  { node }: Pick<ServeContext, 'node'>,
  repair: Pick<Repair, 'run' | 'status'>,
): Promise<RepairReply> {
  greet(request.hello, node);
  const { shards } = request;
  for (const id of shards) node.find(id);
  if (request.run) await repair.run(shards);
  return { shards: repair.status().filter(({ shard }) => shards.length === 0 || shards.includes(shard)) };
}

function checkWindow(startMs: number): void {
  if (Number.isSafeInteger(startMs) && startMs >= 0 && startMs % WINDOW_MS === 0) return;
  throw new SilverbackError('INVALID_ARGUMENT', `${startMs} is no window: those start at multiples of ${WINDOW_MS} ms`);
}
