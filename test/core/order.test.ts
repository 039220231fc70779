import fc from 'fast-check';
import { expect, it } from 'vitest';
import { sortSlices } from '../../core/order.ts';

it('sorting in slices is stable sorting, with turns for others', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 1_000, size: 'max' }),
      fc.integer({ min: 1, max: 9 }),
      async (keys, every) => {
        let asked = 0;
        let pauses = 0;
        const turns = { due: () => ++asked % every === 0, pause: async () => void pauses++ };
        const elements = keys.map((key, place) => ({ key, place }));
        const expected = [...elements].sort((a, b) => a.key - b.key);
        expect(await sortSlices(elements, (a, b) => a.key - b.key, turns)).toEqual(expected);
        expect(pauses).toBe(Math.floor(asked / every));
        if (keys.length > 128) expect(asked).toBeGreaterThanOrEqual(keys.length);
      },
    ),
  );
});
