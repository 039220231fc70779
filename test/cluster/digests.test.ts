import { expect, test } from 'vitest';
import { type CopyDigests, compareDigests } from '../../coordinator/cluster/digests.ts';

const HOUR = 3_600_000;
const NOW = 100 * HOUR;

function sums(...bytes: readonly number[]): Uint8Array {
  const all = new Uint8Array(256 * 16);
  for (const [bucket, byte] of bytes.entries()) all[bucket * 16] = byte;
  return all;
}

function copy(node: string, windows: Record<number, Uint8Array>): CopyDigests {
  const list = Object.entries(windows).map(([hour, of]) => ({ startMs: Number(hour) * HOUR, sums: of }));
  return { region: 'r', node, digests: { windows: list }, reason: '' };
}

test('equal windows, differing ones, and those that are being written', () => {
  const copies = [
    copy('a', { 90: sums(1, 2), 92: sums(1, 2), 94: sums(), 98: sums(1) }),
    copy('b', { 90: sums(1, 2), 92: sums(1, 3, 4), 98: sums(2) }),
    { region: 'r', node: 'c', digests: undefined, reason: 'no answer' },
  ];
  const report = compareDigests(3, copies, NOW);
  expect(report).toMatchObject({
    shard: 3,
    windows: 4,
    compared: 2,
    unasked: [{ region: 'r', node: 'c', reason: 'no answer' }],
    differing: [
      { start: (92 * HOUR) / 1_000, settled: true, buckets: 2 },
      { start: (98 * HOUR) / 1_000, settled: false, buckets: 1 },
    ],
  });
  const digests = report.differing[0]?.copies.map(({ digest }) => digest) as string[];
  expect(digests.every((digest) => /^[0-9a-f]{16}$/.test(digest))).toBe(true);
  expect(new Set(digests).size).toBe(2);
});

test('a copy that lacks a window differs, one that has an empty one does not', () => {
  const whole = copy('a', { 90: sums(1), 92: sums() });
  const report = compareDigests(0, [whole, copy('b', {})], NOW);
  expect(report.differing.map(({ start, copies }) => [start, copies.map(({ digest }) => digest !== '')])).toEqual([
    [(90 * HOUR) / 1_000, [true, false]],
  ]);
});

test('one copy differs from nothing', () => {
  expect(compareDigests(0, [copy('a', { 90: sums(1) })], NOW)).toMatchObject({ compared: 1, differing: [] });
  expect(compareDigests(0, [], NOW)).toMatchObject({ compared: 0, windows: 0, differing: [] });
});

test('one of three copies is enough to differ', () => {
  const same = { 90: sums(1, 2) };
  const report = compareDigests(0, [copy('a', same), copy('b', same), copy('c', { 90: sums(1, 3) })], NOW);
  expect(report.differing.map(({ buckets }) => buckets)).toEqual([1]);
  const [a, b, c] = report.differing[0]?.copies.map(({ digest }) => digest) ?? [];
  expect(a).toBe(b);
  expect(a).not.toBe(c);
});
