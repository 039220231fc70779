/**
 * Which names something is counted most often under, in bounded memory ("Space-Saving", Metwally 2005): when a name comes for
 * which there is no place, it takes that of the least, with its count. So a count is too high by at most what the least has,
 * and a name that has more than 1/MOST_COUNT of everything is always there.
 */
const MOST_COUNT = 16;
const MAX_NAME_CHARS = 200;

export class Hitters {
  readonly #counts = new Map<string, number>();

  add(name: string, count = 1): void {
    const key = name.slice(0, MAX_NAME_CHARS);
    const known = this.#counts.get(key);
    if (known !== undefined || this.#counts.size < MOST_COUNT) {
      this.#counts.set(key, (known ?? 0) + count);
      return;
    }
    let least = '';
    let leastCount = Number.POSITIVE_INFINITY;
    for (const [other, otherCount] of this.#counts) {
      if (otherCount >= leastCount) continue;
      least = other;
      leastCount = otherCount;
    }
    this.#counts.delete(least);
    this.#counts.set(key, leastCount + count);
  }

  /** The most first. */
  list(): { readonly name: string; readonly count: number }[] {
    return Array.from(this.#counts, ([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
  }
}

const NAME = Buffer.from('__name__');

/** The metric's name in identity bytes that may be anything; empty where there is none. */
export function metricOf(identity: Uint8Array): string {
  const bytes = Buffer.from(identity.buffer, identity.byteOffset, identity.length);
  let at = 0;
  const text = (): Buffer => {
    let length = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++] as number;
      length += (byte & 127) * scale;
      if (byte < 128) break;
    }
    const from = at;
    at = Math.min(bytes.length, at + length);
    return bytes.subarray(from, at);
  };
  while (at < bytes.length) {
    const name = text();
    const value = text();
    if (name.equals(NAME)) return value.toString('utf8');
  }
  return '';
}
