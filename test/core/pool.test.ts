import { expect, test } from 'vitest';
import { Pool } from '../../core/pool.ts';

const pool = () => new Pool({ what: 'requests', maxBytes: 1_200, maxCount: 100, retryAfterMs: 200 });

/** Enters requests of 10 bytes until there is no room. */
function fill(one: Pool, holder: string): number {
  const share = one.open(holder);
  for (let count = 0; ; count++) {
    try {
      one.enter(share, 10);
    } catch (error) {
      expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retryAfterMs: 200 });
      return count;
    }
  }
}

test('one alone gets about half, and whoever comes later finds room', () => {
  const one = pool();
  const counts = ['a', 'b', 'c'].map((holder) => fill(one, holder));
  // Of 100 that may be under way.
  expect(counts[0]).toBeGreaterThanOrEqual(49);
  expect(counts[0]).toBeLessThanOrEqual(51);
  for (const [i, count] of counts.entries())
    if (i > 0) expect(count).toBeGreaterThanOrEqual((counts[i - 1] as number) / 2 - 1);
});

test('bytes are bound as counts are; the words name the holder, the numbers and the rule', () => {
  const one = pool();
  const flooder = one.open('flooder at host');
  one.enter(flooder, 500);
  expect(() => one.enter(flooder, 400)).toThrow(
    '1 requests of 500 bytes are under way, 1 of 500 bytes are of flooder at host: of 100 and 1200 bytes nobody may have more than is left to others, 400 more have to wait',
  );
  const other = one.open('other');
  one.enter(other, 700);
  expect(() => one.enter(one.open('third'), 1)).toThrow('at most 100 and 1200 bytes may be, 1 more have to wait');
  one.leave(flooder, 500);
  one.leave(other, 700);
  expect([one.bytes, one.count]).toEqual([0, 0]);
});

test('what is larger than everything passes alone, and what grows gives back what it had', () => {
  const one = pool();
  const share = one.open('a');
  one.enter(share, 5_000);
  expect(() => one.enter(one.open('b'), 1)).toThrow();
  one.leave(share, 5_000);
  one.enter(share, 100);
  one.enter(share, 100);
  one.resize(share, 100, 300);
  expect(() => one.resize(share, 300, 2_000)).toThrow('2000 more have to wait');
  expect([one.bytes, one.count, share.bytes]).toEqual([400, 2, 400]);
});

test('those of one name have one share, which goes with the last of them', () => {
  const one = pool();
  const share = one.open('a');
  expect(one.open('a')).toBe(share);
  one.close(share);
  expect(one.open('a')).toBe(share);
  one.close(share);
  one.close(share);
  expect(one.open('a')).not.toBe(share);
});
