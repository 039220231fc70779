/**
 * What a shard keeps beside samples: exemplars, and the metadata of metrics. Both name what they belong to in full, so they
 * need no series here, and mean the same in every copy's log.
 *
 * Whether an exemplar is taken is decided where it is first acknowledged, as with samples. What the log has is durable as the
 * log is; memory follows it at once.
 */
import type { Clock } from '../../core/env/env.ts';
import { SilverbackError, wireCode } from '../../core/errors.ts';
import { decodeExemplarLabels, type Exemplar, ExemplarList, readExemplars } from '../../core/exemplars.ts';
import { decodeIdentity, formatLabels, UNLIMITED } from '../../core/labels.ts';
import { encodeMetadata, keptMetadata, type MetricMetadata, readMetadata } from '../../core/metadata.ts';
import type { ExemplarRefusal } from '../../core/protocol.ts';
import { Exemplars } from './exemplars.ts';
import { type Log, RecordKind } from './log.ts';
import { MetadataTable } from './metadata.ts';
import type { ShardSettings } from './options.ts';
import { OWN_ORIGIN, RECORD_OVERHEAD_BYTES } from './segment.ts';
import type { Slicer } from './slicer.ts';

/** Lists as a batch brings them, see core/exemplars.ts and core/metadata.ts. */
export interface AnnexColumns {
  readonly exemplars?: Uint8Array;
  readonly metadata?: Uint8Array;
}

export interface AnnexOutcome {
  /** Exemplars that are stored, or were. */
  readonly exemplarCount: number;
  readonly refused: readonly ExemplarRefusal[];
  /** Of the log record to wait for; 0: none. */
  readonly sequence: number;
}

type AnnexKind = typeof RecordKind.METADATA | typeof RecordKind.EXEMPLAR;

/** Refusals of a batch that name their series. */
const MAX_NAMED_REFUSALS = 64;
/** Longest text of a series in a refusal. */
const SERIES_CHARS = 600;
/** Entries in a page of a checkpoint. */
const METADATA_AT_A_TIME = 256;

const NOTHING: AnnexOutcome = { exemplarCount: 0, refused: [], sequence: 0 };

export class Annex {
  readonly exemplars = new Exemplars();
  readonly metadata: MetadataTable;
  readonly #clock: Clock;
  readonly #settings: ShardSettings;
  /** Of the last record of a batch: what is repeated may not be in the system's hands yet. */
  #lastSequence = 0;
  acceptedCount = 0;
  refusedCount = 0;

  constructor(clock: Clock, settings: ShardSettings) {
    this.#clock = clock;
    this.#settings = settings;
    this.metadata = new MetadataTable(settings.limits.maxMetadataCount);
  }

  /** Of memory, an estimate. */
  get byteCount(): number {
    return this.exemplars.byteCount + this.metadata.byteCount;
  }

  /** Stores what a batch brings. Throws INVALID_ARGUMENT for what is no list, and what the log throws. */
  append(log: Log, { exemplars, metadata }: AnnexColumns): AnnexOutcome {
    const hasExemplars = exemplars !== undefined && exemplars.length > 0;
    const hasMetadata = metadata !== undefined && metadata.length > 0;
    if (!hasExemplars && !hasMetadata) return NOTHING;
    if (hasMetadata) this.#describe(log, readMetadata(metadata, 'INVALID_ARGUMENT'), OWN_ORIGIN);
    const refused: ExemplarRefusal[] = [];
    let exemplarCount = 0;
    if (hasExemplars) {
      const nowMs = this.#clock.nowMs();
      const fresh = new ExemplarList();
      const added: (readonly [Uint8Array, Exemplar])[] = [];
      readExemplars(exemplars, 'INVALID_ARGUMENT', (identity, exemplar) => {
        const refusal = this.#refusal(identity, exemplar, nowMs);
        if (refusal !== undefined) {
          const isNamed = refused.length < MAX_NAMED_REFUSALS;
          const what = isNamed ? `exemplar of series ${seriesText(identity)}` : 'another exemplar';
          refused.push({ code: wireCode(refusal.code), message: `${what}: ${refusal.message}` });
          return;
        }
        exemplarCount++;
        if (this.exemplars.has(identity, exemplar)) return;
        fresh.add(identity, exemplar);
        added.push([identity, exemplar]);
      });
      if (added.length > 0) this.#lastSequence = log.append(RecordKind.EXEMPLAR, OWN_ORIGIN, fresh.take());
      for (const [identity, exemplar] of added) this.exemplars.add(identity, exemplar);
      this.#trim();
      this.acceptedCount += exemplarCount;
      this.refusedCount += refused.length;
    }
    return { exemplarCount, refused, sequence: this.#lastSequence };
  }

  /** Stores a record of another copy's log. Returns the sequence in the own, 0 if it held nothing new. Throws CORRUPT, VERSION. */
  copy(log: Log, kind: AnnexKind, record: Uint8Array, origin: number): number {
    log.admit(record.length + RECORD_OVERHEAD_BYTES);
    if (kind === RecordKind.METADATA) return this.#describe(log, readMetadata(record, 'CORRUPT'), origin);
    let isNew = false;
    readExemplars(record, 'CORRUPT', (identity, exemplar) => {
      isNew ||= !this.exemplars.has(identity, exemplar);
    });
    if (!isNew) return 0;
    const sequence = log.append(kind, origin, record);
    this.restore(kind, record);
    return sequence;
  }

  /** Takes in what log or checkpoint hold. Throws CORRUPT, VERSION. */
  restore(kind: AnnexKind, bytes: Uint8Array): void {
    if (kind === RecordKind.METADATA) {
      const nowMs = this.#clock.nowMs();
      for (const entry of readMetadata(bytes, 'CORRUPT')) this.metadata.add(entry, nowMs);
    } else {
      this.exemplars.restore(bytes);
      this.#trim();
    }
  }

  /** All of it, for a checkpoint; kinds are those of log records. */
  async *pages(slicer: Slicer): AsyncGenerator<readonly [kind: AnnexKind, bytes: Uint8Array]> {
    const entries = [...this.metadata.history()];
    for (let at = 0; at < entries.length; at += METADATA_AT_A_TIME) {
      yield [RecordKind.METADATA, encodeMetadata(entries.slice(at, at + METADATA_AT_A_TIME))];
      await slicer.pause();
    }
    for await (const page of this.exemplars.pages(slicer)) yield [RecordKind.EXEMPLAR, page];
  }

  #describe(log: Log, told: readonly MetricMetadata[], origin: number): number {
    const nowMs = this.#clock.nowMs();
    const news: MetricMetadata[] = [];
    for (const entry of told) {
      const kept = keptMetadata(entry);
      if (kept !== undefined && this.metadata.hear(kept, nowMs)) news.push(kept);
    }
    if (news.length === 0) return 0;
    const sequence = log.append(RecordKind.METADATA, origin, encodeMetadata(news));
    if (origin === OWN_ORIGIN) this.#lastSequence = sequence;
    for (const entry of news) this.metadata.add(entry, nowMs);
    return sequence;
  }

  #trim(): void {
    this.exemplars.trim(this.#settings.maxExemplarCount());
  }

  /**
   * Why an exemplar is not taken. Prometheus's rules, with its window for what comes out of order as wide as that for samples
   * here: the one before the newest of its series by more than that is refused.
   */
  #refusal(identity: Uint8Array, { labels, timestampMs }: Exemplar, nowMs: number): SilverbackError | undefined {
    const { limits, maxFutureMs, maxSampleAgeMs } = this.#settings;
    try {
      decodeExemplarLabels(labels);
      if (identity.length === 0) throw new SilverbackError('INVALID_LABELS', 'its series has no labels');
      if (identity.length > limits.maxIdentityBytes) {
        const message = `the labels of its series have ${identity.length} bytes together, at most ${limits.maxIdentityBytes} are accepted`;
        throw new SilverbackError('INVALID_LABELS', message);
      }
      decodeIdentity(identity, limits);
    } catch (error) {
      if (error instanceof SilverbackError) return error;
      throw error;
    }
    if (timestampMs > nowMs + maxFutureMs) {
      const message = `at ${timestampMs} ms, more than the accepted ${maxFutureMs / 60_000} min ahead (it is ${nowMs} ms)`;
      return new SilverbackError('TOO_FAR_AHEAD', message);
    }
    const newestMs = this.exemplars.newestMs(identity);
    if (newestMs !== undefined && timestampMs <= newestMs - maxSampleAgeMs) {
      const message = `at ${timestampMs} ms, out of order: more than the accepted ${maxSampleAgeMs / 3_600_000} h before the newest of the series (${newestMs} ms)`;
      return new SilverbackError('TOO_OLD', message);
    }
    return undefined;
  }
}

function seriesText(identity: Uint8Array): string {
  try {
    return formatLabels(decodeIdentity(identity, UNLIMITED)).slice(0, SERIES_CHARS);
  } catch {
    return '(unreadable)';
  }
}
