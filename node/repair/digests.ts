/** Digests of a node's windows, in the form in which they are compared; kept as long as the window's version is the same. */
import { fingerprint } from '../../core/fingerprint.ts';
import type { Shard } from '../shard/shard.ts';

export interface WindowDigest {
  /** Fingerprint of the sums, as 32 hexadecimal digits; empty when all are zero. */
  readonly digest: string;
  /** Of each of the 256 sums its low 4 bytes. */
  readonly buckets: Uint8Array;
}

const SUM_BYTES = 16;
const WORD_BYTES = 4;

export class Digests {
  readonly #shards = new WeakMap<Shard, Map<number, WindowDigest & { readonly version: string }>>();

  async of(shard: Shard, startMs: number): Promise<WindowDigest> {
    const version = versionOf(shard, startMs);
    let windows = this.#shards.get(shard);
    if (windows === undefined) {
      windows = new Map();
      this.#shards.set(shard, windows);
    }
    const known = windows.get(startMs);
    if (known !== undefined && known.version === version) return known;
    const made = condense(await shard.digest(startMs));
    // What came meanwhile may or may not be in it.
    if (version !== undefined && versionOf(shard, startMs) === version) windows.set(startMs, { ...made, version });
    else windows.delete(startMs);
    return made;
  }

  /** Forgets windows of the shard that start before. */
  forget(shard: Shard, beforeMs: number): void {
    const windows = this.#shards.get(shard);
    for (const startMs of windows?.keys() ?? []) if (startMs < beforeMs) windows?.delete(startMs);
  }
}

function versionOf(shard: Shard, startMs: number): string | undefined {
  return shard.windowVersions({ fromMs: startMs, toMs: startMs }).get(startMs);
}

function condense(sums: Uint8Array): WindowDigest {
  const buckets = new Uint8Array((sums.length / SUM_BYTES) * WORD_BYTES);
  for (let at = 0; at < sums.length; at += SUM_BYTES) {
    buckets.set(sums.subarray(at, at + WORD_BYTES), (at / SUM_BYTES) * WORD_BYTES);
  }
  if (sums.every((byte) => byte === 0)) return { digest: '', buckets };
  const { h1, h2 } = fingerprint(sums);
  return { digest: ((h1 << 64n) | h2).toString(16).padStart(32, '0'), buckets };
}
