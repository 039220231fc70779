/**
 * The series of a shard: the kernel's table and the inverted index over it, kept in step.
 *
 * A slot of the table is given to another series as soon as its series is released. Whoever holds ids across an `await`
 * remembers `releaseCount` and asks `releasedSince` before using one; a released series had no samples, so it may be
 * passed over.
 */
import { SilverbackError } from '../../core/errors.ts';
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { decodeIdentity, formatLabels, type Labels, UNLIMITED } from '../../core/labels.ts';
import type { CompiledMatcher } from '../../core/matchers.ts';
import type { Budget } from './budget.ts';
import type { ShardLimits } from './options.ts';
import { type Among, type IdSet, Postings } from './postings.ts';
import type { Slicer } from './slicer.ts';

/** Room for series comes when old ones go, or with a larger limit: seldom. */
export const FULL_RETRY_MS = 60_000;
/** Of a series' labels in a message. */
const SHOWN_CHARS = 300;

export class Catalogue {
  readonly #kernel: ShardKernel;
  readonly #limits: ShardLimits;
  readonly #budget: Budget;
  readonly #postings = new Postings();
  #releaseCount = 0;
  /** Per slot: the `#releaseCount` with which its last series left. */
  #releasedAt = new Uint32Array(1024);

  constructor(kernel: ShardKernel, limits: ShardLimits, budget: Budget) {
    this.#kernel = kernel;
    this.#limits = limits;
    this.#budget = budget;
  }

  /** Why no further series is admitted now, in words; undefined while there is room. */
  get fullness(): string | undefined {
    const { maxSeriesCount } = this.#limits;
    const { fixedBytes, seriesBytes, limitBytes } = this.#budget;
    if (this.#kernel.seriesCount >= maxSeriesCount) {
      return `the shard holds ${this.#kernel.seriesCount} series, at most ${maxSeriesCount} are accepted`;
    }
    if (fixedBytes <= seriesBytes) return undefined;
    return `the node holds ${fixedBytes} bytes of series and open windows, new series are accepted up to ${seriesBytes} of its memory budget of ${limitBytes}`;
  }

  /** The series of identity bytes, if it is there. */
  find(identity: Uint8Array): SeriesId | undefined {
    return this.#kernel.find(identity);
  }

  get seriesCount(): number {
    return this.#postings.seriesCount;
  }

  get releaseCount(): number {
    return this.#releaseCount;
  }

  /** Has the slot lost a series since `releaseCount` was `count`? */
  releasedSince(id: SeriesId, count: number): boolean {
    return (this.#releasedAt[id] ?? 0) > count;
  }

  /**
   * Finds or admits the series of identity bytes from outside. Throws INVALID_LABELS or SERIES_LIMIT, naming what is wrong,
   * and what the kernel throws when memory is full.
   */
  admit(identity: Uint8Array): SeriesId {
    const limits = this.#limits;
    if (identity.length > limits.maxIdentityBytes) {
      throw new SilverbackError(
        'INVALID_LABELS',
        `series ${shownLabels(decodeIdentity(identity, limits))}: its labels have ${identity.length} bytes together, at most ${limits.maxIdentityBytes} are accepted`,
      );
    }
    const found = this.#kernel.find(identity);
    if (found !== undefined) return found;
    const labels = decodeIdentity(identity, limits);
    const { fullness } = this;
    if (fullness !== undefined) {
      throw new SilverbackError('SERIES_LIMIT', `series ${shownLabels(labels)}: ${fullness}`, {
        retryAfterMs: FULL_RETRY_MS,
      });
    }
    const { id } = this.#kernel.intern(identity);
    this.#postings.add(id, labels);
    return id;
  }

  /** Finds or makes the series of stored identity bytes; only the table's own size limits it. */
  restore(identity: Uint8Array): SeriesId {
    const { id, created } = this.#kernel.intern(identity);
    if (created) this.#postings.add(id, decodeIdentity(identity, UNLIMITED));
    return id;
  }

  labels(id: SeriesId): Labels {
    return decodeIdentity(this.#kernel.identity(id), UNLIMITED);
  }

  /** The series that satisfy every matcher, ascending. See `Postings.resolve`. */
  resolve(matchers: readonly CompiledMatcher[], slicer: Slicer): Uint32Array | Promise<Uint32Array> {
    return this.#postings.resolve(matchers, slicer);
  }

  /** See `Postings.names`. */
  labelNames(among: Among, known: ReadonlySet<string>, slicer: Slicer): Promise<string[]> {
    return this.#postings.names(among, known, slicer);
  }

  /** See `Postings.values`. */
  labelValues(name: string, among: Among, known: ReadonlySet<string>, slicer: Slicer): Promise<string[]> {
    return this.#postings.values(name, among, known, slicer);
  }

  /** See `Postings.allValues`. */
  allValues(name: string, slicer: Slicer): readonly string[] | Promise<readonly string[]> | undefined {
    return this.#postings.allValues(name, slicer);
  }

  /** See `Postings.visit`. */
  visit(take: (name: string, value: string, seriesCount: number) => void, slicer: Slicer): Promise<void> {
    return this.#postings.visit(take, slicer);
  }

  /** An estimate. */
  get indexBytes(): number {
    return this.#postings.byteCount + this.#releasedAt.byteLength;
  }

  /**
   * Releases the series that are not in `resident`, have no open runs and are not `kept`, in slices. Their references become
   * unknown to every sender. Returns how many.
   */
  async collect(resident: IdSet, kept: (id: SeriesId) => boolean, slicer: Slicer): Promise<number> {
    let count = 0;
    for (const id of this.#postings.ids() as Iterable<number> as Iterable<SeriesId>) {
      if (!resident.has(id) && this.#kernel.has(id) && !this.#kernel.hasRuns(id) && !kept(id)) {
        this.#release(id);
        count++;
      }
      if (slicer.due()) await slicer.pause();
    }
    if (count > 0) await this.#postings.sweep(slicer);
    return count;
  }

  #release(id: SeriesId): void {
    this.#kernel.release(id);
    this.#postings.remove(id);
    if (id >= this.#releasedAt.length) {
      const grown = new Uint32Array(Math.max(id + 1, this.#releasedAt.length * 2));
      grown.set(this.#releasedAt);
      this.#releasedAt = grown;
    }
    this.#releasedAt[id] = ++this.#releaseCount;
  }
}

/** Labels as PromQL writes them, cut when they are long: whoever is refused by the thousand is told so in a bounded message. */
export function shownLabels(labels: Labels): string {
  const text = formatLabels(labels);
  return text.length <= SHOWN_CHARS ? text : `${text.slice(0, SHOWN_CHARS)}...`;
}
