/**
 * Block file: one sealed window of one shard, the same bytes on disk, in memory, on the wire and in the object store.
 *
 * A pure function of the samples in it: nothing here says when, where or how often it was made. (LZ4 output is part of
 * the bytes, so the library's version is pinned by a golden file; a change of it is a change of the format's version.)
 * A block is never changed in place; how a file of it comes and goes safely is its owner's business (node/shard/blocks.ts).
 *
 *     header   48 bytes
 *       0  8   magic "SILVBLK" and the version
 *       8  4   shard
 *      12  4   count of series
 *      16  8   window start, ms
 *      24  4   window length, ms
 *      28  4   count of chunks
 *      32  8   count of samples
 *      40  4   zero
 *      44  4   CRC32 of the 44 bytes before
 *     sections, in this order, back to back
 *       1 chunks   the chunks of all series, in order of identity bytes, then time, back to back
 *       2 pages    per 65536 bytes of the chunk section, and what is left: CRC32 (4)
 *       3 index    u32 unpacked length, then (packed if shorter) per chunk: varint(chunk length * 2 + (1 if the next chunk
 *                  belongs to the same series))
 *       4 labels   slices of about 64 KiB: u32 unpacked length, u32 stored length, then (packed if shorter) per series:
 *                  varint(identity length), identity
 *       5 digests  32 bytes: bit b (byte b >> 3, bit b & 7) says that bucket b is not zero; then 16 bytes for each that is not
 *     footer   136 bytes
 *       5 times: 4 kind, 4 CRC32 of the section (of the pages section, for the chunks), 8 offset, 8 length
 *     120  4   count of sections
 *     124  4   CRC32 of the 124 bytes before
 *     128  8   "SILVBLKE"
 */
import { crc32 } from 'node:zlib';
import { SilverbackError } from './errors.ts';
import { pack, unpack } from './lz4.ts';
import { checkHeaderVersion, newest } from './versions.ts';

/** What a block is read from: a `File`, or `bytesSource(bytes)`. */
export interface BlockSource {
  read(offset: number, length: number): Promise<Uint8Array>;
  size(): Promise<number>;
}

export interface BlockHeader {
  readonly shard: number;
  readonly windowStartMs: number;
  readonly windowLengthMs: number;
}

/** Where the chunks of each series lie. Series are numbered in order of identity bytes, chunks in order of series, then time. */
export interface BlockIndex {
  /** seriesCount + 1 entries: the chunks of series s are firstChunk[s] up to firstChunk[s + 1]. */
  readonly firstChunk: Uint32Array;
  /** chunkCount + 1 entries: chunk c is the bytes chunkStart[c] up to chunkStart[c + 1] of the chunk section. */
  readonly chunkStart: Uint32Array;
}

const MAGIC = Buffer.from('SILVBLK');
const END_MAGIC = Buffer.from('SILVBLKE');
const HEADER_BYTES = 48;
const ENTRY_BYTES = 24;
const FOOTER_BYTES = 136;
const PAGE_BYTES = 64 * 1024;
const LABEL_SLICE_BYTES = 64 * 1024;
const READ_BYTES = 1024 * 1024;
const MAX_SLAB_BYTES = 1024 * 1024;
const DIGEST_BUCKETS = 256;
const DIGEST_BYTES = 16;
const U32 = 0x1_0000_0000;

const SECTIONS = ['chunks', 'pages', 'index', 'labels', 'digests'] as const;
type SectionName = (typeof SECTIONS)[number];

interface Section {
  readonly crc: number;
  readonly offset: number;
  readonly length: number;
}

function putU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

function getU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A growing byte string. */
class Bytes {
  private buffer: Buffer;
  length = 0;

  constructor(capacityBytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(capacityBytes);
  }

  get view(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  clear(): void {
    this.length = 0;
  }

  varint(value: number): void {
    this.reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.buffer[this.length++] = (rest % 0x80) + 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.buffer[this.length++] = rest;
  }

  put(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  u32(value: number): void {
    this.reserve(4);
    this.buffer.writeUInt32LE(value, this.length);
    this.length += 4;
  }

  private reserve(count: number): void {
    if (this.length + count <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.buffer.length * 2, this.length + count));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}

/** Reads varints and byte strings off an unpacked section; running past its end is CORRUPT. */
class Cursor {
  private at = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly corrupt: () => SilverbackError,
  ) {}

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 7; i++) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) break;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    throw this.corrupt();
  }

  take(length: number): Uint8Array {
    const start = this.at;
    if (start + length > this.bytes.length) throw this.corrupt();
    this.at = start + length;
    return this.bytes.subarray(start, this.at);
  }
}

/** The chunk section while it grows: slabs of whole pages, each page's CRC taken when it is full. */
class ChunkSection {
  length = 0;
  readonly pageCrcs = new Bytes(256);
  private readonly slabs: Buffer[] = [];
  private slab: Buffer = Buffer.alloc(0);
  private used = 0;

  put(bytes: Uint8Array): void {
    if (this.length + bytes.length >= U32) {
      throw new SilverbackError('TOO_LARGE', `block: chunks of more than ${U32 - 1} bytes`);
    }
    let done = 0;
    while (done < bytes.length) {
      if (this.used === this.slab.length) this.addSlab();
      const roomInPage = PAGE_BYTES - (this.used % PAGE_BYTES);
      const count = Math.min(roomInPage, bytes.length - done);
      this.slab.set(bytes.subarray(done, done + count), this.used);
      done += count;
      this.used += count;
      if (count === roomInPage) this.pageCrcs.u32(crc32(this.slab.subarray(this.used - PAGE_BYTES, this.used)));
    }
    this.length += bytes.length;
  }

  finish(): Buffer[] {
    const rest = this.used % PAGE_BYTES;
    if (rest > 0) this.pageCrcs.u32(crc32(this.slab.subarray(this.used - rest, this.used)));
    const last = this.slabs.length - 1;
    return this.slabs.map((slab, i) => (i === last ? slab.subarray(0, this.used) : slab));
  }

  private addSlab(): void {
    const size = Math.min(MAX_SLAB_BYTES, Math.max(PAGE_BYTES, this.slab.length * 2));
    this.slab = Buffer.allocUnsafeSlow(size);
    this.slabs.push(this.slab);
    this.used = 0;
  }
}

/** Makes a block, a series at a time, so that its user may yield between any two calls. */
export class BlockWriter {
  private readonly chunks = new ChunkSection();
  private readonly index = new Bytes(4096);
  private readonly labels = new Bytes(4096);
  private readonly labelSlice = new Bytes(LABEL_SLICE_BYTES + 4096);
  private previous: Buffer | undefined;
  private seriesCount = 0;
  private chunkCount = 0;
  private sampleCount = 0;
  /** Length of the last chunk, which is not in the index before it is known whether another one follows. */
  private heldLength = -1;

  constructor(private readonly header: BlockHeader) {}

  /** The next series; identities come in order of their bytes, each once. Copies. @throws INTERNAL if they do not. */
  series(identity: Uint8Array): void {
    const previous = this.previous;
    if (previous !== undefined && previous.compare(identity) >= 0) {
      throw new SilverbackError('INTERNAL', 'block: series out of order of identity bytes');
    }
    this.endSeries();
    this.previous = Buffer.from(identity);
    this.seriesCount++;
    this.labelSlice.varint(identity.length);
    this.labelSlice.put(identity);
    if (this.labelSlice.length >= LABEL_SLICE_BYTES) this.endLabelSlice();
  }

  /** A chunk of the current series, in time order. Copies. Every series has at least one. */
  chunk(bytes: Uint8Array, sampleCount: number): void {
    if (this.seriesCount === 0) throw new SilverbackError('INTERNAL', 'block: a chunk before the first series');
    if (this.heldLength >= 0) this.index.varint(this.heldLength * 2 + 1);
    this.heldLength = bytes.length;
    this.chunks.put(bytes);
    this.chunkCount++;
    this.sampleCount += sampleCount;
  }

  /**
   * `digests`: 256 buckets of 16 bytes. Returns the file as parts to be written one after another. The writer is spent.
   */
  finish(digests: Uint8Array): { readonly parts: readonly Uint8Array[]; readonly byteLength: number } {
    if (digests.length !== DIGEST_BUCKETS * DIGEST_BYTES) {
      throw new SilverbackError('INTERNAL', `block: digests of ${digests.length} bytes`);
    }
    this.endSeries();
    if (this.labelSlice.length > 0) this.endLabelSlice();
    const chunks = this.chunks.finish();
    const pages = this.chunks.pageCrcs.view;
    const bodies: Record<SectionName, readonly Uint8Array[]> = {
      chunks,
      pages: [pages],
      index: [this.packedIndex()],
      labels: [this.labels.view],
      digests: [encodeDigests(digests)],
    };
    const parts: Uint8Array[] = [this.encodeHeader()];
    const footer = Buffer.alloc(FOOTER_BYTES);
    let offset = HEADER_BYTES;
    SECTIONS.forEach((name, i) => {
      const body = bodies[name];
      const length = name === 'chunks' ? this.chunks.length : body[0]!.length;
      footer.writeUInt32LE(i + 1, i * ENTRY_BYTES);
      footer.writeUInt32LE(crc32(name === 'chunks' ? pages : body[0]!), i * ENTRY_BYTES + 4);
      putU64(footer, offset, i * ENTRY_BYTES + 8);
      putU64(footer, length, i * ENTRY_BYTES + 16);
      parts.push(...body);
      offset += length;
    });
    footer.writeUInt32LE(SECTIONS.length, 120);
    footer.writeUInt32LE(crc32(footer.subarray(0, 124)), 124);
    END_MAGIC.copy(footer, 128);
    parts.push(footer);
    return { parts, byteLength: offset + FOOTER_BYTES };
  }

  private endSeries(): void {
    if (this.seriesCount === 0) return;
    if (this.heldLength < 0) throw new SilverbackError('INTERNAL', 'block: a series without a chunk');
    this.index.varint(this.heldLength * 2);
    this.heldLength = -1;
  }

  private endLabelSlice(): void {
    const raw = this.labelSlice.view;
    const stored = pack(raw) ?? raw;
    this.labels.u32(raw.length);
    this.labels.u32(stored.length);
    this.labels.put(stored);
    this.labelSlice.clear();
  }

  private packedIndex(): Buffer {
    const raw = this.index.view;
    const section = new Bytes(4 + raw.length);
    section.u32(raw.length);
    section.put(pack(raw) ?? raw);
    return section.view;
  }

  private encodeHeader(): Buffer {
    const bytes = Buffer.alloc(HEADER_BYTES);
    MAGIC.copy(bytes);
    bytes[7] = newest('block');
    bytes.writeUInt32LE(this.header.shard, 8);
    bytes.writeUInt32LE(this.seriesCount, 12);
    putU64(bytes, this.header.windowStartMs, 16);
    bytes.writeUInt32LE(this.header.windowLengthMs, 24);
    bytes.writeUInt32LE(this.chunkCount, 28);
    putU64(bytes, this.sampleCount, 32);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, HEADER_BYTES - 4)), HEADER_BYTES - 4);
    return bytes;
  }
}

export function createBlock(header: BlockHeader): BlockWriter {
  return new BlockWriter(header);
}

function encodeDigests(digests: Uint8Array): Buffer {
  const section = new Bytes(DIGEST_BUCKETS / 8 + digests.length);
  const present = Buffer.alloc(DIGEST_BUCKETS / 8);
  const buckets: Uint8Array[] = [];
  for (let bucket = 0; bucket < DIGEST_BUCKETS; bucket++) {
    const bytes = digests.subarray(bucket * DIGEST_BYTES, (bucket + 1) * DIGEST_BYTES);
    if (bytes.every((byte) => byte === 0)) continue;
    present[bucket >> 3]! |= 1 << (bucket & 7);
    buckets.push(bytes);
  }
  section.put(present);
  for (const bytes of buckets) section.put(bytes);
  return section.view;
}

/** A block in memory as a source. */
export function bytesSource(bytes: Uint8Array): BlockSource {
  return {
    read: async (offset, length) =>
      bytes.subarray(Math.min(offset, bytes.length), Math.min(offset + length, bytes.length)),
    size: async () => bytes.length,
  };
}

/** A block, of which only header and footer are in memory. Methods read from the source and reject with CORRUPT. */
export class Block implements BlockHeader {
  private pages: Promise<Buffer> | undefined;

  /** Use `openBlock`. */
  constructor(
    private readonly source: BlockSource,
    private readonly name: string,
    readonly shard: number,
    readonly windowStartMs: number,
    readonly windowLengthMs: number,
    readonly seriesCount: number,
    readonly chunkCount: number,
    readonly sampleCount: number,
    readonly byteLength: number,
    private readonly sections: Readonly<Record<SectionName, Section>>,
  ) {}

  /** Length of the chunk section. */
  get chunkByteLength(): number {
    return this.sections.chunks.length;
  }

  async index(): Promise<BlockIndex> {
    const section = await this.section('index');
    const corrupt = () => this.corrupt('index', this.sections.index.offset);
    if (section.length < 4) throw corrupt();
    const raw = unpackIfShorter(section.subarray(4), section.readUInt32LE(0));
    const firstChunk = new Uint32Array(this.seriesCount + 1);
    const chunkStart = new Uint32Array(this.chunkCount + 1);
    const cursor = new Cursor(raw, corrupt);
    let series = 0;
    let start = 0;
    for (let chunk = 0; chunk < this.chunkCount; chunk++) {
      const value = cursor.varint();
      start += Math.floor(value / 2);
      if (start > this.chunkByteLength) throw corrupt();
      chunkStart[chunk + 1] = start;
      if (value % 2 === 1) continue;
      if (series === this.seriesCount) throw corrupt();
      firstChunk[++series] = chunk + 1;
    }
    if (series !== this.seriesCount || start !== this.chunkByteLength || !cursor.done) throw corrupt();
    return { firstChunk, chunkStart };
  }

  /** Identity bytes of the series in order, a slice of them at a time. */
  async *identities(): AsyncGenerator<readonly Uint8Array[]> {
    const section = await this.section('labels');
    const corrupt = () => this.corrupt('labels', this.sections.labels.offset);
    let at = 0;
    while (at < section.length) {
      if (at + 8 > section.length) throw corrupt();
      const rawBytes = section.readUInt32LE(at);
      const storedBytes = section.readUInt32LE(at + 4);
      at += 8;
      if (at + storedBytes > section.length) throw corrupt();
      const cursor = new Cursor(unpackIfShorter(section.subarray(at, at + storedBytes), rawBytes), corrupt);
      at += storedBytes;
      const identities: Uint8Array[] = [];
      while (!cursor.done) identities.push(cursor.take(cursor.varint()));
      yield identities;
    }
  }

  /** 256 x 16 bytes. */
  async digests(): Promise<Uint8Array> {
    const section = await this.section('digests');
    const digests = new Uint8Array(DIGEST_BUCKETS * DIGEST_BYTES);
    let at = DIGEST_BUCKETS / 8;
    for (let bucket = 0; bucket < DIGEST_BUCKETS; bucket++) {
      if ((section[bucket >> 3]! & (1 << (bucket & 7))) === 0) continue;
      digests.set(section.subarray(at, at + DIGEST_BYTES), bucket * DIGEST_BYTES);
      at += DIGEST_BYTES;
    }
    if (at !== section.length) throw this.corrupt('digests', this.sections.digests.offset);
    return digests;
  }

  /** The whole chunk section, verified, in a SharedArrayBuffer. */
  async chunks(): Promise<Uint8Array> {
    const length = this.chunkByteLength;
    const target = new Uint8Array(new SharedArrayBuffer(length));
    for (let start = 0; start < length; start += READ_BYTES) {
      target.set(await this.readPages(start, Math.min(length, start + READ_BYTES)), start);
    }
    return target;
  }

  /** The bytes `start` up to `end` of the chunk section, verified. */
  async readChunks(start: number, end: number): Promise<Uint8Array> {
    if (start < 0 || end < start || end > this.chunkByteLength) {
      throw new SilverbackError('INTERNAL', `${this.name}: chunk bytes ${start} to ${end} of ${this.chunkByteLength}`);
    }
    const first = start - (start % PAGE_BYTES);
    const bytes = await this.readPages(first, Math.min(this.chunkByteLength, Math.ceil(end / PAGE_BYTES) * PAGE_BYTES));
    return bytes.subarray(start - first, end - first);
  }

  /** Checks every checksum and every structure but the chunks' own. */
  async verify(): Promise<void> {
    await this.index();
    await this.digests();
    let count = 0;
    for await (const identities of this.identities()) count += identities.length;
    if (count !== this.seriesCount) throw this.corrupt('labels', this.sections.labels.offset);
    for (let start = 0; start < this.chunkByteLength; start += READ_BYTES) {
      await this.readPages(start, Math.min(this.chunkByteLength, start + READ_BYTES));
    }
  }

  /** `start` begins a page; `end` ends one, or the section. */
  private async readPages(start: number, end: number): Promise<Buffer> {
    this.pages ??= this.section('pages');
    const crcs = await this.pages;
    const offset = this.sections.chunks.offset + start;
    const bytes = asBuffer(await this.source.read(offset, end - start));
    if (bytes.length !== end - start) throw this.corrupt('chunks', offset + bytes.length);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, Math.min(bytes.length, at + PAGE_BYTES));
      const expected = crcs.readUInt32LE(((start + at) / PAGE_BYTES) * 4);
      if (crc32(page) !== expected) throw this.corrupt('chunks', offset + at);
    }
    return bytes;
  }

  private async section(name: SectionName): Promise<Buffer> {
    const { offset, length, crc } = this.sections[name];
    const bytes = asBuffer(await this.source.read(offset, length));
    if (bytes.length !== length || crc32(bytes) !== crc) throw this.corrupt(name, offset);
    return bytes;
  }

  private corrupt(section: SectionName, offset: number): SilverbackError {
    return new SilverbackError('CORRUPT', `${this.name}: section ${section} is damaged at offset ${offset}`);
  }
}

function unpackIfShorter(stored: Uint8Array, rawBytes: number): Uint8Array {
  return stored.length < rawBytes ? unpack(stored, rawBytes) : stored;
}

/**
 * Reads header and footer. `name` is for messages.
 * @throws CORRUPT naming file, section and offset; VERSION.
 */
export async function openBlock(source: BlockSource, name: string): Promise<Block> {
  const size = await source.size();
  if (size < HEADER_BYTES + FOOTER_BYTES) {
    throw new SilverbackError('CORRUPT', `${name}: ${size} bytes are no block`);
  }
  const header = asBuffer(await source.read(0, HEADER_BYTES));
  const isBlock = header.subarray(0, 7).equals(MAGIC);
  if (isBlock) checkHeaderVersion('block', header, HEADER_BYTES - 4, name);
  if (
    header.length < HEADER_BYTES ||
    !isBlock ||
    crc32(header.subarray(0, HEADER_BYTES - 4)) !== header.readUInt32LE(HEADER_BYTES - 4)
  ) {
    throw new SilverbackError('CORRUPT', `${name}: the header is damaged at offset 0`);
  }
  const footerOffset = size - FOOTER_BYTES;
  const footer = asBuffer(await source.read(footerOffset, FOOTER_BYTES));
  const sections = parseFooter(footer, footerOffset);
  if (sections === undefined) {
    throw new SilverbackError('CORRUPT', `${name}: the footer is damaged at offset ${footerOffset}`);
  }
  return new Block(
    source,
    name,
    header.readUInt32LE(8),
    getU64(header, 16),
    header.readUInt32LE(24),
    header.readUInt32LE(12),
    header.readUInt32LE(28),
    getU64(header, 32),
    size,
    sections,
  );
}

/** The section table; undefined unless the sections fill the space between header and footer without a gap. */
function parseFooter(footer: Buffer, footerOffset: number): Record<SectionName, Section> | undefined {
  if (footer.length < FOOTER_BYTES || !footer.subarray(128).equals(END_MAGIC)) return undefined;
  if (crc32(footer.subarray(0, 124)) !== footer.readUInt32LE(124)) return undefined;
  if (footer.readUInt32LE(120) !== SECTIONS.length) return undefined;
  let offset = HEADER_BYTES;
  const sections: Partial<Record<SectionName, Section>> = {};
  for (const [i, name] of SECTIONS.entries()) {
    const at = i * ENTRY_BYTES;
    const length = getU64(footer, at + 16);
    if (footer.readUInt32LE(at) !== i + 1 || getU64(footer, at + 8) !== offset) return undefined;
    sections[name] = { crc: footer.readUInt32LE(at + 4), offset, length };
    offset += length;
  }
  return offset === footerOffset ? (sections as Record<SectionName, Section>) : undefined;
}
