/** Protobuf's wire format, read field by field, for the few messages that are not read in a kernel. */
import { SilverbackError } from '../errors.ts';

export interface Field {
  readonly tag: number;
  /** Of a field with a length; else empty. */
  readonly bytes: Uint8Array;
  /** Of a varint (as a signed 64-bit number, rounded past 2^53), a double or a float; else 0. */
  readonly number: number;
}

const NO_BYTES = new Uint8Array(0);

/** As `fields`, of a message from outside. Throws INVALID_ARGUMENT where it is malformed. */
export function checkedFields(message: Uint8Array): Generator<Field> {
  return fields(message, (at) => {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `a message of ${message.length} bytes is malformed at its byte ${at}`,
    );
  });
}

/** The fields of a message that is known to be well formed. What is cut off is told to `broken` and left out. */
export function* fields(message: Uint8Array, broken: (at: number) => void = () => undefined): Generator<Field> {
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  let at = 0;
  const varint = (): number => {
    const start = at;
    let value = 0;
    for (let scale = 1; at < message.length; scale *= 128) {
      const byte = message[at++] as number;
      value += (byte & 127) * scale;
      if (byte >= 128) continue;
      if (at - start > 10) broken(start);
      return at - start === 10 ? signed(message.subarray(start, at)) : value;
    }
    broken(start);
    return value;
  };
  while (at < message.length) {
    const tag = varint();
    const type = tag % 8;
    // Groups (3, 4) were never part of these messages, 6 and 7 of none.
    if (tag < 8 || tag > 0xffff_ffff || type === 3 || type === 4 || type > 5) broken(at);
    if (type === 2) {
      const length = varint();
      if (at + length > message.length) broken(at);
      yield { tag, bytes: message.subarray(at, at + length), number: 0 };
      at += length;
      continue;
    }
    const size = type === 1 ? 8 : type === 5 ? 4 : 0;
    if (at + size > message.length) {
      broken(at);
      return;
    }
    const value = type === 1 ? view.getFloat64(at, true) : type === 5 ? view.getFloat32(at, true) : varint();
    at += size;
    yield { tag, bytes: NO_BYTES, number: value };
  }
}

/** A varint of ten bytes is a negative number: near 2^64 a double would not tell them apart. */
function signed(bytes: Uint8Array): number {
  let bits = 0n;
  for (const byte of bytes.toReversed()) bits = (bits << 7n) | BigInt(byte & 127);
  return Number(BigInt.asIntN(64, bits));
}

/** The numbers of field 1, packed or not: the labels of a series or an exemplar in remote write 2.0. */
export function labelReferences(message: Uint8Array): number[] {
  const references: number[] = [];
  for (const { tag, bytes, number } of fields(message)) {
    if (tag === 0x08) references.push(number);
    if (tag !== 0x0a) continue;
    for (let at = 0, value = 0, scale = 1; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte >= 128) continue;
      references.push(value);
      value = 0;
      scale = 1;
    }
  }
  return references;
}
