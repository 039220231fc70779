import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Env } from '../../core/env/env.ts';
import { loadCheckpoint, type Page, writeCheckpoint } from '../../node/shard/checkpoint.ts';
import type { Incarnation, Position } from '../../node/shard/log.ts';
import { Seeded } from '../sim/random.ts';
import { Sim } from '../sim/sim.ts';

const DIRECTORY = '/data/4/checkpoint';

function at(sequence: number): Position {
  return { incarnation: 77 as Incarnation, sequence };
}

/** Pages that only the checkpoint at `sequence` has. */
function pagesOf(sequence: number): { kind: number; bytes: Uint8Array }[] {
  const random = new Seeded(sequence);
  return Array.from({ length: random.int(0, 12) }, (_, i) => {
    const length = random.chance(0.1) ? 20_000 : random.int(0, 500);
    return { kind: (i * 37) % 256, bytes: random.chance(0.5) ? random.bytes(length) : new Uint8Array(length).fill(i) };
  });
}

/** Short enough to be compared and printed. */
function brief(pages: readonly Page[]): string[] {
  return pages.map(({ kind, bytes }) => `${kind}: ${bytes.length} bytes, ${crc32(bytes)}`);
}

async function write(env: Env, sequence: number): Promise<number | undefined> {
  const writer = await writeCheckpoint(env, DIRECTORY, { shard: 4, position: at(sequence) });
  for (const { kind, bytes } of pagesOf(sequence)) await writer.page(kind, bytes);
  return (await writer.commit()).release;
}

async function load(env: Env): Promise<{ sequence: number | undefined; problems: number }> {
  const { checkpoint, problems } = await loadCheckpoint(env, DIRECTORY, { shard: 4 });
  if (checkpoint === undefined) return { sequence: undefined, problems: problems.length };
  const pages: Page[] = [];
  for await (const { kind, bytes } of checkpoint.pages()) pages.push({ kind, bytes: Uint8Array.from(bytes) });
  expect(brief(pages)).toEqual(brief(pagesOf(checkpoint.position.sequence)));
  expect(checkpoint.position.incarnation).toBe(77);
  return { sequence: checkpoint.position.sequence, problems: problems.length };
}

describe('checkpoint', () => {
  test('the newest one comes back; two are kept, and the log is released up to the older', async () => {
    const sim = new Sim(1);
    const env = sim.boot();
    expect(await sim.settle(load(env))).toEqual({ sequence: undefined, problems: 0 });
    expect(await sim.settle(write(env, 10))).toBeUndefined();
    expect(await sim.settle(write(env, 20))).toBe(10);
    expect(await sim.settle(write(env, 30))).toBe(20);
    expect(sim.disk.paths()).toHaveLength(2);
    expect(await sim.settle(load(sim.boot()))).toEqual({ sequence: 30, problems: 0 });
  });

  test('any flipped bit: the damaged one is quarantined and reported, the one before is used', async () => {
    const random = new Seeded(2);
    for (let seed = 0; seed < 200; seed++) {
      const sim = new Sim(seed);
      const env = sim.boot();
      await sim.settle(write(env, 10));
      await sim.settle(write(env, 20));
      const newest = sim.disk.paths().at(-1)!;
      sim.disk.flip(newest, random.int(0, sim.disk.bytes(newest).length), 1 << random.int(0, 8));
      expect(await sim.settle(load(sim.boot()))).toEqual({ sequence: 10, problems: 1 });
      expect(sim.disk.paths()).toContain(`${newest}.quarantine`);
      expect(await sim.settle(load(sim.boot()))).toEqual({ sequence: 10, problems: 0 });
    }
  });

  test('a crash at any point leaves the last committed one or the one being written, never less', async () => {
    for (let seed = 0; seed < 400; seed++) {
      const sim = new Sim(seed);
      let committed = 0;
      let next = 1;
      for (let round = 0; round < 4; round++) {
        const env = sim.boot();
        const { sequence } = await sim.settle(load(env));
        expect(sequence ?? 0, `seed ${seed}`).toBeGreaterThanOrEqual(committed);
        committed = sequence ?? 0;
        const work = (async () => {
          for (;;) {
            const release = await write(env, next);
            // Two kept: the log may go only up to one that is still there beside the newest.
            if (release !== undefined) expect(release).toBeLessThanOrEqual(committed);
            committed = next++;
          }
        })();
        work.catch(() => undefined);
        await sim.steps(sim.random.int(0, 60));
        next++;
        if (sim.random.chance(0.5)) sim.crash();
        else sim.kill();
      }
    }
  });

  test('a full disk: a clear error, the older one stays', async () => {
    const sim = new Sim(3);
    const env = sim.boot();
    await sim.settle(write(env, 10));
    sim.disk.capacityBytes = sim.disk.usedBytes() + 100;
    await expect(sim.settle(write(env, 11))).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
    sim.disk.capacityBytes = Number.POSITIVE_INFINITY;
    expect(await sim.settle(load(sim.boot()))).toEqual({ sequence: 10, problems: 0 });
  });

  test("another shard's checkpoint is refused", async () => {
    const sim = new Sim(4);
    await sim.settle(write(sim.boot(), 10));
    await expect(sim.settle(loadCheckpoint(sim.boot(), DIRECTORY, { shard: 5 }))).rejects.toThrow(/belongs to shard 4/);
  });

  test('the golden checkpoint decodes', async () => {
    const sim = new Sim(5);
    sim.disk.replace(
      `${DIRECTORY}/0000000000000001.ckpt`,
      readFileSync(new URL('../golden/checkpoint-1.bin', import.meta.url)),
    );
    expect(await sim.settle(load(sim.boot()))).toEqual({ sequence: 9, problems: 0 });
  });
});
