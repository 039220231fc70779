/** The judge of chaos runs: what it must notice, each planted into a history that is otherwise faultless; and what it must let pass. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Check, History, Ranges, type Span } from '../../chaos/history.ts';
import { type Answer, type Digests, Judge, type Stretch } from '../../chaos/judge.ts';

const ORIGIN_MS = 1_700_000_000_000;
const STEP_MS = 100;
const SHARD_OF = [0, 0, 1, 1];
const BOUND_MS = 2_000;
const LATE_MS = 60_000;
const TICK_COUNT = 100;
/** When tick 0 was acknowledged, tick 1 one step later, and so on. */
const FIRST_MS = ORIGIN_MS + 50;
const ENDED_MS = FIRST_MS + TICK_COUNT * STEP_MS;

const DIGESTS: Digests = new Map([
  ['shard 0, 1', 'aa'],
  ['shard 1, 1', 'bb'],
]);

/** A history in which every tick of every series was acknowledged on its own, by one region or the other. */
class Scene {
  readonly history = new History({ seed: 1, seriesCount: 4, originMs: ORIGIN_MS, stepMs: STEP_MS });
  readonly judge = new Judge({
    ...{ history: this.history, regions: ['east', 'west'], shardOf: SHARD_OF },
    ...{ boundMs: BOUND_MS, lateMs: LATE_MS },
  });

  constructor() {
    for (let tick = 0; tick < TICK_COUNT; tick++) {
      const span: Span = { fromSeries: 0, toSeries: 4, fromTick: tick, toTick: tick + 1 };
      this.history.send(span);
      this.judge.acknowledged(span, FIRST_MS + tick * STEP_MS);
    }
  }

  /** All that was acknowledged before `untilMs`, as a faultless region answers. */
  answer(region: string, askedMs: number, untilMs: number, change: Partial<Answer> = {}): Answer {
    const ticks = Math.max(0, Math.min(TICK_COUNT, Math.ceil((untilMs - FIRST_MS) / STEP_MS)));
    return {
      ...{ region, askedMs, wrong: [] },
      found: new Map(SHARD_OF.map((_, series) => [series, ranges([0, ticks])])),
      coverage: [0, 1].map((shard) => stretch(shard, 'complete')),
      ...change,
    };
  }

  heal(change: { readonly [region: string]: Partial<Answer> } = {}, digests: { [region: string]: Digests } = {}): this {
    for (const region of ['east', 'west']) {
      const answer = this.answer(region, ENDED_MS + 10_000, ENDED_MS, change[region]);
      this.judge.healed(answer, digests[region] ?? DIGESTS);
    }
    return this;
  }

  get rules(): string[] {
    return this.judge.conclude().map(({ rule, words }) => `${rule}: ${words}`);
  }
}

function ranges(...pairs: readonly (readonly [number, number])[]): Ranges {
  const made = new Ranges();
  for (const [from, to] of pairs) made.add(from, to);
  return made;
}

function stretch(shard: number, state: Stretch['state'], fromMs = 0, toMs = ORIGIN_MS * 2): Stretch {
  return { shard, state, fromMs, toMs, reason: state === 'complete' ? '' : 'why' };
}

describe('a faultless run passes', () => {
  test('with answers that are behind by less than the bound', () => {
    const scene = new Scene().heal();
    for (let atMs = ORIGIN_MS; atMs < ENDED_MS + 5_000; atMs += 300) {
      scene.judge.answered(scene.answer('east', atMs, atMs));
      scene.judge.answered(scene.answer('west', atMs, atMs - BOUND_MS));
    }
    expect(scene.judge.answerCount).toBe(scene.judge.completeCount);
    expect(scene.rules).toEqual([]);
  });

  test('with answers that lack what they do not call complete', () => {
    const scene = new Scene().heal();
    const empty = new Map<number, Ranges>();
    for (const state of ['missing', 'unconfirmed'] as const) {
      const coverage = [stretch(0, state), stretch(1, state)];
      scene.judge.answered(scene.answer('east', ENDED_MS + 9_000, 0, { coverage, found: empty }));
    }
    // Heard last of the other region when half was acknowledged: what came after then may lack where it was to be expected.
    const frontierMs = FIRST_MS + 50 * STEP_MS;
    const coverage = [0, 1].flatMap((shard) => [
      stretch(shard, 'complete', 0, frontierMs - LATE_MS - 1),
      stretch(shard, 'unconfirmed', frontierMs - LATE_MS),
    ]);
    scene.judge.answered(scene.answer('west', ENDED_MS + 9_000, frontierMs, { coverage }));
    expect(scene.judge.completeCount).toBe(0);
    expect(scene.rules).toEqual([]);
  });
});

describe('planted', () => {
  test('an acknowledged sample that one region lacks after healing', () => {
    const found = new Map(SHARD_OF.map((_, series) => [series, ranges([0, 41], [42, TICK_COUNT])]));
    const coverage = [stretch(0, 'missing'), stretch(1, 'unconfirmed')];
    const scene = new Scene().heal({ west: { found, coverage } });
    expect(scene.rules).toEqual([
      expect.stringMatching(/^lost: west lacks 4 samples of 4 series \(series 0 ticks 41\.\.41;/),
      'unhealed: west: shard 0 is missing: why; shard 1 is unconfirmed: why',
    ]);
  });

  test('a region that gave no answer after healing', () => {
    const scene = new Scene();
    scene.judge.healed(scene.answer('east', ENDED_MS + 10_000, ENDED_MS), DIGESTS);
    expect(scene.rules).toEqual(['lost: west gave no answer after healing']);
  });

  test('a sample that nobody wrote', () => {
    const scene = new Scene().heal();
    const check = new Check(scene.history);
    check.see(0, Float64Array.of(ORIGIN_MS, ORIGIN_MS + STEP_MS * TICK_COUNT), Float64Array.of(0, 1));
    scene.judge.answered(scene.answer('east', ORIGIN_MS, 0, { wrong: check.verdict().wrong }));
    expect(scene.rules).toEqual([expect.stringMatching(/^foreign: east, asked at \d+: series 0 at \d+ \(tick 100\)/)]);
  });

  test('a complete answer without a sample that was acknowledged before its frontier', () => {
    const scene = new Scene().heal();
    const askedMs = FIRST_MS + 60 * STEP_MS;
    scene.judge.answered(scene.answer('west', askedMs, askedMs - BOUND_MS - STEP_MS));
    const found =
      /^incomplete: west, asked at \d+, called .* of shard (\d) from \w+ complete without 2 samples of 2 series \(series \d ticks 39\.\.39/;
    expect(scene.rules).toEqual([expect.stringMatching(found), expect.stringMatching(found)]);
  });

  test('a complete stretch that lacks an old sample which was written late, but before the frontier', () => {
    const scene = new Scene();
    const late: Span = { fromSeries: 3, toSeries: 4, fromTick: -5_000, toTick: -4_999 };
    scene.history.send(late);
    scene.judge.acknowledged(late, ENDED_MS + 10);
    const coverage = (frontierMs: number) =>
      [0, 1].flatMap((shard) => [
        stretch(shard, 'complete', 0, frontierMs - LATE_MS - 1),
        stretch(shard, 'unconfirmed', frontierMs - LATE_MS),
      ]);
    const ask = (frontierMs: number) =>
      scene.judge.answered(scene.answer('east', ENDED_MS + 20_000, ENDED_MS, { coverage: coverage(frontierMs) }));
    const whole = new Map(SHARD_OF.map((_, series) => [series, ranges([0, TICK_COUNT])]));
    whole.get(3)?.add(-5_000, -4_999);
    ask(ENDED_MS + 5);
    ask(ENDED_MS + 15);
    scene.heal({ east: { found: whole }, west: { found: whole } });
    expect(scene.rules).toEqual([expect.stringMatching(/^incomplete: east, .* of shard 1 .*series 3 ticks -5000/)]);
  });

  test('a complete count of less than was acknowledged before its frontier, or of more than was ever sent', () => {
    const askedMs = FIRST_MS + 60 * STEP_MS;
    const count = (change: number) => {
      const scene = new Scene().heal();
      const counts = new Map(SHARD_OF.map((_, series) => [series, 30 + (series === 2 ? change : 0)]));
      scene.judge.counted({ region: 'west', askedMs, fromTick: 10, toTick: 40, counts });
      return scene.rules;
    };
    // Ticks up to 40 were acknowledged before the frontier.
    expect(count(0)).toEqual([]);
    expect(count(-1)).toEqual([
      expect.stringMatching(/^incomplete: west, asked at \d+, counted 29 .* series 2, .*: 30 were/),
    ]);
    expect(count(1)).toEqual([expect.stringMatching(/^foreign: west, .* counted 31 .* series 2, .*: only 30 were/)]);
  });

  test('digests that differ, and a window that one region lacks', () => {
    const other = new Map([...DIGESTS, ['shard 0, 1', 'ab']]);
    expect(new Scene().heal({}, { west: other }).rules).toEqual([
      'diverged: east and west differ in 1 windows: shard 0, 1',
    ]);
    const less = new Map([...DIGESTS].slice(0, 1));
    expect(new Scene().heal({}, { east: less }).rules).toEqual([
      'diverged: east and west differ in 1 windows: shard 1, 1',
    ]);
  });
});

test('what was judged is known to the next judgement, and not judged again', () => {
  const scene = new Scene().heal();
  scene.judge.answered(scene.answer('east', ENDED_MS + 9_000, 0));
  expect(scene.rules.filter((words) => words.startsWith('incomplete'))).toHaveLength(2);
  scene.heal();
  expect(scene.rules).toEqual([]);
  scene.judge.answered(scene.answer('west', ENDED_MS + 20_000, 0));
  scene.heal();
  expect(scene.rules.filter((words) => words.startsWith('incomplete'))).toHaveLength(2);
});

test('ranges without others are what a set says', () => {
  const pairs = fc.array(fc.tuple(fc.nat(40), fc.nat(9)), { maxLength: 12 });
  const build = (list: readonly (readonly [number, number])[]) => ranges(...list.map(([a, n]) => [a, a + n] as const));
  fc.assert(
    fc.property(pairs, pairs, fc.nat(50), fc.nat(50), (a, b, from, to) => {
      const [one, other] = [build(a), build(b)];
      const left = one.without(other, from, to);
      for (let i = 0; i < 60; i++) expect(left.has(i)).toBe(one.has(i) && !other.has(i) && i >= from && i < to);
    }),
  );
});
