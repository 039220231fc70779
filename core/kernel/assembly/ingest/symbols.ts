/**
 * Remote write 2.0 spells every text once, in a table of symbols, and series name their labels by pairs of
 * indexes into it. The table lies as (address, length) pairs into the body; a series' labels are spelled out
 * as the label fields of 1.0, so that both protocols find the same record in the table of series.
 */
import { hash } from './table';
import { SLACK, SYMBOL, SYMBOLS_MANY, SYMBOLS_ODD, WIRE_TYPE, fail, lay } from './state';
import { after, readLength, readTag, readVarint, skip, varint } from './wire';
import { LABELS_BYTES } from './labels';

/** 8 bytes each; pages that no body needs are never touched. */
const MOST_SYMBOLS: u32 = 1 << 20;

/** `__name__` */
const METRIC_NAME: u64 = 0x5f5f656d616e5f5f;

let table: usize = 0;
let count: u32 = 0;
let spelled: usize = 0;

/** Bytes of the label fields that `spell` wrote to `spelledStart`. */
export let spelledBytes: usize = 0;
/** They are more than a series may have; what was written is no use. */
export let spelledTooLong: bool = false;
/** The series has a field that is not a label or metadata. */
export let spelledContent: bool = false;
/** Half of a pair: the name that waits for its value. */
let half: u32 = 0;
let hasHalf: bool = false;

export function prepareSymbols(): void {
  table = lay(<usize>MOST_SYMBOLS << 3);
  spelled = lay(LABELS_BYTES + SLACK);
}

export function dropSymbols(): void {
  count = 0;
}

export function spelledStart(): usize {
  return spelled;
}

export function symbolsStart(): usize {
  return table;
}
export function symbolsCount(): u32 {
  return count;
}

export function addSymbol(at: usize, length: usize): bool {
  if (count == MOST_SYMBOLS) return fail(SYMBOLS_MANY, at);
  const entry = table + (<usize>count << 3);
  store<u32>(entry, <u32>at);
  store<u32>(entry, <u32>length, 4);
  count++;
  return true;
}

/** Spells out the labels of the TimeSeries message in [p, e), wherever in it they are. */
export function spell(p: usize, e: usize): bool {
  spelledBytes = 0;
  spelledTooLong = false;
  spelledContent = false;
  hasHalf = false;
  const start = p;
  while (p < e) {
    if (!readTag(p, e)) return false;
    const tag = <u32>varint();
    if (tag == 0x0a) {
      if (!readLength(after, e)) return false;
      p = after;
      const stop = p + <usize>varint();
      while (p < stop) {
        if (!readVarint(p, stop)) return false;
        if (!refer(varint(), p)) return false;
        p = after;
      }
    } else if (tag == 0x08) {
      // Not packed: also legal.
      p = after;
      if (!readVarint(p, e)) return false;
      if (!refer(varint(), p)) return false;
      p = after;
    } else {
      const field = tag >> 3;
      if (field <= 5 && (tag & 7) != 2) return fail(WIRE_TYPE, p);
      if (field >= 2 && field <= 4) spelledContent = true;
      if (!skip(tag, after, e)) return false;
      p = after;
    }
  }
  return hasHalf ? fail(SYMBOLS_ODD, start) : true;
}

/**
 * A hash of all that the Metadata message in [p, e) says of the series that was spelled last, never 0. 0: it has no name to
 * keep it by, or the message is malformed (`failure`).
 *
 *     Metadata { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
 */
export function metadataHash(p: usize, e: usize): u64 {
  let type: u64 = 0;
  let help: u64 = 0;
  let unit: u64 = 0;
  while (p < e) {
    if (!readTag(p, e)) return 0;
    const tag = <u32>varint();
    if (tag == 0x08 || tag == 0x18 || tag == 0x20) {
      const field = p;
      if (!readVarint(after, e)) return 0;
      if (tag == 0x08) type = varint();
      else if (varint() >= <u64>count) {
        fail(SYMBOL, field);
        return 0;
      } else if (tag == 0x18) help = varint();
      else unit = varint();
      p = after;
    } else {
      const field = tag >> 3;
      if (field == 1 || field == 3 || field == 4) {
        fail(WIRE_TYPE, p);
        return 0;
      }
      if (!skip(tag, after, e)) return 0;
      p = after;
    }
  }
  const metric = metricHash();
  if (metric == 0) return 0;
  const said = metric ^ rotl(symbolHash(table + (<usize>help << 3)), 21) ^ rotl(symbolHash(table + (<usize>unit << 3)), 42) ^ type;
  return said == 0 ? 1 : said;
}

/** Of the value of the label `__name__` that was spelled, as a field. 0: there is none. */
function metricHash(): u64 {
  const end = spelled + spelledBytes;
  for (let p = spelled; p < end; ) {
    // The bytes are our own.
    readVarint(p + 1, end);
    const next = after + <usize>varint();
    if (load<u8>(after, 1) == 8 && load<u64>(after, 2) == METRIC_NAME) {
      return load<u8>(after, 11) == 0 ? 0 : hash(after + 10, next - after - 10);
    }
    p = next;
  }
  return 0;
}

/** Of no symbols at all, as if there were the empty one: senders must have it first. */
function symbolHash(entry: usize): u64 {
  return count == 0 ? 0 : hash(load<u32>(entry), load<u32>(entry, 4));
}

function refer(reference: u64, at: usize): bool {
  if (reference >= <u64>count) return fail(SYMBOL, at);
  if (!hasHalf) {
    half = <u32>reference;
    hasHalf = true;
    return true;
  }
  hasHalf = false;
  const name = table + (<usize>half << 3);
  const value = table + (<usize>(<u32>reference) << 3);
  const nameLength = load<u32>(name, 4);
  const valueLength = load<u32>(value, 4);
  // Two tags and two lengths, of at most five bytes each, and those of the field around them.
  const room = LABELS_BYTES - spelledBytes;
  if (spelledTooLong || <usize>nameLength > room || <usize>valueLength > room || <usize>nameLength + <usize>valueLength + 18 > room) {
    spelledTooLong = true;
    return true;
  }
  let to = spelled + spelledBytes;
  store<u8>(to++, 0x0a);
  to = putVarint(to, 2 + varintBytes(nameLength) + nameLength + varintBytes(valueLength) + valueLength);
  to = putText(to, 0x0a, load<u32>(name), nameLength);
  to = putText(to, 0x12, load<u32>(value), valueLength);
  spelledBytes = to - spelled;
  return true;
}

@inline function varintBytes(value: u32): u32 {
  return value < 128 ? 1 : value < 16384 ? 2 : 3; // at most LABELS_BYTES
}

@inline function putVarint(to: usize, value: u32): usize {
  while (value >= 128) {
    store<u8>(to++, <u8>(value | 128));
    value >>= 7;
  }
  store<u8>(to++, <u8>value);
  return to;
}

@inline function putText(to: usize, tag: u8, from: usize, length: u32): usize {
  store<u8>(to++, tag);
  to = putVarint(to, length);
  memory.copy(to, from, length);
  return to + length;
}
