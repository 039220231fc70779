import { expect, it } from 'vitest';
import { Tail } from '../../node/shard/tail.ts';

const bytes = (from: number, count: number) => Buffer.from(Array.from({ length: count }, (_, i) => (from + i) % 256));

it('gives what was put, in any cut, and nothing that it does not have all of', () => {
  const tail = new Tail();
  tail.put(1, 1_000, bytes(1_000, 10));
  tail.put(1, 1_010, bytes(1_010, 300));
  tail.put(2, 0, bytes(7, 50));
  for (const [offset, length] of [
    [1_000, 310],
    [1_005, 5],
    [1_005, 20],
    [1_309, 1],
    [1_010, 300],
  ] as const) {
    expect(tail.read(1, offset, length)).toEqual(bytes(offset, length));
  }
  expect(tail.read(2, 10, 40)).toEqual(bytes(17, 40));
  for (const [segment, offset, length] of [
    [1, 999, 5],
    [1, 1_300, 11],
    [1, 1_310, 1],
    [2, 10, 41],
    [3, 0, 1],
    [2, 50, 1],
  ] as const) {
    expect(tail.read(segment, offset, length)).toBeUndefined();
  }
});

it('keeps the latest, within its bound', () => {
  const tail = new Tail();
  for (let i = 0; i < 100; i++) tail.put(1, i * 10_000, bytes(i, 10_000));
  expect(tail.read(1, 0, 10)).toBeUndefined();
  expect(tail.read(1, 80 * 10_000, 200_000)?.length).toBe(200_000);
  expect(tail.read(1, 73 * 10_000, 10)).toBeUndefined();
  tail.clear();
  expect(tail.read(1, 99 * 10_000, 10)).toBeUndefined();
});
