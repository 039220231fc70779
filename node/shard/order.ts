/**
 * The order of series in a block: by identity bytes. Nearly always another block of the shard has most of them in order
 * already, so only newcomers are sorted, and everything goes in slices.
 */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import type { IdSet } from './postings.ts';
import type { Slicer } from './slicer.ts';

/** Sorted in one go, by comparison: some 0.1 ms. */
const RUN = 128;

/** `wanted` in order of identity bytes. `known`: living series already in that order, wanted or not. */
export async function orderByIdentity(
  kernel: ShardKernel,
  wanted: IdSet,
  known: Uint32Array,
  slicer: Slicer,
): Promise<Uint32Array> {
  const rest = new Set<number>();
  for (const id of wanted.toArray()) {
    rest.add(id);
    if (slicer.due()) await slicer.pause();
  }
  const total = rest.size;
  const ordered: number[] = [];
  for (let i = 0; i < known.length; i++) {
    const id = known[i] as number;
    if (rest.delete(id)) ordered.push(id);
    if (slicer.due()) await slicer.pause();
  }
  if (ordered.length === total) return Uint32Array.from(ordered);
  const newcomers = await sortByIdentity(kernel, Uint32Array.from(rest), slicer);
  const merged = new Uint32Array(total);
  const names = new Names(kernel);
  let a = 0;
  let b = 0;
  while (a < ordered.length || b < newcomers.length) {
    const first = ordered[a];
    const second = newcomers[b];
    const takeFirst =
      second === undefined || (first !== undefined && Buffer.compare(names.of(first), names.of(second)) < 0);
    merged[a + b] = (takeFirst ? first : second) as number;
    if (takeFirst) a++;
    else b++;
    slicer.spend(8);
    if (slicer.due()) await slicer.pause();
  }
  return merged;
}

/** Bottom-up merge sort. */
async function sortByIdentity(kernel: ShardKernel, ids: Uint32Array, slicer: Slicer): Promise<Uint32Array> {
  const identities: Uint8Array[] = new Array<Uint8Array>(ids.length);
  // Sorted are places in `ids`, so that identities are found without a map.
  let from = new Uint32Array(ids.length);
  let to = new Uint32Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    identities[i] = kernel.identity(ids[i] as SeriesId).slice();
    from[i] = i;
    slicer.spend(8);
    if (slicer.due()) await slicer.pause();
  }
  const compare = (x: number, y: number) => Buffer.compare(identities[x] as Uint8Array, identities[y] as Uint8Array);
  for (let start = 0; start < ids.length; start += RUN) {
    from.subarray(start, start + RUN).sort(compare);
    slicer.spend(64);
    if (slicer.due()) await slicer.pause();
  }
  for (let width = RUN; width < ids.length; width *= 2) {
    for (let start = 0; start < ids.length; start += 2 * width) {
      const middle = Math.min(start + width, ids.length);
      const end = Math.min(start + 2 * width, ids.length);
      let a = start;
      let b = middle;
      for (let write = start; write < end; write++) {
        const x = from[a] as number;
        const y = from[b] as number;
        const takeFirst = b >= end || (a < middle && compare(x, y) <= 0);
        to[write] = takeFirst ? x : y;
        if (takeFirst) a++;
        else b++;
        slicer.spend(8);
        if (slicer.due()) await slicer.pause();
      }
    }
    [from, to] = [to, from];
  }
  return from.map((place) => ids[place] as number);
}

/** The last identities asked for, as copies: a merge asks for one side again and again. */
class Names {
  readonly #kernel: ShardKernel;
  readonly #recent = new Map<number, Uint8Array>();

  constructor(kernel: ShardKernel) {
    this.#kernel = kernel;
  }

  of(id: number): Uint8Array {
    let name = this.#recent.get(id);
    if (name === undefined) {
      if (this.#recent.size >= 4) this.#recent.clear();
      name = this.#kernel.identity(id as SeriesId).slice();
      this.#recent.set(id, name);
    }
    return name;
  }
}
