/**
 * The `Read` stream of one reader: many reads at a time, each of the asked shards one after the other, as pages or values
 * and a ledger at the end. A shard that is not here, still recovering, or found damaged midway is missing in the ledger;
 * it does not fail the others.
 *
 * A read sends as many replies with content as its reader gave it credit for, so that what a slow reader has not taken
 * stays bounded and a heavy read does not stand in the way of a light one.
 */
import { SilverbackError, wireCode } from '../core/errors.ts';
import { type Duplex, MAX_MESSAGE_BYTES } from '../core/grpc.ts';
import { sortUtf8 } from '../core/labels.ts';
import type { Matcher } from '../core/matchers.ts';
import type { Aggregation } from '../core/promql/evaluator.ts';
import { Aggregator, TooFine } from '../core/promql/groups.ts';
import { BestSeries, isBest, PointsWriter, VALUES } from '../core/promql/points.ts';
import type {
  AggregateRequest,
  LabelsRequest,
  ReadReply,
  ReadRequest,
  SelectRequest,
  WireCoverage,
  WireMatcher,
} from '../core/protocol.ts';
import { type Greeted, greet } from './hello.ts';
import type { Node } from './node.ts';
import type { ShardCoverage, TimeRange } from './shard/gaps.ts';
import { NO_PAGES } from './shard/select.ts';
import type { Shard } from './shard/shard.ts';
import type { Interrupt } from './shard/slicer.ts';
import { union, type ValuePages, valuePages } from './values.ts';

/** Small pages of several shards travel together up to this size; values likewise. */
const PAGE_BYTES = 128 * 1024;
/** Values of the groups of one aggregation, over all steps: some 80 MB where they are dearest. Finer ones are to be selected. */
const MAX_GROUP_POINTS = 4 * 1024 * 1024;
/** A page has to leave room for the rest of its message. */
const MAX_PAGE_BYTES = MAX_MESSAGE_BYTES - 65_536;

const OPS: Readonly<Record<WireMatcher['op'], Matcher['op']>> = { EQ: '=', NE: '!=', RE: '=~', NRE: '!~' };

/** Reads under way, over all streams. */
export class ReadBound {
  readonly maxCount: number;
  count = 0;
  /** Since the process started. */
  total = 0;

  constructor(maxCount = 256) {
    this.maxCount = maxCount;
  }
}

export interface ReadContext {
  readonly node: Greeted & Pick<Node, 'find' | 'gaps' | 'assigned' | 'heard'>;
  readonly bound: ReadBound;
  readonly values: ValuePages;
}

/** Serves a stream until its end. */
export function serveReads(call: Duplex<ReadRequest, ReadReply>, context: ReadContext): void {
  new ReadStream(call, context).listen();
}

class ReadStream {
  readonly #call: Duplex<ReadRequest, ReadReply>;
  readonly #context: ReadContext;
  readonly #reads = new Map<number, Read>();
  #greeted = false;
  #ended = false;

  constructor(call: Duplex<ReadRequest, ReadReply>, context: ReadContext) {
    this.#call = call;
    this.#context = context;
  }

  listen(): void {
    this.#call.listen({
      request: (request) => this.#take(request),
      end: () => {
        this.#ended = true;
        this.#finishWhenDone();
      },
    });
    this.#call.signal.addEventListener('abort', () => {
      for (const read of this.#reads.values()) read.cancel();
    });
  }

  #take(request: ReadRequest): void {
    if (!this.#greeted) greet(request.hello, this.#context.node, ['page']);
    this.#greeted = true;
    const open = this.#reads.get(request.id);
    if (open !== undefined) {
      if (request.cancel) open.cancel();
      else open.grant(request.credit);
      return;
    }
    const answer = answerTo(request, this.#context.values);
    // What is said of a read that is over has crossed its last reply.
    if (answer === undefined) return;
    const { node, bound } = this.#context;
    if (bound.count >= bound.maxCount) {
      const message = `node ${node.name} answers ${bound.count} reads already`;
      this.#fail(request.id, new SilverbackError('RESOURCE_EXHAUSTED', message, { retryAfterMs: 500 }));
      return;
    }
    bound.count++;
    bound.total++;
    const read = new Read(request, (reply) => this.#call.send(reply));
    this.#reads.set(request.id, read);
    answer(node, read)
      .then((last) => this.#call.send({ ...BLANK, id: request.id, ...last, done: true }))
      .catch((error: unknown) => {
        if (!read.isCancelled) this.#fail(request.id, error);
      })
      .finally(() => {
        bound.count--;
        this.#reads.delete(request.id);
        this.#finishWhenDone();
      });
  }

  /** What is not a coded error is a bug, of this read only. */
  #fail(id: number, error: unknown): void {
    const isCoded = error instanceof SilverbackError;
    this.#call.send({
      ...BLANK,
      id,
      code: isCoded ? wireCode(error.code) : 'INTERNAL',
      message: isCoded ? error.message : String(error),
      retryAfterMs: Math.ceil((isCoded ? error.retryAfterMs : undefined) ?? 0),
    });
  }

  #finishWhenDone(): void {
    if (this.#ended && this.#reads.size === 0) this.#call.finish();
  }
}

const BLANK: ReadReply = {
  id: 0,
  page: new Uint8Array(0),
  values: [],
  done: false,
  coverage: [],
  code: 'OK',
  message: '',
  retryAfterMs: 0,
};

/** An open read: its credit, and whether it is still wanted. */
class Read implements Interrupt {
  /** Of a shard that is not complete here nothing is wanted: its reader has other copies to ask. */
  readonly wholeOnly: boolean;
  readonly #id: number;
  readonly #send: (reply: ReadReply) => void;
  #credit: number;
  #wake: (() => void) | undefined;
  #isCancelled = false;

  constructor({ id, credit, wholeOnly }: ReadRequest, send: (reply: ReadReply) => void) {
    this.wholeOnly = wholeOnly === true;
    this.#id = id;
    this.#credit = credit;
    this.#send = send;
  }

  /** Nobody waits for the answer. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Throws CANCELLED once it is. Most reads are too short for an AbortSignal of their own. */
  throwIfAborted(): void {
    if (this.#isCancelled) throw new SilverbackError('CANCELLED', 'the reader wants no more');
  }

  grant(credit: number): void {
    this.#credit += credit;
    this.#wake?.();
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#wake?.();
  }

  /** Waits for credit and spends one. Rejects with CANCELLED. */
  async room(): Promise<void> {
    while (this.#credit <= 0 && !this.#isCancelled) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.throwIfAborted();
    this.#credit--;
  }

  async send(content: Partial<ReadReply>): Promise<void> {
    await this.room();
    this.#send({ ...BLANK, id: this.#id, ...content });
  }
}

/** Content and ledger of a read's last reply; what it may not hold has been sent. */
type Last = Partial<ReadReply>;
type Answer = (node: ReadContext['node'], read: Read) => Promise<Last>;

/** Undefined: the request opens no read. */
function answerTo(request: ReadRequest, kept: ValuePages): Answer | undefined {
  const { select, series, labelNames, labelValues, windowVersions, cardinality, aggregate } = request;
  const { exemplars, metadata } = request;
  if (aggregate !== null) {
    return (node, read) =>
      aggregate.operation === VALUES ? sendPoints(node, aggregate, read) : sendGroups(node, aggregate, read);
  }
  if (select !== null) {
    return (node, read) => {
      const query = queryOf(select);
      return sendPages(node, select, read, (shard) => shard.select(query, read));
    };
  }
  if (series !== null) {
    return (node, read) => {
      const selectors = selectorsOf(series);
      return sendPages(node, series, read, (shard) => shard.series(series, selectors, read));
    };
  }
  if (labelNames !== null) {
    return (node, read) => {
      const selectors = selectorsOf(labelNames);
      return sendValues(node, labelNames, read, (found, shard) => shard.labelNames(labelNames, selectors, found, read));
    };
  }
  if (labelValues !== null) {
    return (node, read) => {
      const selectors = selectorsOf(labelValues);
      const { name } = labelValues;
      if (labelValues.asJson === true) return sendValuePages(node, labelValues, selectors, read, kept);
      return sendValues(node, labelValues, read, (found, shard) =>
        shard.labelValues(name, labelValues, selectors, found, read),
      );
    };
  }
  if (windowVersions !== null) {
    return (node, read) =>
      sendValues(node, windowVersions, read, async (found, shard, id) => {
        for (const [startMs, version] of shard.windowVersions(windowVersions)) found.add(`${startMs} ${id} ${version}`);
      });
  }
  if (cardinality !== null) {
    return (node, read) =>
      sendValues(node, cardinality, read, async (found, shard) => {
        for (const text of await shard.cardinality(read)) found.add(text);
      });
  }
  if (exemplars !== null) {
    return (node, read) => {
      const selectors = selectorsOf(exemplars);
      return sendPages(node, exemplars, read, (shard) => shard.exemplars(exemplars, selectors, read));
    };
  }
  if (metadata !== null) {
    return (node, read) =>
      sendValues(node, metadata, read, async (found, shard) => {
        for (const text of shard.metadata(metadata.name)) found.add(text);
      });
  }
  return undefined;
}

type ShardsRequest = TimeRange & { readonly shards: readonly number[] };

async function sendPages(
  node: ReadContext['node'],
  request: ShardsRequest,
  read: Read,
  pagesOf: (shard: Shard) => AsyncIterable<Uint8Array>,
): Promise<Last> {
  const outbox = new Outbox(read);
  const coverage = await eachShard(
    node,
    request,
    read,
    (shard) => {
      outbox.begin();
      const pages = pagesOf(shard);
      return pages === NO_PAGES ? undefined : outbox.addAll(pages);
    },
    () => outbox.hasGiven,
  );
  return { ...(await outbox.last()), coverage };
}

/** Pages on their way: small ones of several shards travel together. */
class Outbox {
  readonly #read: Read;
  #pages: Uint8Array[] = [];
  #bytes = 0;
  /** Where the shard begins that is read now: of what is still here. */
  #begun = { pages: 0, bytes: 0 };
  /** A part of that shard was sent. */
  #isSent = false;

  constructor(read: Read) {
    this.#read = read;
  }

  /** There is something of the shard that is read now, here or sent. */
  get hasGiven(): boolean {
    return this.#isSent || this.#pages.length > this.#begun.pages;
  }

  /** What comes now is of another shard. */
  begin(): void {
    this.#begun = { pages: this.#pages.length, bytes: this.#bytes };
    this.#isSent = false;
  }

  /**
   * All of a shard. When it fails midway, nothing of it will be sent, unless some of it is already, so that another copy can be
   * asked.
   */
  async addAll(pages: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const page of pages) await this.#add(page);
    } catch (error) {
      this.#takeBack();
      throw error;
    }
  }

  /** What is left, for the last reply. */
  async last(): Promise<Last> {
    if (this.#bytes === 0) return {};
    await this.#read.room();
    return { page: joined(this.#pages) };
  }

  async #add(page: Uint8Array): Promise<void> {
    if (page.length > MAX_PAGE_BYTES) {
      const message = `a series has ${page.length} bytes of chunks in the range, at most ${MAX_PAGE_BYTES} can be read at a time`;
      throw new SilverbackError('TOO_LARGE', `${message}; narrow the time range`);
    }
    if (this.#bytes > 0 && this.#bytes + page.length > MAX_PAGE_BYTES) await this.#flush();
    this.#pages.push(page);
    this.#bytes += page.length;
    if (this.#bytes >= PAGE_BYTES) await this.#flush();
  }

  #takeBack(): void {
    if (this.#isSent) return;
    this.#pages.length = this.#begun.pages;
    this.#bytes = this.#begun.bytes;
  }

  async #flush(): Promise<void> {
    const full = this.#pages;
    this.#isSent ||= full.length > this.#begun.pages;
    this.#pages = [];
    this.#bytes = 0;
    this.#begun = { pages: 0, bytes: 0 };
    await this.#read.send({ page: joined(full) });
  }
}

async function sendValues(
  node: ReadContext['node'],
  request: ShardsRequest,
  read: Read,
  addTo: (found: Set<string>, shard: Shard, id: number) => Promise<void>,
): Promise<Last> {
  const found = new Set<string>();
  const coverage = await eachShard(node, request, read, (shard, id) => addTo(found, shard, id), NEVER_TWICE);
  const values = sortUtf8([...found]);
  let first = 0;
  let bytes = 0;
  for (let i = 0; i < values.length; i++) {
    // Of UTF-8, an upper bound.
    bytes += 3 * (values[i] as string).length;
    if (bytes < PAGE_BYTES || i + 1 === values.length) continue;
    await read.send({ values: values.slice(first, i + 1) });
    first = i + 1;
    bytes = 0;
  }
  if (values.length > 0) await read.room();
  return { values: first === 0 ? values : values.slice(first), coverage };
}

/** Values of a label in pages. Of shards whose series are all in question they are at hand. */
async function sendValuePages(
  node: ReadContext['node'],
  request: LabelsRequest,
  selectors: Matcher[][],
  read: Read,
  kept: ValuePages,
): Promise<Last> {
  const { name } = request;
  const lists: (readonly string[])[] = [];
  const found = new Set<string>();
  const coverage = await eachShard(
    node,
    request,
    read,
    (shard) => {
      const list = selectors.length === 0 ? shard.allValues(name, request, read) : undefined;
      if (list === undefined) return shard.labelValues(name, request, selectors, found, read);
      if (list instanceof Promise) return list.then((sorted) => void lists.push(sorted));
      lists.push(list);
      return undefined;
    },
    NEVER_TWICE,
  );
  const pages = found.size === 0 ? kept.of(name, lists) : valuePages(union([...lists, sortUtf8([...found])]));
  for (const page of pages.slice(0, -1)) await read.send({ page });
  const last = pages.at(-1);
  if (last === undefined) return { coverage };
  await read.room();
  return { page: last, coverage };
}

/**
 * Aggregates over the asked shards. One that is found damaged midway must leave nothing behind: then all begins anew,
 * without it.
 */
async function sendGroups(node: ReadContext['node'], request: AggregateRequest, read: Read): Promise<Last> {
  const { select, aggregation } = aggregationOf(request);
  const query = queryOf(select);
  const damaged = new Map<number, unknown>();
  let aggregator: Aggregator | BestSeries;
  let coverage: WireCoverage[];
  let isSpoilt: boolean;
  try {
    do {
      isSpoilt = false;
      aggregator = isBest(aggregation.operation) ? new BestSeries(aggregation) : new Aggregator(aggregation);
      const { looked } = aggregator;
      let series = 0;
      const readOne = async (shard: Shard, id: number): Promise<void> => {
        series = looked.series;
        if (damaged.has(id)) throw damaged.get(id);
        try {
          if (!isSpoilt) await shard.aggregate(query, aggregator, MAX_GROUP_POINTS, read);
        } catch (error) {
          isSpoilt ||= looked.series > series;
          damaged.set(id, error);
          throw error;
        }
      };
      coverage = await eachShard(node, select, read, readOne, () => looked.series > series);
    } while (isSpoilt);
  } catch (error) {
    if (!(error instanceof TooFine)) throw error;
    await read.room();
    return { page: TooFine.page };
  }
  let last: Uint8Array | undefined;
  for (const page of aggregator.pages(PAGE_BYTES)) {
    if (last !== undefined) await read.send({ page: last });
    last = page;
  }
  await read.room();
  return { page: last as Uint8Array, coverage };
}

/** The steps of single series, shard by shard. */
async function sendPoints(node: ReadContext['node'], request: AggregateRequest, read: Read): Promise<Last> {
  const { select, aggregation } = aggregationOf(request);
  const query = queryOf(select);
  const writer = new PointsWriter(aggregation);
  return sendPages(node, select, read, (shard) => shard.points(query, writer, read));
}

function aggregationOf(request: AggregateRequest): { select: SelectRequest; aggregation: Aggregation } {
  const { select, startMs, stepMs } = request;
  if (select === null) throw new SilverbackError('INVALID_ARGUMENT', 'an aggregation without a selection');
  return { select, aggregation: { ...request, reference: { startMs, stepMs } } };
}

/** Values of several copies are as good as those of one. */
const NEVER_TWICE = (): boolean => false;

/**
 * Reads the asked shards in turn; `read` is undefined where it was done at once. Returns the ledger: no part of the range of any
 * of them is left out. `hasGiven`: something of the shard that was read last is in the answer.
 */
async function eachShard(
  node: ReadContext['node'],
  request: ShardsRequest,
  { wholeOnly }: Pick<Read, 'wholeOnly'>,
  read: (shard: Shard, id: number) => Promise<void> | undefined,
  hasGiven: () => boolean,
): Promise<WireCoverage[]> {
  const whole: number[] = [];
  const ledger: WireCoverage[] = [];
  const { fromMs, toMs } = request;
  for (const id of request.shards.length === 0 ? node.assigned() : request.shards) {
    let isBegun = false;
    try {
      const shard = node.find(id);
      // Before and after: what comes while it is read may be missed, and what is found damaged is known afterwards.
      let before = node.gaps(id, request);
      if (before.length > 0 && wholeOnly) {
        ledger.push(...coverageOf(id, request, before));
        continue;
      }
      // Nobody knows better: worth a wait where another copy will be heard of soon.
      const heard = before.length > 0 ? node.heard(id) : undefined;
      if (heard !== undefined) {
        await heard;
        before = node.gaps(id, request);
      }
      isBegun = true;
      const pending = read(shard, id);
      if (pending !== undefined) await pending;
      const gaps = pending === undefined ? before : [...before, ...node.gaps(id, request)];
      if (gaps.length === 0) whole.push(id);
      else ledger.push(...coverageOf(id, request, gaps).map((entry) => ({ ...entry, given: hasGiven() })));
    } catch (error) {
      if (!(error instanceof SilverbackError) || !LIVED_WITH.has(error.code)) throw error;
      const given = isBegun && hasGiven();
      ledger.push({ shards: [id], fromMs, toMs, state: 'MISSING', reason: error.message, given });
    }
  }
  if (whole.length > 0) ledger.push({ shards: whole, fromMs, toMs, state: 'COMPLETE', reason: '' });
  return ledger;
}

/** Failures of one shard that leave the answer of the others good. */
const LIVED_WITH: ReadonlySet<string> = new Set(['NOT_OWNER', 'UNAVAILABLE', 'CORRUPT', 'DISK_FAILED']);

/** The range in pieces, each as the worst gap that covers it says, complete where there is none. */
export function coverageOf(shard: number, range: TimeRange, gaps: readonly ShardCoverage[]): WireCoverage[] {
  const shards = [shard];
  const inside = (atMs: number) => atMs > range.fromMs && atMs <= range.toMs;
  const cuts = gaps.flatMap(({ fromMs, toMs }) => [fromMs, toMs + 1]).filter(inside);
  const starts = [...new Set([range.fromMs, ...cuts])].sort((a, b) => a - b);
  const ledger: WireCoverage[] = [];
  let last: ShardCoverage | undefined;
  for (const [i, fromMs] of starts.entries()) {
    const toMs = (starts[i + 1] ?? range.toMs + 1) - 1;
    const here = gaps.filter((gap) => gap.fromMs <= fromMs && gap.toMs >= toMs);
    const worst = here.find((gap) => gap.state === 'missing') ?? here.find((gap) => gap.state === 'unconfirmed');
    const entry = { shards, toMs, state: STATES[worst?.state ?? 'complete'], reason: worst?.reason ?? '' };
    const joins = i > 0 && worst === last ? ledger.pop() : undefined;
    ledger.push({ ...entry, fromMs: joins?.fromMs ?? fromMs });
    last = worst;
  }
  return ledger;
}

const STATES = { complete: 'COMPLETE', unconfirmed: 'UNCONFIRMED', missing: 'MISSING' } as const;

function joined(pages: readonly Uint8Array[]): Uint8Array {
  return pages.length === 1 ? (pages[0] as Uint8Array) : Buffer.concat(pages);
}

function queryOf(request: SelectRequest) {
  return {
    fromMs: request.fromMs,
    toMs: request.toMs,
    matchers: request.matchers.map(fromWire),
    maxSeriesCount: request.maxSeries === 0 ? Number.POSITIVE_INFINITY : request.maxSeries,
    maxSampleCount: request.maxSamples === 0 ? Number.POSITIVE_INFINITY : request.maxSamples,
  };
}

function selectorsOf(request: LabelsRequest): Matcher[][] {
  return request.selectors.map(({ matchers }) => matchers.map(fromWire));
}

export function fromWire({ name, op, value }: WireMatcher): Matcher {
  return { name, op: OPS[op], value };
}
