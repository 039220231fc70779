/** A snappy compressor for tests and benchmarks: greedy, 64 KiB at a time, as every sender's is. */

export function compress(raw: Uint8Array): Uint8Array {
  const out = new Uint8Array(32 + raw.length + Math.ceil(raw.length / 6));
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  let to = 0;
  let rest = raw.length;
  while (rest >= 128) {
    out[to++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[to++] = rest;
  const table = new Int32Array(1 << 14);
  for (let start = 0; start < raw.length; start += 65_536) {
    const end = Math.min(start + 65_536, raw.length);
    table.fill(-1);
    let at = start;
    let literal = start;
    while (at + 4 < end) {
      const word = view.getUint32(at, true);
      const slot = Math.imul(word, 0x1e35a7bd) >>> 18;
      const candidate = table[slot] as number;
      table[slot] = at;
      if (candidate < 0 || view.getUint32(candidate, true) !== word) {
        at += 1 + ((at - literal) >> 5);
        continue;
      }
      to = putLiteral(raw, literal, at, out, to);
      let length = 4;
      while (at + length < end && raw[candidate + length] === raw[at + length]) length++;
      to = putCopy(at - candidate, length, out, to);
      at += length;
      literal = at;
    }
    to = putLiteral(raw, literal, end, out, to);
  }
  return out.slice(0, to);
}

function putLiteral(raw: Uint8Array, from: number, end: number, out: Uint8Array, to: number): number {
  if (from === end) return to;
  const length = end - from - 1;
  if (length < 60) out[to++] = length << 2;
  else if (length < 256) {
    out[to++] = 60 << 2;
    out[to++] = length;
  } else {
    out[to++] = 61 << 2;
    out[to++] = length & 255;
    out[to++] = length >> 8;
  }
  out.set(raw.subarray(from, end), to);
  return to + end - from;
}

function putCopy(offset: number, length: number, out: Uint8Array, to: number): number {
  while (length > 0) {
    const part = length > 64 ? (length < 68 ? 60 : 64) : length;
    if (part >= 4 && part <= 11 && offset < 2048) {
      out[to++] = ((offset >> 8) << 5) | ((part - 4) << 2) | 1;
      out[to++] = offset & 255;
    } else {
      out[to++] = ((part - 1) << 2) | 2;
      out[to++] = offset & 255;
      out[to++] = offset >> 8;
    }
    length -= part;
  }
  return to;
}
