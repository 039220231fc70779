/**
 * The fan-out of reads: one question to each node that holds copies of the asked shards, all at once, pages
 * handed on as they come. A shard whose nodes cannot be reached, or break off, is reported as
 * `missing` with the reason; it never fails the others. A refusal that concerns the request itself
 * (limits, a bad matcher) fails the whole read.
 *
 * A copy that is not complete in the range, as after a restart, gives nothing at first: another one is asked whether it is, once
 * and for a moment only, and the better one gives what it has.
 */
import type { Env } from '../core/env/env.ts';
import { SilverbackError } from '../core/errors.ts';
import { Channel, type ChannelCredentials } from '../core/grpc.ts';
import { sortUtf8 } from '../core/labels.ts';
import type { Matcher } from '../core/matchers.ts';
import type { Copy, Placement, PlacementView } from '../core/placement.ts';
import type { Aggregation } from '../core/promql/evaluator.ts';
import type { LabelsRequest, ReadReply, SelectRequest, WireCoverage, WireMatcher } from '../core/protocol.ts';
import type { Spoken } from '../core/versions.ts';
import { Ballot } from './ballot.ts';
import { preferred } from './placement.ts';
import { type Asked, type Question, Reads, type ReplyReceiver } from './reads.ts';

/** What is known to be in an answer, per shard and time range (ms, inclusive). */
export interface Coverage {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  /** Why it is not complete, in words an operator can act on; empty when it is. */
  readonly reason: string;
  /** Whose samples these are, `region/node`; undefined when no copy answered. */
  readonly copy?: string;
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

export interface AggregateOptions extends SelectOptions {
  readonly aggregation: Aggregation;
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
  /** Only copies in this region are asked. */
  readonly region?: string;
  /**
   * Pages of a node are handed on once it is done, however many there are, so that what it has given is asked of the next copy
   * when it breaks off.
   */
  readonly holdsBack?: true;
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
  /** What the nodes may answer in. Default: all that this program speaks. */
  readonly spoken?: Spoken;
}

const DEFAULT_TIMEOUT_MS = 120_000;
/** How long copies are asked whether they are complete. */
const WEIGHING_MS = 2_000;
/** One that said nothing at all is not asked again for so long. */
const MUTE_MS = 5_000;

/** The door. Every method rejects with a SilverbackError. */
export class Reader {
  readonly #options: ReaderOptions;
  readonly #nodes = new Map<string, { readonly channel: Channel; readonly reads: Reads; muteUntilMs: number }>();
  /** The first groups of the placement seen last: most reads need no others. */
  #grouped: { readonly placement: Placement; readonly groups: readonly Group[] } | undefined;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Resolves when all nodes are done, with a ledger that has at least one entry per shard of the cluster. */
  async select(options: SelectOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }> {
    const request = selectRequest(options);
    const question = (shards: readonly number[]) => ({ select: { ...request, shards } });
    return { coverage: await this.#fanOut(options, context, question, ({ page }) => receive(page)) };
  }

  /**
   * What nodes compute of the same. A node's pages (ARCHITECTURE.md, "Aggregate page", "Points page") are handed on once it is
   * done, so that shards of one that fails midway can be asked of the next copy.
   */
  async aggregate(
    options: AggregateOptions,
    receive: PageReceiver,
    context: ReadContext,
  ): Promise<{ coverage: Coverage[] }> {
    const select = selectRequest(options);
    const { reference, ...rest } = options.aggregation;
    const question = (shards: readonly number[]) => ({
      aggregate: { ...rest, ...reference, select: { ...select, shards } },
    });
    const take: ReplyReceiver = ({ page }) => receive(page);
    return { coverage: await this.#fanOut(options, context, question, take, 'whole') };
  }

  /** Pages without chunks: one entry per series that has samples in the range. */
  async series(options: LabelsOptions, receive: PageReceiver, context: ReadContext): Promise<{ coverage: Coverage[] }> {
    const request = labelsRequest(options, '');
    const question = (shards: readonly number[]) => ({ series: { ...request, shards } });
    return { coverage: await this.#fanOut(options, context, question, ({ page }) => receive(page)) };
  }

  /** Sorted by UTF-8 bytes, each once. */
  labelNames(options: LabelsOptions, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }> {
    const request = labelsRequest(options, '');
    return this.#values((shards) => ({ labelNames: { ...request, shards } }), options, context);
  }

  /** The values of the label `name`: sorted by UTF-8 bytes, each once. */
  labelValues(
    name: string,
    options: LabelsOptions,
    context: ReadContext,
  ): Promise<{ values: string[]; coverage: Coverage[] }> {
    const request = { ...labelsRequest(options, name), asJson: true };
    return this.#values((shards) => ({ labelValues: { ...request, shards } }), options, context);
  }

  /**
   * What tells whether anything changed: texts `<window start ms> <shard> <version>`, one per window and shard with samples
   * in the range. As long as all of a window's stay the same, so do its samples.
   */
  windowVersions(range: ReadRange, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }> {
    const { fromMs, toMs } = range;
    return this.#values((shards) => ({ windowVersions: { shards, fromMs, toMs } }), range, context);
  }

  /** How many series carry which labels, as texts for `Cardinality`. The range says only what the ledger is about. */
  cardinality(range: ReadRange, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }> {
    const { fromMs, toMs } = range;
    return this.#values((shards) => ({ cardinality: { shards, fromMs, toMs } }), range, context);
  }

  /** Exemplars of the series that match any of the selectors: lists (core/exemplars.ts), each series whole, in time order. */
  async exemplars(
    options: LabelsOptions,
    receive: PageReceiver,
    context: ReadContext,
  ): Promise<{ coverage: Coverage[] }> {
    const request = labelsRequest(options, '');
    const question = (shards: readonly number[]) => ({ exemplars: { ...request, shards } });
    return { coverage: await this.#fanOut(options, context, question, ({ page }) => receive(page)) };
  }

  /**
   * Metadata of one metric or, with an empty name, of all, as texts (`parseMetadataText`). The range says only what the ledger
   * is about.
   */
  metadata(name: string, range: ReadRange, context: ReadContext): Promise<{ values: string[]; coverage: Coverage[] }> {
    const request = labelsRequest({ ...range, selectors: [] }, name);
    return this.#values((shards) => ({ metadata: { ...request, shards } }), range, context);
  }

  close(): void {
    for (const { channel, reads } of this.#nodes.values()) {
      reads.close();
      channel.close();
    }
  }

  async #values(
    question: (shards: readonly number[]) => Question,
    range: ReadRange,
    context: ReadContext,
  ): Promise<{ values: string[]; coverage: Coverage[] }> {
    const values = new Set<string>();
    const pages: Uint8Array[] = [];
    const take = (reply: ReadReply) => {
      for (const value of reply.values) values.add(value);
      // Nodes mostly have the same values.
      if (reply.page.length > 0 && !pages.some((page) => Buffer.compare(page, reply.page) === 0))
        pages.push(reply.page);
    };
    const coverage = await this.#fanOut(range, context, question, take, 'whole');
    const lists = pages.map(readValues);
    const [only] = lists;
    if (only !== undefined && lists.length === 1 && values.size === 0) return { values: only, coverage };
    for (const list of lists) for (const value of list) values.add(value);
    return { values: sortUtf8([...values]), coverage };
  }

  /**
   * Asks, for every shard, the best copy; where that one cannot be reached or has nothing of the range, the next one.
   * Each round asks the nodes all at once, and looks at a fresh placement from the second round on.
   */
  async #fanOut(
    range: ReadRange,
    context: ReadContext,
    question: (shards: readonly number[]) => Question,
    receive: ReplyReceiver,
    handOn: 'at once' | 'whole' = context.holdsBack ? 'whole' : 'at once',
  ): Promise<Coverage[]> {
    const { env } = this.#options;
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS, region } = context;
    if (signal.aborted) throw cancelled();
    let placement = this.#options.placement.current() ?? (await this.#options.placement.refresh());
    const run = new Run(range, question, receive, {
      region,
      holdsBack: handOn === 'whole' ? env.timers : undefined,
    });
    const cancel = () => run.stop(cancelled());
    signal.addEventListener('abort', cancel);
    const timer = env.timers.after(timeoutMs, () => run.expire(timeoutMs));
    try {
      let groups =
        region === undefined
          ? this.#firstGroups(placement)
          : this.#groups(placement, [...placement.copies.keys()], undefined, region);
      for (;;) {
        const answered = await Promise.all(groups.map((group) => run.ask(group, (address) => this.#reads(address))));
        const open = answered.flat();
        if (open.length === 0) return run.ledger;
        // A copy that is not complete is where it should be.
        if (open.some((shard) => run.tried.has(shard))) {
          placement = await this.#options.placement.refresh().catch(() => placement);
        }
        await this.#weigh(placement, run, region);
        if (signal.aborted) throw cancelled();
        groups = this.#groups(placement, open, run, region);
      }
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', cancel);
    }
  }

  /** The best copies of all shards. */
  #firstGroups(placement: Placement): readonly Group[] {
    if (this.#grouped?.placement !== placement) {
      const groups = this.#groups(placement, [...placement.copies.keys()]);
      this.#grouped = { placement, groups };
    }
    return this.#grouped.groups;
  }

  /** By the next copy to ask. With `region`, of that region's only. */
  #groups(placement: Placement, shards: readonly number[], run?: Run, region?: string): Group[] {
    const groups = new Map<string, Group & { readonly shards: number[]; wholeOnly: boolean }>();
    for (const shard of shards) {
      const copies = this.#copies(placement, shard, run, region);
      const ballot = run?.ballots.get(shard);
      const copy = copies.find(({ address }) => address === ballot?.best) ?? copies[0];
      const isFirst = ballot === undefined;
      const wholeOnly = isFirst && copies.length > 1;
      const key = `${copy?.address} ${isFirst}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { copy, shards: [shard], wholeOnly });
      else {
        group.shards.push(shard);
        group.wholeOnly ||= wholeOnly;
      }
    }
    return [...groups.values()];
  }

  /** Those that are left to ask, the best first. */
  #copies(placement: Placement, shard: number, run: Run | undefined, region: string | undefined): Copy[] {
    const places = placement.copies[shard] ?? [];
    const copies = [
      ...preferred(places, this.#options.region, ['active', 'leaving']),
      // Better than none, wherever it is; it says itself what it lacks.
      ...preferred(places, this.#options.region, ['joining']),
    ];
    const tried = run?.tried.get(shard);
    return copies.filter((one) => !tried?.has(one.address) && (region === undefined || one.region === region));
  }

  /** Asks the other copies of shards that were not complete whether they are, all at once and for a moment only. Never rejects. */
  async #weigh(placement: Placement, run: Run, region: string | undefined): Promise<void> {
    const { env } = this.#options;
    const shardsOf = new Map<string, number[]>();
    for (const [shard, ballot] of run.ballots) {
      if (ballot.isClosed) continue;
      ballot.isClosed = true;
      for (const { address } of this.#copies(placement, shard, run, region)) {
        const isMute = (this.#nodes.get(address)?.muteUntilMs ?? 0) > env.clock.monotonicMs();
        if (!isMute && address !== ballot.best) shardsOf.set(address, [...(shardsOf.get(address) ?? []), shard]);
      }
    }
    const asked = [...shardsOf].map(async ([address, shards]) => {
      const reads = this.#reads(address);
      if (!(await run.weigh(address, shards, reads, env.timers))) return;
      const node = this.#nodes.get(address);
      if (node !== undefined) node.muteUntilMs = env.clock.monotonicMs() + MUTE_MS;
    });
    await Promise.all(asked);
  }

  #reads(address: string): Reads {
    let node = this.#nodes.get(address);
    if (node === undefined) {
      const { env, caller, credentials, placement, spoken } = this.#options;
      const channel = new Channel(address, { clock: env.clock, caller, ...(credentials && { credentials }) });
      const clusterId = () => placement.current()?.clusterId ?? '';
      const reads = new Reads({ channel, caller, clusterId, ...(spoken && { spoken }) });
      node = { channel, reads, muteUntilMs: 0 };
      this.#nodes.set(address, node);
    }
    return node.reads;
  }
}

/** Shards that are asked of one node; of none when no copy is left to try. */
interface Group {
  readonly copy: Copy | undefined;
  readonly shards: readonly number[];
  /** Of shards that are not complete there, nothing is wanted: there are other copies. */
  readonly wholeOnly: boolean;
}

/** One read of the cluster: what is under way, and what came of it so far. */
class Run {
  readonly ledger: Coverage[] = [];
  /** Where shards were asked that are not answered yet. */
  readonly tried = new Map<number, Set<string>>();
  /** Of shards that were not complete in the copy that was asked. */
  readonly ballots = new Map<number, Ballot>();
  readonly #range: ReadRange;
  readonly #question: (shards: readonly number[]) => Question;
  readonly #receive: ReplyReceiver;
  readonly #timers: Env['timers'] | undefined;
  readonly #region: string | undefined;
  readonly #open = new Set<Asked>();
  readonly #reasons = new Map<number, string>();
  #stopped: SilverbackError | undefined;
  #expired: SilverbackError | undefined;

  /** With `holdsBack`, a node's replies are held until it is done, and handed on in turn with other work. */
  constructor(
    range: ReadRange,
    question: (shards: readonly number[]) => Question,
    receive: ReplyReceiver,
    { region, holdsBack }: { readonly region: string | undefined; readonly holdsBack: Env['timers'] | undefined },
  ) {
    this.#range = range;
    this.#question = question;
    this.#receive = receive;
    this.#region = region;
    this.#timers = holdsBack;
  }

  /** Ends the whole read with this error. */
  stop(error: SilverbackError): void {
    this.#stopped ??= error;
    for (const asked of this.#open) asked.cancel(error);
  }

  /** From now on no node is waited for. */
  expire(timeoutMs: number): void {
    this.#expired = new SilverbackError('TIMEOUT', `no answer within ${timeoutMs} ms`);
    for (const asked of this.#open) asked.cancel(this.#expired);
  }

  /**
   * Asks one node and enters its answer into the ledger. Resolves with the shards that another copy may still give.
   * Rejects with what concerns the whole read.
   */
  async ask({ copy, shards, wholeOnly }: Group, readsOf: (address: string) => Reads): Promise<readonly number[]> {
    if (copy === undefined) {
      const where = this.#region === undefined ? 'node' : `node of region ${this.#region}`;
      for (const shard of shards) this.#missing(shard, this.#reasons.get(shard) ?? `no ${where} holds shard ${shard}`);
      return [];
    }
    const { address } = copy;
    let hasGiven = false;
    let asked: Asked | undefined;
    const held: ReadReply[] = [];
    const give = (reply: ReadReply): void | Promise<void> => {
      hasGiven = true;
      return this.#receive(reply);
    };
    const hold = (reply: ReadReply): void => {
      held.push(reply);
    };
    try {
      if (this.#expired !== undefined) throw this.#expired;
      const question = { ...this.#question(shards), wholeOnly };
      asked = readsOf(address).ask(question, this.#timers === undefined ? give : hold);
      this.#open.add(asked);
      const coverage = await asked.answer;
      for (const [i, reply] of held.entries()) {
        // Each is about 128 KiB.
        if (i > 0) await this.#timers?.yield();
        if (this.#stopped !== undefined) throw this.#stopped;
        await give(reply);
      }
      return this.#settle(coverage, shards, copy, wholeOnly);
    } catch (error) {
      if (this.#stopped !== undefined) throw this.#stopped;
      const isOfNode = error instanceof SilverbackError && !OF_REQUEST.has(error.code);
      if (!isOfNode) {
        this.stop(cancelled());
        throw error;
      }
      return this.#failed(shards, address, `${address}: ${error.message}`, hasGiven);
    } finally {
      if (asked !== undefined) this.#open.delete(asked);
    }
  }

  /** Asks a copy whether it is complete in these shards. Resolves with whether it was silent. Never rejects. */
  async weigh(address: string, shards: readonly number[], reads: Reads, timers: Env['timers']): Promise<boolean> {
    const { fromMs, toMs } = this.#range;
    // The least that there is to read.
    const asked = reads.ask({ windowVersions: { shards, fromMs, toMs }, wholeOnly: true }, () => undefined);
    this.#open.add(asked);
    const late = new SilverbackError('TIMEOUT', `no answer within ${WEIGHING_MS} ms`);
    const timer = timers.after(WEIGHING_MS, () => asked.cancel(late));
    try {
      const coverage = await asked.answer;
      for (const shard of shards) this.ballots.get(shard)?.enter(address, entriesOf(coverage, shard));
      return false;
    } catch (error) {
      return error === late;
    } finally {
      timer.cancel();
      this.#open.delete(asked);
    }
  }

  #settle(
    coverage: readonly WireCoverage[],
    shards: readonly number[],
    copy: Copy,
    wholeOnly: boolean,
  ): readonly number[] {
    const name = `${copy.region}/${copy.node}`;
    const [only] = coverage;
    if (coverage.length === 1 && only?.state === 'COMPLETE' && only.shards.length === shards.length) {
      this.#enter(only, only.shards, name);
      return [];
    }
    const { fromMs, toMs } = this.#range;
    const open: number[] = [];
    for (const shard of shards) {
      const entries = entriesOf(coverage, shard);
      const hasGiven = entries.some(({ given }) => given);
      const isEmpty =
        !hasGiven &&
        entries.every((entry) => entry.state === 'MISSING' && entry.fromMs <= fromMs && entry.toMs >= toMs);
      if (wholeOnly && !hasGiven && entries.some(({ state }) => state !== 'COMPLETE')) {
        this.ballots.set(shard, new Ballot(copy.address, entries));
        open.push(shard);
      } else if (isEmpty) {
        this.#note(shard, copy.address, entries[0]?.reason ?? `the node said nothing about shard ${shard}`);
        open.push(shard);
      } else for (const entry of entries) this.#enter(entry, [shard], name);
    }
    return open;
  }

  #failed(shards: readonly number[], address: string, reason: string, hasGiven: boolean): readonly number[] {
    for (const shard of shards) {
      // Another copy would give the same series again; the consumer was promised each once.
      if (hasGiven) this.#missing(shard, reason);
      else this.#note(shard, address, reason);
    }
    return hasGiven ? [] : shards;
  }

  #note(shard: number, address: string, reason: string): void {
    this.#reasons.set(shard, reason);
    const tried = this.tried.get(shard);
    if (tried === undefined) this.tried.set(shard, new Set([address]));
    else tried.add(address);
  }

  #missing(shard: number, reason: string): void {
    const { fromMs, toMs } = this.#range;
    this.ledger.push({ shard, fromMs, toMs, state: 'missing', reason });
  }

  #enter({ fromMs, toMs, state, reason }: WireCoverage, shards: readonly number[], copy: string): void {
    for (const shard of shards) this.ledger.push({ shard, fromMs, toMs, state: STATES[state], reason, copy });
  }
}

function entriesOf(coverage: readonly WireCoverage[], shard: number): readonly WireCoverage[] {
  return coverage.filter(({ shards }) => shards.includes(shard));
}

/** Refusals that any node would give. */
const OF_REQUEST: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'TOO_LARGE']);

const STATES = { COMPLETE: 'complete', UNCONFIRMED: 'unconfirmed', MISSING: 'missing' } as const;
const OPS: Readonly<Record<Matcher['op'], WireMatcher['op']>> = { '=': 'EQ', '!=': 'NE', '=~': 'RE', '!~': 'NRE' };

function cancelled(): SilverbackError {
  return new SilverbackError('CANCELLED', 'the read was cancelled');
}

export function toWire({ name, op, value }: Matcher): WireMatcher {
  return { name, op: OPS[op], value };
}

/** Of a page of values: a JSON array of texts. */
function readValues(page: Uint8Array): string[] {
  try {
    return JSON.parse(Buffer.from(page.buffer, page.byteOffset, page.length).toString()) as string[];
  } catch (cause) {
    throw new SilverbackError('CORRUPT', `a page of values is no JSON: ${(cause as Error).message}`, { cause });
  }
}

function selectRequest(options: SelectOptions): Omit<SelectRequest, 'shards'> {
  return {
    matchers: options.matchers.map(toWire),
    fromMs: options.fromMs,
    toMs: options.toMs,
    maxSeries: options.maxSeries ?? 0,
    maxSamples: options.maxSamples ?? 0,
  };
}

function labelsRequest(options: LabelsOptions, name: string): Omit<LabelsRequest, 'shards'> {
  const { fromMs, toMs, selectors } = options;
  return { fromMs, toMs, name, selectors: selectors.map((matchers) => ({ matchers: matchers.map(toWire) })) };
}
