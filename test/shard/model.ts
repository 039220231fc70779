/** What a shard should hold: samples as a set, with the merge rule, and what is deleted of it. And the ways to ask a shard what it does hold. */
import { ChunkCodec } from '../../core/kernel/codec.ts';
import { encodeIdentity, makeLabels } from '../../core/labels.ts';
import type { Batch } from '../../node/shard/sender.ts';
import type { Shard } from '../../node/shard/shard.ts';

export interface Sample {
  /** The value of the label `s`. */
  readonly series: string;
  readonly timestampMs: number;
  /** The bits of the float64. */
  readonly bits: bigint;
}

export const STALE = 0x7ff0000000000002n;

/** IEEE 754 total order as the order of unsigned integers. */
function rank(bits: bigint): bigint {
  return bits >> 63n === 1n ? ~bits & 0xffffffffffffffffn : bits | (1n << 63n);
}

/** The merge rule: does `a` win over `b`? */
function beats(a: bigint, b: bigint): boolean {
  if ((a === STALE) !== (b === STALE)) return b === STALE;
  return rank(a) > rank(b);
}

const scratch = new DataView(new ArrayBuffer(8));

export function bitsOf(value: number): bigint {
  scratch.setFloat64(0, value);
  return scratch.getBigUint64(0);
}

/** A part of a series' past, both ends deleted. */
export interface Deleted {
  readonly series: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** A set of samples, merged by the rule, and a set of deletions: what these cover is not shown, whenever it came. */
export class Model {
  readonly series = new Map<string, Map<number, bigint>>();
  readonly deletions: Deleted[] = [];

  delete(deleted: Deleted): void {
    this.deletions.push(deleted);
  }

  isDeleted(series: string, timestampMs: number): boolean {
    return this.deletions.some((one) => one.series === series && one.fromMs <= timestampMs && timestampMs <= one.toMs);
  }

  add(sample: Sample): void {
    let samples = this.series.get(sample.series);
    if (samples === undefined) {
      samples = new Map();
      this.series.set(sample.series, samples);
    }
    const held = samples.get(sample.timestampMs);
    if (held === undefined || beats(sample.bits, held)) samples.set(sample.timestampMs, sample.bits);
  }

  addAll(samples: Iterable<Sample>): void {
    for (const sample of samples) this.add(sample);
  }

  *[Symbol.iterator](): Generator<Sample> {
    for (const [series, samples] of this.series) {
      for (const [timestampMs, bits] of samples) {
        if (!this.isDeleted(series, timestampMs)) yield { series, timestampMs, bits };
      }
    }
  }

  copy(): Model {
    const copy = new Model();
    copy.addAll(this);
    copy.deletions.push(...this.deletions);
    return copy;
  }

  /** One line a sample, sorted: for comparisons that say what differs. */
  lines(): string[] {
    return [...this].map(line).sort();
  }

  /** Samples of `required` that are neither in here nor deleted, as lines. A winner over the required value will do. */
  missing(required: Iterable<Sample>): string[] {
    const missing: string[] = [];
    for (const sample of required) {
      const held = this.series.get(sample.series)?.get(sample.timestampMs);
      const lost = held === undefined || beats(sample.bits, held);
      if (lost && !this.isDeleted(sample.series, sample.timestampMs)) missing.push(line(sample));
    }
    return missing;
  }
}

/** Deletions of `required` whose first or last millisecond is not deleted in `held`, as text. */
export function undeleted(held: Model, required: Iterable<Deleted>): string[] {
  return [...required]
    .filter(({ series, fromMs, toMs }) => !held.isDeleted(series, fromMs) || !held.isDeleted(series, toMs))
    .map(({ series, fromMs, toMs }) => `${series} deleted from ${fromMs} to ${toMs}`);
}

export function line(sample: Sample): string {
  return `${sample.series} @${sample.timestampMs} = ${sample.bits.toString(16).padStart(16, '0')}`;
}

export function identityOf(series: string): Uint8Array {
  return encodeIdentity(makeLabels({ __name__: 'm', s: series, half: series.length % 2 === 0 ? 'even' : 'odd' }));
}

const NO_BYTES = new Uint8Array(0);

/**
 * A batch of some samples, one run for each stretch of samples of one series. `refs` gives the reference of a series; those
 * in `define` are defined in the batch.
 */
export function batchOf(
  samples: readonly Sample[],
  refs: (series: string) => number,
  define: Iterable<string> = [],
): Batch {
  const definitions: Uint8Array[] = [];
  for (const series of define) {
    const identity = identityOf(series);
    const head = Buffer.alloc(8);
    head.writeUInt32LE(refs(series), 0);
    head.writeUInt32LE(identity.length, 4);
    definitions.push(head, identity);
  }
  const runs: number[] = [];
  const counts: number[] = [];
  const timestamps = Buffer.alloc(samples.length * 8);
  const values = Buffer.alloc(samples.length * 8);
  let last: string | undefined;
  samples.forEach(({ series, timestampMs, bits }, i) => {
    if (series !== last) {
      runs.push(refs(series));
      counts.push(0);
      last = series;
    }
    counts[counts.length - 1] = (counts.at(-1) ?? 0) + 1;
    timestamps.writeBigInt64LE(BigInt(timestampMs), i * 8);
    values.writeBigUInt64LE(bits, i * 8);
  });
  return {
    definitions: definitions.length === 0 ? NO_BYTES : Buffer.concat(definitions),
    refs: Buffer.from(Uint32Array.from(runs).buffer),
    counts: Buffer.from(Uint32Array.from(counts).buffer),
    timestamps,
    values,
  };
}

let codec: ChunkCodec | undefined;

export interface PagedSeries {
  readonly shard: number;
  readonly identity: Uint8Array;
  readonly chunks: readonly Uint8Array[];
}

/** Takes a select page apart. */
export function* readPage(page: Uint8Array): Generator<PagedSeries> {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let at = 0; at < page.length; ) {
    const shard = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    const identity = page.subarray(at + 8, at + 8 + length);
    at += 8 + length;
    const count = view.getUint32(at, true);
    at += 4;
    const chunks: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      const bytes = view.getUint32(at, true);
      chunks.push(page.subarray(at + 4, at + 4 + bytes));
      at += 4 + bytes;
    }
    yield { shard, identity, chunks };
  }
}

/** The value of the label `s` in an identity made by `identityOf`. */
export function seriesOf(identity: Uint8Array): string {
  const text = Buffer.from(identity).toString('latin1');
  return text.slice(text.lastIndexOf('\x01s') + 3);
}

export const EVERYTHING = {
  matchers: [],
  fromMs: 0,
  toMs: Number.MAX_SAFE_INTEGER,
  maxSeriesCount: Number.POSITIVE_INFINITY,
  maxSampleCount: Number.POSITIVE_INFINITY,
} as const;

/** All that a shard holds in a range and what is deleted of it, checked: nothing deleted is shown, each series once, in time order, timestamps unique. */
export async function contentsOf(shard: Shard, range = { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER }): Promise<Model> {
  codec ??= ChunkCodec.create();
  const model = new Model();
  const found = new Model();
  for (const { identity, fromMs, toMs } of shard.deletions()) {
    found.delete({ series: seriesOf(identity), fromMs, toMs });
  }
  for await (const page of shard.select({ ...EVERYTHING, ...range })) {
    for (const { identity, chunks } of readPage(page)) {
      const series = seriesOf(identity);
      if (model.series.has(series)) throw new Error(`series ${series} came twice`);
      const columns = codec.decode(chunks, range.fromMs, range.toMs);
      const bits = new BigUint64Array(columns.values.slice().buffer);
      let last = Number.NEGATIVE_INFINITY;
      columns.timestamps.forEach((timestampMs, i) => {
        if (timestampMs <= last) throw new Error(`series ${series}: ${timestampMs} after ${last}`);
        last = timestampMs;
        model.add({ series, timestampMs, bits: bits[i] as bigint });
        if (timestampMs >= range.fromMs && timestampMs <= range.toMs && found.isDeleted(series, timestampMs))
          throw new Error(`a deleted sample is shown: ${series} @${timestampMs}`);
      });
      let perChunk = Number.NEGATIVE_INFINITY;
      for (const chunk of chunks) {
        const { timestamps } = codec.decode([chunk]);
        if ((timestamps[0] as number) <= perChunk)
          throw new Error(`series ${series}: chunks overlap or are out of order`);
        perChunk = timestamps.at(-1) as number;
      }
    }
  }
  model.deletions.push(...found.deletions);
  return model;
}
