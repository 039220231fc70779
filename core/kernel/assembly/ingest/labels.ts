/**
 * From the raw label fields of a remote-write series to its identity bytes (ARCHITECTURE.md, "Series
 * identity"), with every rule that a label set must keep. Runs once for a series, not for a sample.
 */
import { SLACK, WIRE_TYPE, fail, lay } from './state';
import { after, readLength, readTag, skip, varint } from './wire';

// The rule a label set breaks. The door (core/kernel/ingest.ts) has the words.
export const NO_LABELS: u32 = 1;
export const TOO_MANY: u32 = 2;
export const NAME_EMPTY: u32 = 3;
export const NAME_LONG: u32 = 4;
export const VALUE_LONG: u32 = 5;
export const NAME_UTF8: u32 = 6;
export const VALUE_UTF8: u32 = 7;
export const DUPLICATE: u32 = 8;
export const LABELS_LONG: u32 = 9;

/** The most bytes that the label fields of one series may take in the body. */
export const LABELS_BYTES: usize = 65536;

let maxLabels: u32 = 0;
let maxName: usize = 0;
let maxValue: usize = 0;
/** Entries of 16 bytes: name, name length, value, value length; addresses into the body. */
let index: usize = 0;
let identityAt: usize = 0;

/** The rule that the last `identify` found broken, 0 if none; what it broke, and by how much. */
export let rule: u32 = 0;
/** Ordinal of the label in the body, from 0; of no meaning with DUPLICATE. */
export let culprit: u32 = 0;
export let measure: u32 = 0;

export function prepareLabels(labels: u32, nameBytes: u32, valueBytes: u32): void {
  maxLabels = labels;
  maxName = nameBytes;
  maxValue = valueBytes;
  index = lay((<usize>labels + 1) << 4);
  identityAt = lay(LABELS_BYTES + 1024 + SLACK);
}

export function identityStart(): usize {
  return identityAt;
}

export function refuse(broken: u32, label: u32, amount: u32): usize {
  rule = broken;
  culprit = label;
  measure = amount;
  return 0;
}

/**
 * Writes the identity bytes of the label fields in [p, p + length) to `identityStart` and returns their
 * length. 0: either the fields are malformed (`failure` is set) or a rule is broken (`rule` is).
 */
export function identify(p: usize, length: usize): usize {
  rule = 0;
  if (length > LABELS_BYTES) return refuse(LABELS_LONG, 0, <u32>length);
  const end = p + length;
  let count: u32 = 0;
  let ordinal: u32 = 0;
  let sorted = true;
  while (p < end) {
    if (!readTag(p, end) || !readLength(after, end)) return 0;
    p = after;
    const fieldEnd = p + <usize>varint();
    let name: usize = 0;
    let nameLength: usize = 0;
    let value: usize = 0;
    let valueLength: usize = 0;
    while (p < fieldEnd) {
      if (!readTag(p, fieldEnd)) return 0;
      const tag = <u32>varint();
      const at = p;
      p = after;
      if (tag == 0x0a || tag == 0x12) {
        if (!readLength(p, fieldEnd)) return 0;
        p = after + <usize>varint();
        if (tag == 0x0a) {
          name = after;
          nameLength = <usize>varint();
        } else {
          value = after;
          valueLength = <usize>varint();
        }
      } else {
        if (tag >> 3 <= 2) {
          fail(WIRE_TYPE, at);
          return 0;
        }
        if (!skip(tag, p, fieldEnd)) return 0;
        p = after;
      }
    }
    if (rule == 0) {
      if (nameLength == 0) refuse(NAME_EMPTY, ordinal, 0);
      else if (nameLength > maxName) refuse(NAME_LONG, ordinal, <u32>nameLength);
      else if (valueLength > maxValue) refuse(VALUE_LONG, ordinal, <u32>valueLength);
      else if (!isUtf8(name, name + nameLength)) refuse(NAME_UTF8, ordinal, 0);
      else if (!isUtf8(value, value + valueLength)) refuse(VALUE_UTF8, ordinal, 0);
    }
    if (valueLength > 0) {
      if (count < maxLabels) {
        const entry = index + (<usize>count << 4);
        store<u32>(entry, <u32>name);
        store<u32>(entry, <u32>nameLength, 4);
        store<u32>(entry, <u32>value, 8);
        store<u32>(entry, <u32>valueLength, 12);
        if (count > 0 && compareNames(entry - 16, entry) >= 0) sorted = false;
      }
      count++;
    }
    ordinal++;
  }
  if (rule != 0) return 0;
  if (count == 0) return refuse(NO_LABELS, 0, 0);
  if (count > maxLabels) return refuse(TOO_MANY, 0, count);
  if (!sorted) {
    sort(count);
    for (let i: u32 = 1; i < count; i++) {
      const entry = index + (<usize>i << 4);
      if (compareNames(entry - 16, entry) == 0) return refuse(DUPLICATE, i, 0);
    }
  }
  let to = identityAt;
  for (let i: u32 = 0; i < count; i++) {
    const entry = index + (<usize>i << 4);
    to = put(to, load<u32>(entry), load<u32>(entry, 4));
    to = put(to, load<u32>(entry, 8), load<u32>(entry, 12));
  }
  return to - identityAt;
}

function put(to: usize, from: usize, length: usize): usize {
  let rest = length;
  while (rest >= 128) {
    store<u8>(to++, <u8>(rest | 128));
    rest >>= 7;
  }
  store<u8>(to++, <u8>rest);
  memory.copy(to, from, length);
  return to + length;
}

/** Insertion sort: senders send sorted or nearly sorted labels, and few of them. */
function sort(count: u32): void {
  for (let i: u32 = 1; i < count; i++) {
    let at = index + (<usize>i << 4);
    const moving = v128.load(at);
    // compareNames wants addresses, so the entry stays in place while its slot is looked for.
    let slot = at;
    while (slot > index && compareNames(slot - 16, at) > 0) slot -= 16;
    while (at > slot) {
      v128.store(at, v128.load(at - 16));
      at -= 16;
    }
    v128.store(slot, moving);
  }
}

function compareNames(a: usize, b: usize): i32 {
  const aLength = load<u32>(a, 4);
  const bLength = load<u32>(b, 4);
  const difference = memory.compare(load<u32>(a), load<u32>(b), min(aLength, bLength));
  if (difference != 0) return difference;
  return aLength < bLength ? -1 : aLength > bLength ? 1 : 0;
}

/** Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF. */
function isUtf8(p: usize, end: usize): bool {
  while (p < end) {
    if (end - p >= 8 && (load<u64>(p) & 0x8080808080808080) == 0) {
      p += 8;
      continue;
    }
    const lead = <u32>load<u8>(p++);
    if (lead < 0x80) continue;
    let more: usize;
    let low: u32 = 0x80;
    let high: u32 = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) more = 1;
    else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else return false;
    if (end - p < more) return false;
    const second = <u32>load<u8>(p++);
    if (second < low || second > high) return false;
    for (let i: usize = 1; i < more; i++) {
      if ((load<u8>(p++) & 0xc0) != 0x80) return false;
    }
  }
  return true;
}
