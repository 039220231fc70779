/** What a copy believes of the others' frontiers, whatever wall clocks say. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Frontiers } from '../../node/replication/frontiers.ts';

const BOUND_MS = 3_000;
const WALL_MS = 1_700_000_000_000;
const RANGE = { fromMs: 0, toMs: 2 * WALL_MS };

let monotonicMs: number;
let wallMs: number;
let frontiers: Frontiers;

beforeEach(() => {
  monotonicMs = 100_000;
  wallMs = WALL_MS;
  frontiers = new Frontiers({ monotonicMs: () => monotonicMs, nowMs: () => wallMs }, BOUND_MS);
  frontiers.expect(0, ['east/n']);
});

/** From where on samples are unconfirmed, so long after a frontier whose time on the origin's wall clock was this. */
function unconfirmedFrom(frontierWallMs: number, afterMs: number): number | undefined {
  frontiers.take(0, 'east/n', monotonicMs, 0, frontierWallMs);
  monotonicMs += afterMs;
  wallMs += afterMs;
  return frontiers.unconfirmed(0, RANGE)[0]?.fromMs;
}

describe('what is unconfirmed', () => {
  it('is everything before it is known which other copies there are, and once that is forgotten', () => {
    const expected = [{ ...RANGE, state: 'unconfirmed', reason: 'which other copies there are is not known yet' }];
    expect(frontiers.unconfirmed(1, RANGE)).toEqual(expected);
    frontiers.expect(1, []);
    expect(frontiers.unconfirmed(1, RANGE)).toEqual([]);
    frontiers.forget(1);
    expect(frontiers.unconfirmed(1, RANGE)).toEqual(expected);
  });

  it('is everything before the first word', () => {
    expect(frontiers.unconfirmed(0, RANGE)).toMatchObject([{ ...RANGE, state: 'unconfirmed' }]);
  });

  it('is nothing within the bound', () => {
    expect(unconfirmedFrom(WALL_MS, BOUND_MS)).toBeUndefined();
  });

  it('begins a minute before the frontier', () => {
    expect(unconfirmedFrom(WALL_MS, 10_000)).toBe(WALL_MS - 60_000);
  });

  it('begins there with the wall clock of the origin ahead, too, and with that of this process', () => {
    expect(unconfirmedFrom(WALL_MS + 3_600_000, 10_000)).toBe(WALL_MS - 60_000);
    wallMs = WALL_MS + 3_600_000;
    expect(unconfirmedFrom(WALL_MS, 10_000)).toBe(WALL_MS - 60_000);
  });
});

describe('a first word', () => {
  it('is on its way for a moment after the copy is expected first, and no longer', () => {
    expect(frontiers.isListening(0)).toBe(true);
    monotonicMs += 20_000;
    expect(frontiers.isListening(0)).toBe(false);
    // A placement without anybody new.
    frontiers.expect(0, ['east/n']);
    expect(frontiers.isListening(0)).toBe(false);
    frontiers.expect(0, ['east/n', 'east/m']);
    expect(frontiers.isListening(0)).toBe(true);
    frontiers.take(0, 'east/n', monotonicMs, 0, WALL_MS);
    frontiers.take(0, 'east/m', monotonicMs, 0, WALL_MS);
    expect(frontiers.isListening(0)).toBe(false);
    frontiers.forget(0);
    expect(frontiers.isListening(0)).toBe(false);
  });

  it('is on its way, too, for a moment after the shard is opened, as is the placement', () => {
    expect(frontiers.isListening(7)).toBe(false);
    frontiers.begin(7);
    expect(frontiers.isListening(7)).toBe(true);
    frontiers.expect(7, []);
    expect(frontiers.isListening(7)).toBe(false);
    frontiers.forget(7);
    frontiers.begin(7);
    monotonicMs += 20_000;
    expect(frontiers.isListening(7)).toBe(false);
  });
});

describe('a copy that arrives', () => {
  const reasons = () => frontiers.unconfirmed(0, RANGE).map(({ reason }) => reason);

  it('is not waited for until it takes writes, whatever it said before', () => {
    frontiers.expect(0, [], ['east/n', 'east/new']);
    // East was waited for already, and goes on to be.
    expect(reasons()).toEqual(['the copy in east/n may have more: nothing was heard of it']);
    expect(frontiers.isCurrent(0, 'east/new')).toBe(false);
    frontiers.take(0, 'east/n', monotonicMs, 0, WALL_MS);
    frontiers.take(0, 'east/new', monotonicMs, 0, WALL_MS);
    expect(frontiers.isCurrent(0, 'east/new')).toBe(true);
    expect(reasons()).toEqual([]);

    frontiers.expect(0, ['east/new']);
    expect(reasons()).toEqual([]);
    monotonicMs += 10_000;
    wallMs += 10_000;
    expect(reasons()).toEqual(['the copy in east/new may have more: its last word is 10 s old']);
    expect(frontiers.isCurrent(0, 'east/new')).toBe(false);
  });

  it('is not current while records of it are lost', () => {
    frontiers.take(0, 'east/n', monotonicMs, 1, WALL_MS);
    expect(frontiers.isCurrent(0, 'east/n')).toBe(false);
  });
});
