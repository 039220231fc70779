/** Remote write messages for tests and benchmarks, written field by field so that odd ones can be made too. */

export type Pairs = readonly (readonly [name: string, value: string])[];

export class Writer {
  #bytes = new Uint8Array(1024);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#length + count, 2 * this.#bytes.length));
    larger.set(this.bytes);
    this.#bytes = larger;
  }

  varint(value: number | bigint): this {
    this.#room(10);
    if (typeof value === 'number' && value >= 0) {
      let rest = value;
      while (rest >= 128) {
        this.#bytes[this.#length++] = (rest % 128) | 128;
        rest = Math.floor(rest / 128);
      }
      this.#bytes[this.#length++] = rest;
      return this;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest >= 128n) {
      this.#bytes[this.#length++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.#bytes[this.#length++] = Number(rest);
    return this;
  }

  fixed64(bits: bigint): this {
    this.#room(8);
    new DataView(this.#bytes.buffer).setBigUint64(this.#length, bits, true);
    this.#length += 8;
    return this;
  }

  double(value: number): this {
    this.#room(8);
    new DataView(this.#bytes.buffer).setFloat64(this.#length, value, true);
    this.#length += 8;
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** A length-delimited field. */
  field(number: number, bytes: Uint8Array): this {
    return this.varint(number * 8 + 2)
      .varint(bytes.length)
      .raw(bytes);
  }
}

const utf8 = new TextEncoder();

export function label(name: string | Uint8Array, value: string | Uint8Array): Uint8Array {
  const bytes = (text: string | Uint8Array) => (typeof text === 'string' ? utf8.encode(text) : text);
  return new Writer().field(1, bytes(name)).field(2, bytes(value)).bytes;
}

export function labelFields(pairs: Pairs): Uint8Array {
  const out = new Writer();
  for (const [name, value] of pairs) out.field(1, label(name, value));
  return out.bytes;
}

/** As gogo-protobuf writes it: fields of value 0 are left out. A bigint is a value's bits: a number may lose those of a NaN. */
export function sample(timestampMs: number | bigint, value: number | bigint): Uint8Array {
  const out = new Writer();
  if (typeof value === 'bigint') out.varint(0x09).fixed64(value);
  else if (!Object.is(value, 0)) out.varint(0x09).double(value);
  if (timestampMs !== 0) out.varint(0x10).varint(timestampMs);
  return out.bytes;
}

export interface Series {
  readonly labels: Pairs;
  readonly samples: readonly (readonly [timestampMs: number, value: number | bigint])[];
}

export function timeSeries({ labels, samples }: Series): Uint8Array {
  const out = new Writer().raw(labelFields(labels));
  for (const [timestampMs, value] of samples) out.field(2, sample(timestampMs, value));
  return out.bytes;
}

export function writeRequest(series: readonly Series[]): Uint8Array {
  const out = new Writer();
  for (const one of series) out.field(1, timeSeries(one));
  return out.bytes;
}

export interface TestExemplar {
  readonly labels: Pairs;
  readonly timestampMs: number;
  readonly value: number;
}

export function exemplar({ labels, timestampMs, value }: TestExemplar): Uint8Array {
  return exemplarTail(new Writer().raw(labelFields(labels)), timestampMs, value).bytes;
}

/** What both versions have in common. */
export function exemplarTail(out: Writer, timestampMs: number, value: number): Writer {
  if (!Object.is(value, 0)) out.varint(0x11).double(value);
  if (timestampMs !== 0) out.varint(0x18).varint(timestampMs);
  return out;
}

export interface TestMetadata {
  readonly name: string;
  readonly type: number;
  readonly help: string;
  readonly unit: string;
}

/** MetricMetadata of 1.0. */
export function metricMetadata({ name, type, help, unit }: TestMetadata): Uint8Array {
  const out = new Writer();
  if (type !== 0) out.varint(0x08).varint(type);
  out.field(2, utf8.encode(name));
  if (help !== '') out.field(4, utf8.encode(help));
  if (unit !== '') out.field(5, utf8.encode(unit));
  return out.bytes;
}
