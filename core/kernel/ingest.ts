/**
 * The door to the ingest kernel: a compressed Prometheus remote-write body in, of 1.0 or 2.0, columns by shard out,
 * in one wasm instance. It decompresses, parses, and finds each series' shard and reference by the raw
 * bytes of its labels; labels are looked into only when their bytes are new.
 *
 * A body is read in slices of at most 16,384 samples, so that no call takes long:
 *
 *     kernel.begin(chunks);
 *     for (let slice = kernel.next(buffer); ; slice = kernel.next(buffer)) { ...; if (slice.done) break; }
 *
 * One body at a time. References are dense per shard from 0 on and never change their meaning; the table of
 * series only grows. Who wants it bounded looks at `tableBytes` and makes a new kernel.
 */
import { SilverbackError } from '../errors.ts';
import { type KernelMemory, loadKernel } from './load.ts';
import { NO_NOTES, readNotes, type SliceNotes } from './notes.ts';
import { fields, labelReferences } from './wire.ts';

export interface IngestKernelOptions {
  /** A power of two. */
  readonly shardCount: number;
  /** Longest body as it arrives, compressed. */
  readonly maxBodyBytes: number;
  /** Longest body once decompressed. */
  readonly maxRawBytes: number;
  /** Labels of a series that have a value. */
  readonly maxLabelCount: number;
  /** Longest label name, UTF-8 bytes. */
  readonly maxNameBytes: number;
  /** Longest label value, UTF-8 bytes. */
  readonly maxValueBytes: number;
  /** 8 unpredictable bytes: nobody can aim series at one slot of the table. */
  readonly seed: Uint8Array;
}

/** The samples of one shard; views into the buffer that was given to `next`. */
export interface ShardColumns {
  readonly shard: number;
  /** One reference per run of samples of one series. */
  readonly refs: Uint32Array;
  /** Samples in each run; undefined: every run has one. */
  readonly counts: Uint32Array | undefined;
  /** i64 little-endian, ms since 1970. */
  readonly timestamps: Uint8Array;
  /** u64 little-endian, the bits of the float64. */
  readonly values: Uint8Array;
}

/** A series whose labels break a rule: none of its samples is in the columns. */
export interface RefusedSeries {
  /** Names the series and the rule. */
  readonly message: string;
  readonly sampleCount: number;
}

export interface IngestSlice {
  readonly batches: readonly ShardColumns[];
  readonly sampleCount: number;
  readonly refused: readonly RefusedSeries[];
  readonly notes: SliceNotes;
  /** The body is at its end; else call `next` again. */
  readonly done: boolean;
}

/** What a body held beside float samples. Valid once the body is at its end. */
export interface BesideCounts {
  /** Those of refused series among them. */
  readonly exemplarCount: number;
  /** Parsed over and not stored. */
  readonly histogramCount: number;
  readonly metadataCount: number;
}

/** Exports of assembly/ingest.ts. Addresses come as signed numbers. */
interface Exports {
  readonly memory: KernelMemory;
  prepare(
    shardBits: number,
    bodyBytes: number,
    rawBytes: number,
    maxLabels: number,
    nameBytes: number,
    valueBytes: number,
    seedLow: number,
    seedHigh: number,
  ): void;
  inputAddress(): number;
  begin(length: number, version: number): number;
  read(): number;
  columns(): number;
  directoryAddress(): number;
  outputAddress(): number;
  outputSize(): number;
  sliceSamples(): number;
  failureCode(): number;
  failureAddress(): number;
  rawAddress(): number;
  declaredBytes(): number;
  refusedSeries(): number;
  refusalAddress(): number;
  refusedSampleCount(): number;
  exemplars(): number;
  histograms(): number;
  metadata(): number;
  notes(): number;
  notesAddress(): number;
  forgetMetadata(): void;
  symbolsAddress(): number;
  symbolCount(): number;
  identity(shard: number, ref: number): number;
  identityAddress(): number;
  seriesCount(): number;
  tableBytes(): number;
}

const DONE = 0;
const FAILED = 2;
const SNAPPY_TOO_LARGE = 2;
const LAST_SNAPPY_FAILURE = 7;
const TABLE_FULL = 12;
const NO_SYMBOL = 13;

/** By failure code (assembly/ingest/state.ts). */
const FAILURES: Readonly<Record<number, string>> = {
  1: 'the preamble, which declares the decompressed size, is not a 32-bit varint',
  3: 'the body ends before the declared size is reached',
  4: 'a literal runs past the end of the body',
  5: 'a copy reaches back before the start of the data',
  6: 'there is more data than the declared size',
  7: 'bytes follow the end of the data',
  8: 'a varint is cut off or longer than ten bytes',
  9: 'a length runs past the end of the message it is in',
  10: 'a field has a wire type that its number does not have',
  11: 'a field has the number 0 or one above the largest allowed',
  13: 'a reference is past the end of the symbols',
  14: 'a series has an odd number of references to label names and values',
  15: 'it has more than 1048576 symbols',
  16: 'a field has one of the numbers 1 to 3, which are reserved in 2.0: the body may be of 1.0',
  17: 'it has a field of 2.0 and none of 1.0: the body may be of 2.0, and its content type has to say so (proto=io.prometheus.write.v2.Request)',
};

/** By rule (assembly/ingest/labels.ts). */
const RULES: Readonly<Record<number, (label: RawLabel, measure: number, options: IngestKernelOptions) => string>> = {
  1: () => 'it has no label with a value',
  2: (_, count, o) => `it has ${count} labels, at most ${o.maxLabelCount} are allowed`,
  3: (label) => `the label with the value ${quote(label.value)} has an empty name`,
  4: (label, bytes, o) =>
    `the label name ${quote(label.name)} is ${bytes} bytes long, at most ${o.maxNameBytes} are allowed`,
  5: (label, bytes, o) =>
    `the value of label ${quote(label.name)} is ${bytes} bytes long, at most ${o.maxValueBytes} are allowed`,
  6: (label) => `the label name ${quote(label.name)} is not valid UTF-8`,
  7: (label) => `the value of label ${quote(label.name)} is not valid UTF-8`,
  8: (label) => `the label name ${quote(label.name)} occurs more than once`,
  9: (_, bytes) => `its labels take ${bytes} bytes, at most 65536 are allowed`,
};
const DUPLICATE = 8;

/** Of the remote-write protocol. */
export type WriteVersion = 1 | 2;

const REFUSAL_BYTES = 32;
const DIRECTORY_WORDS = 7;
const NOTE_WORDS = 5;
/** refs, counts, timestamps and values of a sample, and padding per shard (assembly/ingest/columns.ts). */
const SAMPLE_BYTES = 24;
const SHARD_BYTES = 16;

export class IngestKernel {
  readonly #options: IngestKernelOptions;
  readonly #wasm: Exports;
  #bytes: Uint8Array;
  #words: Uint32Array;
  #version: WriteVersion = 1;

  constructor(options: IngestKernelOptions) {
    const { shardCount } = options;
    if (shardCount < 1 || shardCount > 65_536 || (shardCount & (shardCount - 1)) !== 0) {
      throw new SilverbackError('INVALID_ARGUMENT', `shardCount ${shardCount} is not a power of two up to 65536`);
    }
    this.#options = options;
    this.#wasm = loadKernel<Exports>('ingest');
    const seed = new DataView(options.seed.buffer, options.seed.byteOffset, 8);
    this.#wasm.prepare(
      Math.log2(shardCount),
      options.maxBodyBytes,
      options.maxRawBytes,
      options.maxLabelCount,
      options.maxNameBytes,
      options.maxValueBytes,
      seed.getUint32(0, true),
      seed.getUint32(4, true),
    );
    this.#bytes = new Uint8Array(this.#wasm.memory.buffer);
    this.#words = new Uint32Array(this.#wasm.memory.buffer);
  }

  /** Series known, each in each raw form it was sent in. */
  get seriesCount(): number {
    return this.#wasm.seriesCount() >>> 0;
  }

  /** Memory the table of series takes. */
  get tableBytes(): number {
    return this.#wasm.tableBytes() >>> 0;
  }

  /** Size of the buffer that `next` wants: holds any slice. */
  get sliceBytes(): number {
    return this.#wasm.sliceSamples() * SAMPLE_BYTES + this.#options.shardCount * SHARD_BYTES;
  }

  /** Takes a new body, which came in `chunks`, and drops the one before. Throws TOO_LARGE and INVALID_ARGUMENT. */
  begin(chunks: readonly Uint8Array[], version: WriteVersion = 1): void {
    let length = 0;
    for (const chunk of chunks) length += chunk.length;
    if (length > this.#options.maxBodyBytes) throw bodyTooLarge(length, this.#options.maxBodyBytes);
    const bytes = this.#memory();
    let at = this.#wasm.inputAddress() >>> 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    this.#version = version;
    if (this.#wasm.begin(length, version) === 0) throw this.#failure();
  }

  /**
   * Reads the next slice into `buffer`, of at least `sliceBytes`. Throws INVALID_ARGUMENT when the body is malformed, which
   * says nothing about slices already read, and RESOURCE_EXHAUSTED when the table cannot grow.
   */
  next(buffer: ArrayBuffer): IngestSlice {
    const wasm = this.#wasm;
    const status = wasm.read();
    if (status === FAILED) throw this.#failure();
    const refusedCount = wasm.refusedSeries();
    const noteCount = wasm.notes();
    const batchCount = wasm.columns();
    const bytes = this.#memory();
    const output = wasm.outputAddress() >>> 0;
    new Uint8Array(buffer).set(bytes.subarray(output, output + wasm.outputSize()));
    const words = this.#words;
    const batches: ShardColumns[] = [];
    let sampleCount = 0;
    let entry = wasm.directoryAddress() >>> 2;
    for (let i = 0; i < batchCount; i++, entry += DIRECTORY_WORDS) {
      const runs = words[entry + 1] as number;
      const samples = words[entry + 2] as number;
      const counts = words[entry + 4] as number;
      sampleCount += samples;
      batches.push({
        shard: words[entry] as number,
        refs: new Uint32Array(buffer, (words[entry + 3] as number) - output, runs),
        counts: counts === 0 ? undefined : new Uint32Array(buffer, counts - output, runs),
        timestamps: new Uint8Array(buffer, (words[entry + 5] as number) - output, samples * 8),
        values: new Uint8Array(buffer, (words[entry + 6] as number) - output, samples * 8),
      });
    }
    return {
      batches,
      sampleCount,
      refused: refusedCount === 0 ? [] : this.#refusals(refusedCount),
      notes: noteCount === 0 ? NO_NOTES : this.#notes(noteCount),
      done: status === DONE,
    };
  }

  /**
   * Metadata that was handed out before is handed out again when it comes again; until then it is not, nor is in 2.0 what a
   * series says anew.
   */
  forgetMetadata(): void {
    this.#wasm.forgetMetadata();
  }

  beside(): BesideCounts {
    return {
      exemplarCount: this.#wasm.exemplars(),
      histogramCount: this.#wasm.histograms(),
      metadataCount: this.#wasm.metadata(),
    };
  }

  /** Identity bytes of a reference that was given out: a view, valid until the next call. */
  identity(shard: number, ref: number): Uint8Array {
    const length = this.#wasm.identity(shard, ref) >>> 0;
    if (length === 0) throw new SilverbackError('INTERNAL', `reference ${ref} of shard ${shard} was never given out`);
    const at = this.#wasm.identityAddress() >>> 0;
    return this.#memory().subarray(at, at + length);
  }

  /** The memory as bytes; growth takes the old views away. */
  #memory(): Uint8Array {
    if (this.#bytes.byteLength === 0) {
      this.#bytes = new Uint8Array(this.#wasm.memory.buffer);
      this.#words = new Uint32Array(this.#wasm.memory.buffer);
    }
    return this.#bytes;
  }

  #failure(): SilverbackError {
    const code = this.#wasm.failureCode();
    const declaredBytes = this.#wasm.declaredBytes() >>> 0;
    if (code === TABLE_FULL) {
      return new SilverbackError('RESOURCE_EXHAUSTED', 'the table of known series cannot grow: out of memory', {
        retryAfterMs: 1000,
      });
    }
    if (code === SNAPPY_TOO_LARGE) {
      return new SilverbackError(
        'TOO_LARGE',
        `remote write body declares ${declaredBytes} bytes once decompressed, at most ${this.#options.maxRawBytes} are allowed`,
      );
    }
    const why = FAILURES[code] ?? `failure ${code}`;
    const snappy = code <= LAST_SNAPPY_FAILURE;
    const start = snappy ? this.#wasm.inputAddress() : this.#wasm.rawAddress();
    const at = (this.#wasm.failureAddress() - start) >>> 0;
    return new SilverbackError(
      'INVALID_ARGUMENT',
      snappy
        ? `remote write body is not snappy: ${why}, at byte ${at}`
        : `remote write body is not a ${this.#what()}: ${why}, at byte ${at} of the ${declaredBytes} decompressed`,
    );
  }

  #refusals(count: number): RefusedSeries[] {
    const out: RefusedSeries[] = [];
    let entry = (this.#wasm.refusalAddress() >>> 0) >> 2;
    for (let i = 0; i < count; i++, entry += REFUSAL_BYTES >> 2) {
      const [rule, at, length, culprit, measure, sampleCount] = this.#words.subarray(entry, entry + 6) as unknown as [
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      const series = this.#bytes.subarray(at, at + length);
      const labels = this.#version === 1 ? rawLabels(series) : this.#spelledLabels(series);
      const label = (rule === DUPLICATE ? duplicate(labels) : labels[culprit]) ?? { name: '', value: '' };
      const words = RULES[rule]?.(label, measure, this.#options) ?? `rule ${rule}`;
      out.push({ message: `series ${seriesText(labels)}: ${words}`, sampleCount });
    }
    return out;
  }

  #notes(count: number): SliceNotes {
    const from = (this.#wasm.notesAddress() >>> 0) >> 2;
    try {
      return readNotes(this.#words.slice(from, from + count * NOTE_WORDS), {
        version: this.#version,
        bytes: (at, length) => this.#memory().subarray(at, at + length),
        identity: (shard, ref) => this.identity(shard, ref).slice(),
        symbol: (reference) => {
          const bytes = this.#symbolBytes(reference);
          if (bytes === undefined) throw new SilverbackError('INVALID_ARGUMENT', FAILURES[NO_SYMBOL] as string);
          return bytes;
        },
      });
    } catch (error) {
      if (!(error instanceof SilverbackError)) throw error;
      throw new SilverbackError(error.code, `remote write body is not a ${this.#what()}: ${error.message}`);
    }
  }

  #what(): string {
    return this.#version === 1 ? 'WriteRequest' : '2.0 Request';
  }

  /** `rawLabels` of a 2.0 TimeSeries. */
  #spelledLabels(series: Uint8Array): RawLabel[] {
    const references = labelReferences(series);
    const labels: RawLabel[] = [];
    for (let i = 0; i + 1 < references.length; i += 2) {
      labels.push({ name: this.#symbol(references[i] as number), value: this.#symbol(references[i + 1] as number) });
    }
    return labels;
  }

  #symbol(reference: number): string {
    return text.decode(this.#symbolBytes(reference));
  }

  #symbolBytes(reference: number): Uint8Array | undefined {
    if (reference >= this.#wasm.symbolCount() >>> 0) return undefined;
    const entry = (this.#wasm.symbolsAddress() >>> 2) + 2 * reference;
    const at = this.#words[entry] as number;
    return this.#bytes.subarray(at, at + (this.#words[entry + 1] as number));
  }
}

/** The error for a body over its limit; the server uses it too, before it has the body. */
export function bodyTooLarge(bytes: number, limit: number): SilverbackError {
  return new SilverbackError('TOO_LARGE', `remote write body is ${bytes} bytes long, at most ${limit} are allowed`);
}

interface RawLabel {
  readonly name: string;
  readonly value: string;
}

/** Longest text of a name, a value and a series in a message. */
const TEXT_CHARS = 120;
const SERIES_CHARS = 600;

function quote(text: string): string {
  return JSON.stringify(text.length > TEXT_CHARS ? `${text.slice(0, TEXT_CHARS)}...` : text);
}

function seriesText(labels: readonly RawLabel[]): string {
  let out = '{';
  for (const { name, value } of labels) {
    if (out.length > SERIES_CHARS) return `${out}, ...}`;
    out += `${out.length === 1 ? '' : ', '}${name.length > TEXT_CHARS ? `${name.slice(0, TEXT_CHARS)}...` : name}=${quote(value)}`;
  }
  return `${out}}`;
}

function duplicate(labels: readonly RawLabel[]): RawLabel | undefined {
  const seen = new Set<string>();
  return labels.find(({ name, value }) => value !== '' && (seen.has(name) || !seen.add(name)));
}

const text = new TextDecoder();

/** The labels of a TimeSeries message that the kernel has found to be well formed, for a message to a human. */
function rawLabels(series: Uint8Array): RawLabel[] {
  const labels: RawLabel[] = [];
  for (const field of fields(series)) {
    if (field.tag !== 0x0a) continue;
    let name = '';
    let value = '';
    for (const { tag, bytes } of fields(field.bytes)) {
      if (tag === 0x0a) name = text.decode(bytes);
      if (tag === 0x12) value = text.decode(bytes);
    }
    labels.push({ name, value });
  }
  return labels;
}
