/**
 * The values of a label over the shards of a node, as they travel: pages, each a JSON array of texts, in order over all of
 * them. Kept as long as no shard's values change, which their arrays tell (`Shard.allValues`).
 */
import { sortUtf8 } from '../core/labels.ts';

/** A page is about this long. */
const PAGE_CHARS = 64 * 1024;
/** Of the pages that are kept. */
const MAX_BYTES = 4 * 1024 * 1024;

interface Kept {
  /** Of each shard. */
  readonly lists: readonly (readonly string[])[];
  readonly pages: readonly Uint8Array[];
  readonly byteCount: number;
}

export class ValuePages {
  /** By the label's name; the oldest first. */
  readonly #kept = new Map<string, Kept>();
  #byteCount = 0;

  /** The values of all `lists`, each of them in order. */
  of(name: string, lists: readonly (readonly string[])[]): readonly Uint8Array[] {
    const known = this.#kept.get(name);
    if (known !== undefined) {
      if (known.lists.length === lists.length && known.lists.every((list, i) => list === lists[i])) return known.pages;
      this.#drop(name, known);
    }
    const pages = valuePages(union(lists));
    const byteCount = pages.reduce((sum, page) => sum + page.length, 0);
    if (byteCount > MAX_BYTES) return pages;
    for (const [other, kept] of this.#kept) {
      if (this.#byteCount + byteCount <= MAX_BYTES) break;
      this.#drop(other, kept);
    }
    this.#kept.set(name, { lists, pages, byteCount });
    this.#byteCount += byteCount;
    return pages;
  }

  #drop(name: string, { byteCount }: Kept): void {
    this.#kept.delete(name);
    this.#byteCount -= byteCount;
  }
}

/** All texts of the lists, each once, in order. */
export function union(lists: readonly (readonly string[])[]): readonly string[] {
  const found = new Set<string>();
  for (const list of lists) for (const text of list) found.add(text);
  const first = lists[0] ?? [];
  return found.size === first.length ? first : sortUtf8([...found]);
}

/** Texts as pages; none of no text. */
export function valuePages(values: readonly string[]): Uint8Array[] {
  const pages: Uint8Array[] = [];
  for (let first = 0, chars = 0, i = 0; i < values.length; i++) {
    chars += (values[i] as string).length;
    if (chars < PAGE_CHARS && i + 1 < values.length) continue;
    pages.push(Buffer.from(JSON.stringify(values.slice(first, i + 1))));
    first = i + 1;
    chars = 0;
  }
  return pages;
}
