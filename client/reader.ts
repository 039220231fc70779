/**
 * The fan-out of reads: one call per node that holds copies of the asked shards, all at once, pages
 * handed on as they come. A shard whose nodes cannot be reached, or break off, is reported as
 * `missing` with the reason; it never fails the others. A refusal that concerns the request itself
 * (limits, a bad matcher) fails the whole read.
 */
import type { Env } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import { Channel, type ChannelCredentials } from '../core/grpc.ts';
import { compareUtf8 } from '../core/labels.ts';
import type { Matcher } from '../core/matchers.ts';
import type { Placement, PlacementView } from '../core/placement.ts';
import {
  type LabelsReply,
  type LabelsRequest,
  type Method,
  type SelectReply,
  shardsService,
  type WireCoverage,
  type WireMatcher,
} from '../core/protocol.ts';
import { preferred } from './placement.ts';

/** What is known to be in an answer, per shard and time range (ms, inclusive). */
export interface Coverage {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  /** Why it is not complete, in words an operator can act on; empty when it is. */
  readonly reason: string;
}

/** Milliseconds, both ends inclusive. */
export interface ReadRange {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface SelectOptions extends ReadRange {
  /** All of them must match. */
  readonly matchers: readonly Matcher[];
  /** Bounds for what one shard may answer; past one the read fails with TOO_LARGE. Who adds shards up bounds the sum. Undefined: none. */
  readonly maxSeries?: number;
  readonly maxSamples?: number;
}

export interface LabelsOptions extends ReadRange {
  /** Series that match any of these; empty: every series. */
  readonly selectors: readonly (readonly Matcher[])[];
}

export interface ReadContext {
  /** Aborting cancels the calls on the nodes; the read rejects with CANCELLED. */
  readonly signal: AbortSignal;
  /** Default 2 minutes. A node that is not done by then is `missing`. */
  readonly timeoutMs?: number;
}

/**
 * Receives a select page (ARCHITECTURE.md, "Select page") as a view the receiver may keep. Returning
 * a promise holds the node's stream back until it resolves. Within one read, the pages of one shard come
 * from one copy and hold each series once. What it throws fails the read.
 */
export type PageReceiver = (page: Uint8Array) => void | Promise<void>;

export interface ReaderOptions {
  readonly env: Env;
  readonly placement: PlacementView;
  /** Who reads, for the nodes' logs. */
  readonly caller: string;
  /** The home region: its copies are preferred. */
  readonly region?: string;
  readonly credentials?: ChannelCredentials;
}

const DEFAULT_TIMEOUT_MS = 120_000;

/** A node's part of a read: what it covers, or why it gave nothing. */
type Part = { readonly coverage: readonly WireCoverage[] } | { readonly failure: string; readonly gavePages: boolean };

/** The door. Every method rejects with a SilverbackError. */
export class Reader {
  readonly #options: ReaderOptions;
  readonly #channels = new Map<string, Channel>();

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Resolves when all nodes are done, with a ledger that has at least one entry per shard of the cluster. */
  async select(options: SelectOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }> {
    const request = {
      matchers: options.matchers.map(toWire),
      fromMs: options.fromMs,
      toMs: options.toMs,
      maxSeries: options.maxSeries ?? 0,
      maxSamples: options.maxSamples ?? 0,
    };
    return this.#pages(shardsService.Select, options, (shards) => ({ ...request, shards }), receive, context);
  }

  /** Pages without chunks: one entry per series that has samples in the range. */
  async series(options: LabelsOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }> {
    const request = labelsRequest(options, '');
    return this.#pages(shardsService.Series, options, (shards) => ({ ...request, shards }), receive, context);
  }

  /** Sorted by UTF-8 bytes, each once. */
  labelNames(options: LabelsOptions, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }> {
    return this.#values(shardsService.LabelNames, labelsRequest(options, ''), context);
  }

  /** The values of the label `name`: sorted by UTF-8 bytes, each once. */
  labelValues(
    name: string,
    options: LabelsOptions,
    context: ReadContext,
  ): Promise<{ values: string[]; coverage: Coverage[] }> {
    return this.#values(shardsService.LabelValues, labelsRequest(options, name), context);
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
  }

  async #pages<Request>(
    method: Method<Request, SelectReply>,
    range: ReadRange,
    request: (shards: readonly number[]) => Request,
    receive: PageReceiver,
    context: ReadContext,
  ): Promise<{ coverage: Coverage[] }> {
    const coverage = await this.#fanOut(range, context, async (channel, shards, options, onPage) => {
      let covered: readonly WireCoverage[] | undefined;
      await channel.stream(method, request(shards), options, (reply) => {
        if (reply.done) covered = reply.coverage;
        if (reply.page.length === 0) return undefined;
        onPage();
        return receive(reply.page);
      });
      if (covered === undefined) throw new SilverbackError('UNAVAILABLE', 'the node ended the stream early');
      return covered;
    });
    return { coverage };
  }

  async #values(
    method: Method<LabelsRequest, LabelsReply>,
    request: Omit<LabelsRequest, 'shards'>,
    context: ReadContext,
  ): Promise<{ values: string[]; coverage: Coverage[] }> {
    const values = new Set<string>();
    const coverage = await this.#fanOut(request, context, async (channel, shards, options) => {
      const reply = await channel.unary(method, { ...request, shards }, options);
      for (const value of reply.values) values.add(value);
      return reply.coverage;
    });
    return { values: [...values].sort(compareUtf8), coverage };
  }

  /**
   * Asks, for every shard, the best copy; where that one cannot be reached or has nothing of the range, the next one.
   * Each round asks the nodes all at once, and looks at a fresh placement from the second round on.
   */
  async #fanOut(
    range: ReadRange,
    context: ReadContext,
    ask: (
      channel: Channel,
      shards: readonly number[],
      options: { timeoutMs: number; signal: AbortSignal },
      onPage: () => void,
    ) => Promise<readonly WireCoverage[]>,
  ): Promise<Coverage[]> {
    const { clock } = this.#options.env;
    const deadlineMs = clock.monotonicMs() + (context.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const failed = new AbortController();
    const signal = AbortSignal.any([context.signal, failed.signal]);
    let placement = this.#options.placement.current() ?? (await this.#options.placement.refresh());
    const tried = placement.copies.map(() => new Set<string>());
    const reasons = placement.copies.map((_, shard) => `no node holds shard ${shard}`);
    const ledger: Coverage[] = [];
    for (let open = [...placement.copies.keys()]; open.length > 0; ) {
      const groups = this.#group(placement, open, tried);
      const answered = await Promise.all(
        [...groups].map(async ([address, shards]) => {
          if (address === undefined) {
            for (const shard of shards) ledger.push(missing(shard, range, reasons[shard] as string));
            return [];
          }
          const timeoutMs = Math.max(1, deadlineMs - clock.monotonicMs());
          const part = await this.#askOne(address, context, failed, (onPage) =>
            ask(this.#channel(address), shards, { timeoutMs, signal }, onPage),
          );
          return settlePart(part, shards, range, ledger, reasons);
        }),
      );
      open = answered.flat();
      if (open.length > 0) placement = await this.#options.placement.refresh().catch(() => placement);
    }
    return ledger;
  }

  /** Throws what concerns the whole read; the rest becomes this node's failure. */
  async #askOne(
    address: string,
    context: ReadContext,
    failed: AbortController,
    ask: (onPage: () => void) => Promise<readonly WireCoverage[]>,
  ): Promise<Part> {
    let gavePages = false;
    try {
      const coverage = await ask(() => {
        gavePages = true;
      });
      return { coverage };
    } catch (error) {
      if (context.signal.aborted) throw new SilverbackError('CANCELLED', 'the read was cancelled', { cause: error });
      const isOurs = error instanceof SilverbackError;
      if (isOurs && error.code !== 'INVALID_ARGUMENT' && error.code !== 'TOO_LARGE' && !failed.signal.aborted) {
        return { failure: `${address}: ${error.message}`, gavePages };
      }
      failed.abort();
      throw error;
    }
  }

  #group(placement: Placement, shards: readonly number[], tried: Set<string>[]): Map<string | undefined, number[]> {
    const groups = new Map<string | undefined, number[]>();
    for (const shard of shards) {
      // A joining copy is better than none; it says itself what it lacks.
      const copies = preferred(placement.copies[shard] ?? [], this.#options.region, ['active', 'leaving', 'joining']);
      const address = copies.find((copy) => !tried[shard]?.has(copy.address))?.address;
      if (address !== undefined) tried[shard]?.add(address);
      const group = groups.get(address);
      if (group === undefined) groups.set(address, [shard]);
      else group.push(shard);
    }
    return groups;
  }

  #channel(address: string): Channel {
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      const { env, caller, credentials } = this.#options;
      channel = new Channel(address, { clock: env.clock, caller, ...(credentials && { credentials }) });
      this.#channels.set(address, channel);
    }
    return channel;
  }
}

/** Enters a node's part into the ledger. Returns the shards that another copy may still give. */
function settlePart(
  part: Part,
  shards: readonly number[],
  range: ReadRange,
  ledger: Coverage[],
  reasons: string[],
): readonly number[] {
  if ('failure' in part) {
    for (const shard of shards) reasons[shard] = part.failure;
    if (!part.gavePages) return shards;
    // Another copy would give the same series again; the consumer was promised each once.
    for (const shard of shards) ledger.push(missing(shard, range, part.failure));
    return [];
  }
  const open: number[] = [];
  for (const shard of shards) {
    const entries = part.coverage.filter((entry) => entry.shard === shard);
    const isEmpty = entries.every(
      (entry) => entry.state === 'MISSING' && entry.fromMs <= range.fromMs && entry.toMs >= range.toMs,
    );
    if (isEmpty) {
      reasons[shard] = entries[0]?.reason ?? `the node said nothing about shard ${shard}`;
      open.push(shard);
    } else {
      ledger.push(...entries.map((entry) => ({ ...entry, state: STATES[entry.state] })));
    }
  }
  return open;
}

const STATES = { COMPLETE: 'complete', UNCONFIRMED: 'unconfirmed', MISSING: 'missing' } as const;
const OPS: Readonly<Record<Matcher['op'], WireMatcher['op']>> = { '=': 'EQ', '!=': 'NE', '=~': 'RE', '!~': 'NRE' };

function missing(shard: number, { fromMs, toMs }: ReadRange, reason: string): Coverage {
  return { shard, fromMs, toMs, state: 'missing', reason };
}

function toWire({ name, op, value }: Matcher): WireMatcher {
  return { name, op: OPS[op], value };
}

function labelsRequest(options: LabelsOptions, name: string): Omit<LabelsRequest, 'shards'> {
  const { fromMs, toMs, selectors } = options;
  return { fromMs, toMs, name, selectors: selectors.map((matchers) => ({ matchers: matchers.map(toWire) })) };
}
