/**
 * The metadata of the metrics that are at home in a shard. In memory, and in log and checkpoint.
 *
 * Of each metric the latest few different entries are kept: programs of two versions may describe it in two ways. Past the
 * bound of metrics a new one takes the place of one that nobody has told of for long; if there is none it is left out.
 */
import { type MetricMetadata, metadataText } from '../../core/metadata.ts';

type Entry = Pick<MetricMetadata, 'type' | 'unit' | 'help'>;

interface Metric {
  /** The latest first. */
  readonly entries: Entry[];
  seenMs: number;
}

/** Different entries of a metric. */
const MAX_ENTRIES = 8;
/** A metric that was not told of for so long may be pushed out. Senders repeat themselves far more often. */
const FORGOTTEN_MS = 3_600_000;
/** Of memory, an estimate. */
const METRIC_BYTES = 256;

export class MetadataTable {
  /** The one that was told of longest ago is first. */
  readonly #metrics = new Map<string, Metric>();
  readonly #maxCount: number;
  #byteCount = 0;

  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  get count(): number {
    return this.#metrics.size;
  }

  /** Of memory, an estimate. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Somebody told this. Is it new, and would it be kept? */
  hear({ name, type, unit, help }: MetricMetadata, nowMs: number): boolean {
    const metric = this.#metrics.get(name);
    if (metric === undefined) return this.#metrics.size < this.#maxCount || this.#longForgotten(nowMs) !== undefined;
    metric.seenMs = nowMs;
    this.#metrics.delete(name);
    this.#metrics.set(name, metric);
    return !metric.entries.some((entry) => entry.type === type && entry.unit === unit && entry.help === help);
  }

  /** Keeps an entry, the same one again as the latest. Past the bound what was told of longest ago goes. */
  add({ name, type, unit, help }: MetricMetadata, nowMs: number): void {
    const entries = this.#metrics.get(name)?.entries ?? [];
    this.#delete(name);
    if (this.#metrics.size >= this.#maxCount) this.#delete(this.#metrics.keys().next().value as string);
    const others = entries.filter((entry) => entry.type !== type || entry.unit !== unit || entry.help !== help);
    const metric = { entries: [{ type, unit, help }, ...others].slice(0, MAX_ENTRIES), seenMs: nowMs };
    this.#metrics.set(name, metric);
    this.#byteCount += bytesOf(name, metric);
  }

  /** What is known of a metric, of all of them if `name` is empty, as texts for the wire: the latest entry of each comes first. */
  texts(name: string): string[] {
    const text = (metric: string, entries: readonly Entry[]) =>
      metadataText(entries.map((entry) => ({ name: metric, ...entry })));
    if (name === '') return Array.from(this.#metrics, ([one, { entries }]) => text(one, entries));
    const metric = this.#metrics.get(name);
    return metric === undefined ? [] : [text(name, metric.entries)];
  }

  /** All of it, in an order in which `add` makes the same table. */
  *history(): Generator<MetricMetadata> {
    for (const [name, { entries }] of this.#metrics) for (const entry of entries.toReversed()) yield { name, ...entry };
  }

  #longForgotten(nowMs: number): string | undefined {
    for (const [name, { seenMs }] of this.#metrics) return nowMs - seenMs > FORGOTTEN_MS ? name : undefined;
    return undefined;
  }

  #delete(name: string): void {
    const metric = this.#metrics.get(name);
    if (metric === undefined) return;
    this.#metrics.delete(name);
    this.#byteCount -= bytesOf(name, metric);
  }
}

function bytesOf(name: string, { entries }: Metric): number {
  let bytes = METRIC_BYTES + 2 * name.length;
  for (const { unit, help } of entries) bytes += METRIC_BYTES / 2 + 2 * (unit.length + help.length);
  return bytes;
}
