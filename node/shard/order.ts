/**
 * The order of series in a block: by identity bytes. Nearly always another block of the shard has most of them in order
 * already, so only newcomers are sorted, and everything goes in slices.
 */
import type { SeriesId, ShardKernel } from '../../core/kernel/shard.ts';
import { IdSet } from './postings.ts';
import type { Slicer } from './slicer.ts';

/** Sorted in one go, by comparison: some 0.1 ms. */
const RUN = 128;
/** Identities have at most 64 KiB each; 65,536 slabs hold more than a shard's table can. */
const SLAB_BYTES = 1024 * 1024;

/** `wanted` in order of identity bytes. `known`: living series already in that order, wanted or not. */
export async function orderByIdentity(
  kernel: ShardKernel,
  wanted: IdSet,
  known: Uint32Array,
  slicer: Slicer,
): Promise<Uint32Array> {
  const all = wanted.toArray();
  const total = all.length;
  const ordered = new Uint32Array(total);
  const placed = new IdSet(total === 0 ? 0 : (all[total - 1] as number));
  let count = 0;
  for (let i = 0; i < known.length; i++) {
    const id = known[i] as number;
    if (wanted.has(id)) {
      ordered[count++] = id;
      placed.add(id);
    }
    if (slicer.due()) await slicer.pause();
  }
  if (count === total) return ordered;
  const rest = new Uint32Array(total - count);
  let left = 0;
  for (let i = 0; i < total; i++) {
    const id = all[i] as number;
    if (!placed.has(id)) rest[left++] = id;
    if (slicer.due()) await slicer.pause();
  }
  const newcomers = await sortByIdentity(kernel, rest, slicer);
  const merged = new Uint32Array(total);
  const names = new Names(kernel);
  let a = 0;
  let b = 0;
  while (a + b < total) {
    const first = ordered[a] as number;
    const second = newcomers[b] as number;
    const takeFirst = b === newcomers.length || (a < count && Buffer.compare(names.of(first), names.of(second)) < 0);
    merged[a + b] = takeFirst ? first : second;
    if (takeFirst) a++;
    else b++;
    slicer.spend(8);
    if (slicer.due()) await slicer.pause();
  }
  return merged;
}

/** Bottom-up merge sort. */
async function sortByIdentity(kernel: ShardKernel, ids: Uint32Array, slicer: Slicer): Promise<Uint32Array> {
  const identities = new Identities(ids.length);
  // Sorted are places in `ids`, so that identities are found without a map.
  let from = new Uint32Array(ids.length);
  let to = new Uint32Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    identities.put(i, kernel.identity(ids[i] as SeriesId));
    from[i] = i;
    slicer.spend(8);
    if (slicer.due()) await slicer.pause();
  }
  const compare = (x: number, y: number) => identities.compare(x, y);
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
        const takeFirst = b >= end || (a < middle && identities.compare(x, y) <= 0);
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

/** Many byte strings without an object each: a million of those would cost the garbage collector more than the sort. */
class Identities {
  readonly #slabs: Buffer[] = [];
  readonly #slab: Uint16Array;
  readonly #start: Uint32Array;
  readonly #end: Uint32Array;
  #used = SLAB_BYTES;

  constructor(count: number) {
    this.#slab = new Uint16Array(count);
    this.#start = new Uint32Array(count);
    this.#end = new Uint32Array(count);
  }

  put(place: number, identity: Uint8Array): void {
    if (this.#used + identity.length > SLAB_BYTES) {
      this.#slabs.push(Buffer.allocUnsafeSlow(SLAB_BYTES));
      this.#used = 0;
    }
    const slab = this.#slabs.length - 1;
    this.#slabs[slab]?.set(identity, this.#used);
    this.#slab[place] = slab;
    this.#start[place] = this.#used;
    this.#used += identity.length;
    this.#end[place] = this.#used;
  }

  compare(x: number, y: number): number {
    const first = this.#slabs[this.#slab[x] as number] as Buffer;
    const second = this.#slabs[this.#slab[y] as number] as Buffer;
    return first.compare(second, this.#start[y], this.#end[y], this.#start[x], this.#end[x]);
  }
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
