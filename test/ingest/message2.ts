/** Remote write 2.0 messages for tests. */
import {
  exemplarTail,
  type Pairs,
  type Series,
  sample,
  type TestExemplar,
  type TestMetadata,
  Writer,
} from './message.ts';

const utf8 = new TextEncoder();

/** The table of symbols of one message; the empty text is its first. */
export class Symbols {
  readonly #indexes = new Map<string, number>([['', 0]]);

  index(text: string): number {
    const known = this.#indexes.get(text);
    if (known !== undefined) return known;
    this.#indexes.set(text, this.#indexes.size);
    return this.#indexes.size - 1;
  }

  references(labels: Pairs): number[] {
    return labels.flatMap(([name, value]) => [this.index(name), this.index(value)]);
  }

  get fields(): Uint8Array {
    const out = new Writer();
    for (const text of this.#indexes.keys()) out.field(4, utf8.encode(text));
    return out.bytes;
  }
}

export function packed(numbers: readonly number[]): Uint8Array {
  const out = new Writer();
  for (const number of numbers) out.varint(number);
  return out.bytes;
}

export function secondSeries(symbols: Symbols, { labels, samples }: Series): Writer {
  const out = new Writer().field(1, packed(symbols.references(labels)));
  for (const [timestampMs, value] of samples) out.field(2, sample(timestampMs, value));
  return out;
}

export function secondRequest(series: readonly Series[]): Uint8Array {
  const symbols = new Symbols();
  const out = new Writer();
  for (const one of series) out.field(5, secondSeries(symbols, one).bytes);
  return new Writer().raw(symbols.fields).raw(out.bytes).bytes;
}

export function secondExemplar(symbols: Symbols, { labels, timestampMs, value }: TestExemplar): Uint8Array {
  return exemplarTail(new Writer().field(1, packed(symbols.references(labels))), timestampMs, value).bytes;
}

/** Metadata of 2.0: of the series that it is a field of. */
export function secondMetadata(symbols: Symbols, { type, help, unit }: Omit<TestMetadata, 'name'>): Uint8Array {
  const out = new Writer();
  if (type !== 0) out.varint(0x08).varint(type);
  if (help !== '') out.varint(0x18).varint(symbols.index(help));
  if (unit !== '') out.varint(0x20).varint(symbols.index(unit));
  return out.bytes;
}
