import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Env } from '../../core/env/env.ts';
import { ShardKernel } from '../../core/kernel/shard.ts';
import { orderByIdentity } from '../../node/shard/order.ts';
import { IdSet } from '../../node/shard/postings.ts';
import { Slicer } from '../../node/shard/slicer.ts';

const still = { clock: { monotonicMs: () => 0 }, timers: { yield: () => Promise.resolve() } } as unknown as Env;

test('series come in order of their identity bytes, whatever is known of it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.uint8Array({ minLength: 1, maxLength: 6 }), { selector: String, maxLength: 700 }),
      fc.func(fc.boolean()),
      fc.func(fc.boolean()),
      async (identities, isWanted, isKnown) => {
        const kernel = ShardKernel.create({ maxSeriesCount: 1024, maxMemoryBytes: 1 << 22 });
        const series = identities.map((identity) => ({ identity, id: kernel.intern(identity).id }));
        series.sort((a, b) => Buffer.compare(a.identity, b.identity));
        const wanted = new IdSet();
        for (const { id } of series) if (isWanted(id)) wanted.add(id);
        const known = Uint32Array.from(series.filter(({ id }) => isKnown(-id)).map(({ id }) => id));
        const ordered = await orderByIdentity(kernel, wanted, known, new Slicer(still, [], 0));
        expect([...ordered]).toEqual(series.filter(({ id }) => wanted.has(id)).map(({ id }) => id));
      },
    ),
    { numRuns: 60 },
  );
});
