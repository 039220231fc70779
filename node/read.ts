/**
 * Reads of a node: the asked shards one after the other, as one stream of pages and a ledger at its end.
 * A shard that is not here, still recovering, or found damaged midway is missing in the ledger; it does not
 * fail the others.
 */
import { SilverbackError } from '../core/errors.ts';
import type { CallContext, ReplyStream } from '../core/grpc.ts';
import { compareUtf8 } from '../core/labels.ts';
import type { Matcher } from '../core/matchers.ts';
import type {
  LabelsReply,
  LabelsRequest,
  SelectReply,
  SelectRequest,
  WireCoverage,
  WireMatcher,
} from '../core/protocol.ts';
import type { Node } from './node.ts';
import type { Shard, ShardCoverage, TimeRange } from './shard/shard.ts';

/** Small pages of several shards travel together up to this size. */
const PAGE_BYTES = 128 * 1024;

const OPS: Readonly<Record<WireMatcher['op'], Matcher['op']>> = { EQ: '=', NE: '!=', RE: '=~', NRE: '!~' };

export type ReadNode = Pick<Node, 'find' | 'assigned'>;

/** Serves `Select`. */
export function select(node: ReadNode, request: SelectRequest, call: ReplyStream<SelectReply>): Promise<void> {
  const query = {
    fromMs: request.fromMs,
    toMs: request.toMs,
    matchers: request.matchers.map(fromWire),
    maxSeriesCount: request.maxSeries === 0 ? Number.POSITIVE_INFINITY : request.maxSeries,
    maxSampleCount: request.maxSamples === 0 ? Number.POSITIVE_INFINITY : request.maxSamples,
  };
  return sendPages(node, request, call, (shard) => shard.select(query, call.signal));
}

/** Serves `Series`. */
export function series(node: ReadNode, request: LabelsRequest, call: ReplyStream<SelectReply>): Promise<void> {
  const selectors = selectorsOf(request);
  return sendPages(node, request, call, (shard) => shard.series(request, selectors, call.signal));
}

/** Serves `LabelNames`. */
export function labelNames(node: ReadNode, request: LabelsRequest, call: CallContext): Promise<LabelsReply> {
  const selectors = selectorsOf(request);
  return gatherValues(node, request, (shard) => shard.labelNames(request, selectors, call.signal));
}

/** Serves `LabelValues`. */
export function labelValues(node: ReadNode, request: LabelsRequest, call: CallContext): Promise<LabelsReply> {
  const selectors = selectorsOf(request);
  return gatherValues(node, request, (shard) => shard.labelValues(request.name, request, selectors, call.signal));
}

type ReadRequest = TimeRange & { readonly shards: readonly number[] };

async function sendPages(
  node: ReadNode,
  request: ReadRequest,
  call: ReplyStream<SelectReply>,
  pagesOf: (shard: Shard) => AsyncIterable<Uint8Array>,
): Promise<void> {
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  const coverage = await eachShard(node, request, async (shard) => {
    for await (const page of pagesOf(shard)) {
      gathered.push(page);
      gatheredBytes += page.length;
      if (gatheredBytes < PAGE_BYTES) continue;
      const full = gathered;
      gathered = [];
      gatheredBytes = 0;
      await call.send({ page: joined(full), done: false, coverage: [] });
    }
  });
  await call.send({ page: joined(gathered), done: true, coverage });
}

async function gatherValues(
  node: ReadNode,
  request: ReadRequest,
  valuesOf: (shard: Shard) => Promise<readonly string[]>,
): Promise<LabelsReply> {
  const values = new Set<string>();
  const coverage = await eachShard(node, request, async (shard) => {
    for (const value of await valuesOf(shard)) values.add(value);
  });
  return { values: [...values].sort(compareUtf8), coverage };
}

/** Reads the asked shards in turn. Returns the ledger: no part of the range of any of them is left out. */
async function eachShard(
  node: ReadNode,
  request: ReadRequest,
  read: (shard: Shard) => Promise<void>,
): Promise<WireCoverage[]> {
  const ledger: WireCoverage[] = [];
  for (const id of request.shards.length === 0 ? node.assigned() : request.shards) {
    try {
      const shard = node.find(id);
      await read(shard);
      ledger.push(...coverageOf(id, request, shard.gaps(request)));
    } catch (error) {
      if (!(error instanceof SilverbackError) || !LIVED_WITH.has(error.code)) throw error;
      const { fromMs, toMs } = request;
      ledger.push({ shard: id, fromMs, toMs, state: 'MISSING', reason: error.message });
    }
  }
  return ledger;
}

/** Failures of one shard that leave the answer of the others good. */
const LIVED_WITH: ReadonlySet<string> = new Set(['NOT_OWNER', 'UNAVAILABLE', 'CORRUPT', 'DISK_FAILED']);

/** The gaps as they are, and everything between them complete. */
export function coverageOf(shard: number, range: TimeRange, gaps: readonly ShardCoverage[]): WireCoverage[] {
  const ledger: WireCoverage[] = [];
  let fromMs = range.fromMs;
  for (const gap of [...gaps].sort((a, b) => a.fromMs - b.fromMs)) {
    const gapFromMs = Math.max(fromMs, gap.fromMs);
    const gapToMs = Math.min(range.toMs, gap.toMs);
    if (gapFromMs > gapToMs) continue;
    if (gapFromMs > fromMs) ledger.push({ shard, fromMs, toMs: gapFromMs - 1, state: 'COMPLETE', reason: '' });
    ledger.push({ shard, fromMs: gapFromMs, toMs: gapToMs, state: 'MISSING', reason: gap.reason });
    fromMs = gapToMs + 1;
  }
  if (fromMs <= range.toMs) ledger.push({ shard, fromMs, toMs: range.toMs, state: 'COMPLETE', reason: '' });
  return ledger;
}

function joined(pages: readonly Uint8Array[]): Uint8Array {
  return pages.length === 1 ? (pages[0] as Uint8Array) : Buffer.concat(pages);
}

function selectorsOf(request: LabelsRequest): Matcher[][] {
  return request.selectors.map(({ matchers }) => matchers.map(fromWire));
}

function fromWire({ name, op, value }: WireMatcher): Matcher {
  return { name, op: OPS[op], value };
}
