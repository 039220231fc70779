/**
 * The remote write messages, read in slices. That of 1.0 (prometheus.io/docs/specs/prw/remote_write_spec):
 *
 *     WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
 *     TimeSeries { repeated Label labels = 1; repeated Sample samples = 2;
 *                  repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
 *     Label { string name = 1; string value = 2; }
 *     Sample { double value = 1; int64 timestamp = 2; }
 *
 * Every sender writes a series' labels first, so their raw bytes are one stretch, and sends series in
 * much the same order each time. So the series that followed this one last time is tried first, byte
 * by byte; then the table; only what the table does not hold is looked into (labels.ts). A message
 * whose labels do not come first is legal protobuf too: its labels are gathered, then it is read again.
 *
 * That of 2.0 (prometheus.io/docs/specs/prw/remote_write_spec_2_0):
 *
 *     Request { reserved 1 to 3; repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
 *     TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3;
 *                  repeated Exemplar exemplars = 4; Metadata metadata = 5; }
 *
 * with the same Sample. Its symbols are indexed first, wherever they are (symbols.ts); then each series' labels
 * are spelled out, and it goes on as in 1.0.
 */
import { SLICE, addRun, dropRuns, startSlice, timestamps, values } from './columns';
import { LABELS_BYTES, LABELS_LONG, culprit, identify, identityStart, measure, refuse, rule } from './labels';
import { NOTES, dropNotes, lookAt, noteCount, noteExemplar, noteMetadata } from './notes';
import { FOREIGN, LENGTH, RESERVED, SLACK, TABLE_FULL, VARINT, WIRE_TYPE, fail, failure, forgive, lay } from './state';
import { find, follower, hash, insert, rawLabels, recordLength, reference, same, setFollower, shardOf } from './table';
import { declared, inflate, open, written } from './snappy';
import {
  addSymbol,
  dropSymbols,
  metadataHash,
  spell,
  spelledBytes,
  spelledContent,
  spelledStart,
  spelledTooLong,
} from './symbols';
import { after, readLength, readTag, readVarint, skip, varint } from './wire';
import { hash128, hashLow } from '../murmur';

export const DONE: i32 = 0;
export const MORE: i32 = 1;
export const FAILED: i32 = 2;

/** How far decompression runs ahead of the parser: with what was just read, half of a usual L2 cache. */
const AHEAD: usize = 65536;
/** A slice ends after so many bytes even if they held few samples. */
const SLICE_BYTES: usize = 4 << 20;
/** Refused series that are described; all are counted. 32 bytes each: rule, series' address and length, culprit, measure, samples. */
const REFUSALS: u32 = 64;

let raw: usize = 0;
let rawLimit: usize = 0;
let gathered: usize = 0;
let refusals: usize = 0;
let shardBits: u32 = 0;
/** Stands before the first series of every body. */
let sentinel: usize = 0;
let previous: usize = 0;

/** The body is of remote write 2.0. */
let second: bool = false;
/** Its symbols are indexed. */
let indexed: bool = false;

/** The body is of 1.0 and has something of it. */
let native: bool = false;
/** ... and has a field that only 2.0 has: the first of them, 0 if there is none. */
let foreign: usize = 0;

let at: usize = 0;
let end: usize = 0;
let sampleCount: u32 = 0;
/** A series whose samples did not fit into the last slice: its record, and the rest of its message. */
let openRecord: usize = 0;
let openAt: usize = 0;
let openEnd: usize = 0;

export let refusalCount: u32 = 0;
export let refusedSamples: u32 = 0;
export let exemplarCount: u32 = 0;
export let histogramCount: u32 = 0;
export let metadataCount: u32 = 0;

export function prepareBody(limit: usize, bits: u32): void {
  rawLimit = limit;
  shardBits = bits;
  raw = lay(limit + SLACK);
  gathered = lay(LABELS_BYTES + SLACK);
  refusals = lay(<usize>REFUSALS << 5);
  sentinel = lay(16 + SLACK);
}

export function rawStart(): usize {
  return raw;
}
export function refusalStart(): usize {
  return refusals;
}

/** Takes a new body: `length` bytes of snappy at `input`. */
export function openBody(input: usize, length: usize, version: u32): bool {
  forgive();
  dropSymbols();
  second = version == 2;
  indexed = false;
  native = false;
  foreign = 0;
  dropRuns();
  dropNotes(0);
  refusalCount = 0;
  refusedSamples = 0;
  exemplarCount = 0;
  histogramCount = 0;
  metadataCount = 0;
  openRecord = 0;
  previous = sentinel;
  at = raw;
  end = raw;
  if (!open(input, length, raw, rawLimit)) return false;
  end = raw + declared();
  // An empty body still has its trailing bytes checked.
  return inflate(raw);
}

/** Reads on until the slice is full or the body ends. */
export function readSlice(): i32 {
  startSlice();
  dropNotes(0);
  sampleCount = 0;
  refusalCount = 0;
  if (openRecord != 0) {
    const record = openRecord;
    openRecord = 0;
    if (!readSamples(record, openAt, openEnd, openAt, true)) return FAILED;
    if (openRecord != 0) return MORE;
  }
  if (second) return readSecond();
  let p = at;
  const stop = end;
  const pause = p + SLICE_BYTES;
  let ready = written;
  while (p < stop) {
    if (sampleCount == SLICE || p >= pause || refusalCount == REFUSALS) {
      at = p;
      return MORE;
    }
    if (ready < stop && ready - p < 16) {
      if (!inflate(p + AHEAD)) return FAILED;
      ready = written;
    }
    if (load<u8>(p) != 0x0a) {
      if (!readTag(p, stop)) return FAILED;
      const tag = <u32>varint();
      if (tag >> 3 == 1) {
        fail(WIRE_TYPE, p);
        return FAILED;
      }
      if (!skip(tag, after, stop)) return FAILED;
      if (tag == 0x1a) {
        if (noteCount == NOTES) {
          at = p;
          return MORE;
        }
        native = true;
        const next = after;
        const length = <usize>varint();
        if (next > ready) {
          if (!inflate(next + AHEAD)) return FAILED;
          ready = written;
        }
        metadataCount++;
        noteMetadata(0, next - length, length, hash(next - length, length));
        p = next;
      } else {
        if ((tag == 0x22 || tag == 0x2a) && foreign == 0) foreign = p;
        p = after;
      }
    } else {
      native = true;
      const message = p;
      const first = <usize>load<u8>(p, 1);
      const next = <usize>load<u8>(p, 2);
      let length = first;
      if (first < 128) p += 2;
      else if (next < 128) {
        length = (first & 127) | (next << 7);
        p += 3;
      } else {
        if (!readVarint(p + 1, stop)) return FAILED;
        if (varint() > <u64>(stop - p)) {
          fail(LENGTH, message + 1);
          return FAILED;
        }
        length = <usize>varint();
        p = after;
      }
      if (p > stop) {
        fail(VARINT, message + 1);
        return FAILED;
      }
      if (length > stop - p) {
        fail(LENGTH, message + 1);
        return FAILED;
      }
      const messageEnd = p + length;
      if (messageEnd > ready) {
        if (!inflate(messageEnd + AHEAD)) return FAILED;
        ready = written;
      }
      if (!readSeries(p, messageEnd)) return FAILED;
      p = messageEnd;
      if (openRecord != 0) {
        at = p;
        return MORE;
      }
    }
    while (ready < p) {
      if (!inflate(p + AHEAD)) return FAILED;
      ready = written;
    }
  }
  at = p;
  // Labels may end the body, but compressed bytes past its declared end may not.
  if (!inflate(stop)) return FAILED;
  if (foreign != 0 && !native) {
    fail(FOREIGN, foreign);
    return FAILED;
  }
  return DONE;
}

/** `readSlice` of a 2.0 message. Its symbols are indexed in slices too; the whole is decompressed by then. */
function readSecond(): i32 {
  const stop = end;
  if (!indexed) {
    if (!indexSymbols()) return FAILED;
    if (!indexed) return MORE;
    at = raw;
  }
  let p = at;
  const pause = p + SLICE_BYTES;
  while (p < stop) {
    if (sampleCount == SLICE || p >= pause || refusalCount == REFUSALS || openRecord != 0) {
      at = p;
      return MORE;
    }
    if (!readTag(p, stop)) return FAILED;
    const tag = <u32>varint();
    if (tag == 0x2a) {
      if (!readLength(after, stop)) return FAILED;
      const from = after;
      p = from + <usize>varint();
      if (!readSecondSeries(from, p)) return FAILED;
    } else {
      if (!skip(tag, after, stop)) return FAILED;
      p = after;
    }
  }
  at = p;
  return openRecord == 0 ? DONE : MORE;
}

/** Indexes the symbols of the next SLICE_BYTES; `indexed` when that was the rest. */
function indexSymbols(): bool {
  let p = at;
  const stop = end;
  const pause = p + SLICE_BYTES;
  while (p < stop) {
    if (p >= pause) {
      at = p;
      return true;
    }
    if (written < stop && (written < p || written - p < 16) && !inflate(p + AHEAD)) return false;
    const field = p;
    if (!readTag(p, stop)) return false;
    const tag = <u32>varint();
    const number = tag >> 3;
    if (number <= 3) return fail(RESERVED, field);
    if (number <= 5 && (tag & 7) != 2) return fail(WIRE_TYPE, field);
    p = after;
    if (!skip(tag, p, stop)) return false;
    const next = after;
    if (number == 4 && !addSymbol(next - <usize>varint(), <usize>varint())) return false;
    p = next;
  }
  // The rest is decompressed at the latest here: series are read only then.
  if (!inflate(stop)) return false;
  indexed = true;
  return true;
}

/** One TimeSeries message of 2.0 in [p, e). */
function readSecondSeries(p: usize, e: usize): bool {
  if (!spell(p, e)) return false;
  if (!spelledContent) return true;
  if (spelledTooLong) {
    refuse(LABELS_LONG, 0, <u32>(e - p));
    return countRefused(p, e);
  }
  const labels = spelledStart();
  const guess = follower(previous);
  let record = guess;
  if (guess == 0 || recordLength(guess) != spelledBytes || !same(guess, labels, spelledBytes)) {
    record = lookUp(labels, spelledBytes);
    if (record == 0) return failure == 0 && countRefused(p, e);
    setFollower(previous, record);
  }
  previous = record;
  return readSamples(record, p, e, p, true);
}

/** One TimeSeries message in [p, e). */
function readSeries(p: usize, e: usize): bool {
  const guess = follower(previous);
  if (guess != 0) {
    const length = recordLength(guess);
    if (length < e - p && load<u8>(p + length) == 0x12 && same(guess, p, length)) {
      previous = guess;
      return readSamples(guess, p + length, e, p, false);
    }
  }
  let q = p;
  while (q < e && load<u8>(q) == 0x0a) {
    if (!readLength(q + 1, e)) return false;
    q = after + <usize>varint();
  }
  if (q == e) return true; // no samples: nothing to know it for
  const record = lookUp(p, q - p);
  if (record == 0) {
    if (failure != 0) return false;
    // What is in front may break a rule, be it that there is nothing, which the whole does not.
    if (labelsAhead(q, e)) return again(sampleCount, noteCount, histogramCount, p, e);
    return failure == 0 && countRefused(p, e);
  }
  setFollower(previous, record);
  previous = record;
  return readSamples(record, q, e, p, false);
}

/** The record of a series by its raw labels, made if need be. 0: refused (`rule`), malformed or no memory (`failure`). */
function lookUp(labels: usize, length: usize): usize {
  const h = hash(labels, length);
  const record = find(h, labels, length);
  if (record != 0) return record;
  const identity = identify(labels, length);
  if (identity == 0) return 0;
  hash128(identityStart(), <u32>identity);
  const shard = shardBits == 0 ? 0 : <u32>(hashLow() >> <u64>(64 - shardBits));
  const made = insert(h, labels, length, shard);
  if (made == 0) fail(TABLE_FULL, labels);
  return made;
}

/**
 * The samples in [p, e), rest of the message that starts at `start`. `settled`: label fields among
 * them were taken into account.
 */
function readSamples(record: usize, p: usize, e: usize, start: usize, settled: bool): bool {
  const first = sampleCount;
  const firstNote = noteCount;
  const firstHistogram = histogramCount;
  let n = first;
  let limit = SLICE;
  while (p < e) {
    if (n == limit) {
      if (!settled && labelsAhead(p, e)) return failure == 0 && again(first, firstNote, firstHistogram, start, e);
      if (failure != 0) return false;
      openRecord = record;
      openAt = p;
      openEnd = e;
      break;
    }
    const slot = <usize>n << 3;
    // What every sender writes from 2004 to 2109: tag and length, value, six bytes of timestamp.
    const head = load<u32>(p);
    if ((head & 0xffffff) == 0x091012 && p + 18 <= e && load<u8>(p, 11) == 0x10) {
      const t = load<u64>(p, 12);
      if ((t & 0x808080808080) == 0x008080808080) {
        store<u64>(values + slot, load<u64>(p, 3));
        store<u64>(timestamps + slot, sixBytes(t));
        n++;
        p += 18;
        continue;
      }
    }
    // The value 0 is left out by encoders that leave out defaults.
    if ((head & 0xffffff) == 0x100712 && p + 9 <= e) {
      const t = load<u64>(p, 3);
      if ((t & 0x808080808080) == 0x008080808080) {
        store<u64>(values + slot, 0);
        store<u64>(timestamps + slot, sixBytes(t));
        n++;
        p += 9;
        continue;
      }
    }
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    const field = tag >> 3;
    if (field >= 1 && field <= 4) {
      if ((tag & 7) != 2) {
        if (!second || tag != 0x08) return fail(WIRE_TYPE, p);
        if (!skip(tag, after, e)) return false;
        p = after;
        continue;
      }
      if (!readLength(after, e)) return false;
      const isExemplar = field >= 3 && (field == 3) != second;
      if (isExemplar && noteCount == NOTES) {
        // The slice ends here.
        limit = n;
        continue;
      }
      const from = after;
      p = from + <usize>varint();
      if (field == 2) {
        if (!readSample(from, p, slot)) return false;
        n++;
      } else if (field == 1) {
        if (!settled) return again(first, firstNote, firstHistogram, start, e);
      } else if (isExemplar) {
        exemplarCount++;
        noteExemplar(record, from, p - from);
      } else histogramCount++;
    } else if (second && tag == 0x2a) {
      if (noteCount == NOTES) {
        limit = n;
        continue;
      }
      if (!readLength(after, e)) return false;
      const from = after;
      p = from + <usize>varint();
      if (!lookAt(record)) continue;
      const said = metadataHash(from, p);
      if (failure != 0) return false;
      if (said == 0) continue;
      metadataCount++;
      noteMetadata(record, from, p - from, said);
    } else {
      if (!skip(tag, after, e)) return false;
      p = after;
    }
  }
  sampleCount = n;
  if (n > first) addRun(shardOf(record), reference(record), first, n - first);
  return true;
}

@inline function sixBytes(t: u64): u64 {
  return (
    (t & 127) |
    ((t >> 1) & (127 << 7)) |
    ((t >> 2) & (127 << 14)) |
    ((t >> 3) & (127 << 21)) |
    ((t >> 4) & (<u64>127 << 28)) |
    ((t >> 5) & (<u64>127 << 35))
  );
}

/** One Sample message, whatever its fields' order; a field given twice counts as given last. */
function readSample(p: usize, e: usize, slot: usize): bool {
  let value: u64 = 0;
  let timestamp: u64 = 0;
  while (p < e) {
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    if (tag == 0x09) {
      if (e - after < 8) return fail(LENGTH, after);
      value = load<u64>(after);
      p = after + 8;
    } else if (tag == 0x10) {
      if (!readVarint(after, e)) return false;
      timestamp = varint();
      p = after;
    } else {
      if (tag >> 3 <= 2) return fail(WIRE_TYPE, p);
      if (!skip(tag, after, e)) return false;
      p = after;
    }
  }
  store<u64>(values + slot, value);
  store<u64>(timestamps + slot, timestamp);
  return true;
}

/** True when a label field is in [p, e), the rest of a series' message. */
function labelsAhead(p: usize, e: usize): bool {
  while (p < e) {
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    if (tag >> 3 == 1) return true;
    if (!skip(tag, after, e)) return false;
    p = after;
  }
  return false;
}

/** Reads a series again, from `start`, whose labels are not all in front: forgets what it gave, gathers its labels. */
function again(first: u32, firstNote: u32, firstHistogram: u32, start: usize, e: usize): bool {
  sampleCount = first;
  exemplarCount -= noteCount - firstNote;
  dropNotes(firstNote);
  histogramCount = firstHistogram;
  let length: usize = 0;
  let tooLong = false;
  for (let p = start; p < e; ) {
    const field = p;
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    if (!skip(tag, after, e)) return false;
    p = after;
    if (tag != 0x0a) continue;
    if (length + (p - field) > LABELS_BYTES) tooLong = true;
    else {
      memory.copy(gathered + length, field, p - field);
      length += p - field;
    }
  }
  let record: usize = 0;
  if (tooLong) refuse(LABELS_LONG, 0, <u32>(e - start));
  else record = lookUp(gathered, length);
  if (record != 0) {
    previous = record;
    return readSamples(record, start, e, start, true);
  }
  if (failure != 0) return false;
  return countRefused(start, e);
}

/** Notes that the series in [start, e) broke `rule`, and counts its samples. */
function countRefused(start: usize, e: usize): bool {
  const entry = refusals + (<usize>refusalCount << 5);
  refusalCount++;
  store<u32>(entry, rule);
  store<u32>(entry, <u32>start, 4);
  store<u32>(entry, <u32>(e - start), 8);
  store<u32>(entry, culprit, 12);
  store<u32>(entry, measure, 16);
  let samples: u32 = 0;
  for (let p = start; p < e; ) {
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    if (tag >> 3 <= 4 && (tag & 7) != 2 && !(second && tag == 0x08)) return fail(WIRE_TYPE, p);
    if (!skip(tag, after, e)) return false;
    if (tag == 0x12) samples++;
    else if (tag == (second ? 0x22 : 0x1a)) exemplarCount++;
    else if (tag == (second ? 0x1a : 0x22)) histogramCount++;
    p = after;
  }
  store<u32>(entry, samples, 20);
  refusedSamples += samples;
  return true;
}
