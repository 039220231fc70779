import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Env } from '../../core/env/env.ts';
import { compileMatcher, type Matcher, type MatchOp } from '../../core/matchers.ts';
import { IdSet, Postings } from '../../node/shard/postings.ts';
import { Slicer } from '../../node/shard/slicer.ts';

/** Time passes at every look, so that every slice ends and readers interleave with whatever else is queued. */
function hurried(): Slicer {
  let now = 0;
  const env = {
    clock: { nowMs: () => 0, monotonicMs: () => ++now },
    timers: { yield: () => Promise.resolve() },
  } as unknown as Env;
  return new Slicer(env);
}

const everything = async () => undefined;

/** What a listing finds, sorted. What is known is not found again. */
async function textsOf(list: (known: ReadonlySet<string>) => Promise<string[]>): Promise<string[]> {
  const sorted = (await list(new Set())).sort();
  expect(await list(new Set(sorted))).toEqual([]);
  expect((await list(new Set(sorted.slice(1)))).sort()).toEqual(sorted.slice(0, 1));
  return sorted;
}

type LabelSet = Record<string, string>;

const flat = (labels: LabelSet) => Object.entries(labels).flat();

function matches(labels: LabelSet, matchers: readonly Matcher[]): boolean {
  return matchers.every((matcher) => compileMatcher(matcher).test(labels[matcher.name] ?? ''));
}

const names = ['a', 'b', 'c'];
const values = ['x', 'y', 'z', 'xx'];
const labelSet: fc.Arbitrary<LabelSet> = fc.dictionary(fc.constantFrom(...names), fc.constantFrom(...values), {
  maxKeys: 3,
});
const matcher: fc.Arbitrary<Matcher> = fc.record({
  name: fc.constantFrom(...names, 'absent'),
  op: fc.constantFrom<MatchOp>('=', '!=', '=~', '!~'),
  value: fc.constantFrom('x', 'y', '', 'x|y', 'x.*', '.*', '.+', '(x|z)+', 'q'),
});

test('readers agree with trying every series, through reuse of ids and unfinished sweeps', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          labelSet,
          fc.record({
            remove: fc.array(fc.nat(40), { maxLength: 10 }),
            sweep: fc.constantFrom('no', 'begin', 'whole'),
          }),
        ),
        { maxLength: 60 },
      ),
      fc.array(matcher, { maxLength: 4 }),
      async (steps, matchers) => {
        const postings = new Postings();
        const live = new Map<number, LabelSet>();
        const free: number[] = [];
        let next = 0;
        let sweeping = Promise.resolve();
        for (const step of steps) {
          if (Array.isArray(step.remove)) {
            for (const id of step.remove) {
              if (!live.delete(id)) continue;
              postings.remove(id);
              free.push(id);
            }
            if (step.sweep === 'no') continue;
            await sweeping;
            sweeping = postings.sweep(hurried());
            if (step.sweep === 'whole') await sweeping;
          } else {
            const id = free.shift() ?? next++;
            live.set(id, step as LabelSet);
            postings.add(id, flat(step as LabelSet));
          }
          // What is kept of this must not outlive what comes next.
          await postings.allValues('a', hurried());
        }
        const expected = [...live].filter(([, labels]) => matches(labels, matchers)).map(([id]) => id);
        const found = await postings.resolve(matchers.map(compileMatcher), hurried());
        expect([...found]).toEqual(expected.sort((x, y) => x - y));
        expect(postings.seriesCount).toBe(live.size);

        const among = new IdSet();
        for (const id of expected) among.add(id);
        const some = expected.map((id) => live.get(id) as LabelSet);
        expect(await textsOf((found) => postings.names(async () => among, found, hurried()))).toEqual(
          [...new Set(some.flatMap(Object.keys))].sort(),
        );
        for (const name of names) {
          const held = [...live.values()].flatMap((labels) => labels[name] ?? []);
          expect(await textsOf((found) => postings.values(name, everything, found, hurried()))).toEqual(
            [...new Set(held)].sort(),
          );
          const all = await postings.allValues(name, hurried());
          if (all !== undefined) expect(all).toEqual([...new Set(held)].sort());
          const some2 = some.flatMap((labels) => labels[name] ?? []);
          expect(await textsOf((found) => postings.values(name, async () => among, found, hurried()))).toEqual(
            [...new Set(some2)].sort(),
          );
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('all values of a label are one array as long as they stay the same, and not known while the dead are in the lists', async () => {
  const postings = new Postings();
  const list = async (name: string) => postings.allValues(name, hurried());
  const hosts = Array.from({ length: 500 }, (_, i) => `h${i}`);
  for (const [id, host] of hosts.entries()) postings.add(id, ['host', host, 'job', 'x']);
  const first = await list('host');
  expect(first).toEqual(hosts.toSorted());
  postings.add(500, ['host', 'h7', 'job', 'y']);
  expect(await list('host')).toBe(first);
  expect(await list('job')).toEqual(['x', 'y']);
  postings.add(501, ['host', '\u{1F600}']);
  postings.add(502, ['host', '\uFFFD']);
  // By UTF-8 bytes: not as JavaScript sorts them.
  expect((await list('host'))?.slice(-2)).toEqual(['\uFFFD', '\u{1F600}']);
  postings.remove(501);
  expect(await list('host')).toBe(undefined);
  await postings.sweep(hurried());
  expect(await list('host')).toEqual([...hosts.toSorted(), '\uFFFD']);
  expect(await list('absent')).toEqual([]);
});

test('values that come while they are sorted are not lost for later', async () => {
  const postings = new Postings();
  for (let id = 0; id < 500; id++) postings.add(id, ['host', `h${id}`]);
  const listing = postings.allValues('host', hurried());
  postings.add(500, ['host', 'new']);
  await listing;
  expect(await postings.allValues('host', hurried())).toContain('new');
});

test('a sweep leaves nothing behind', async () => {
  const postings = new Postings();
  for (let id = 0; id < 5000; id++) postings.add(id, ['host', `h${id}`, 'job', 'x', 'zone', `z${id % 7}`]);
  for (let id = 0; id < 5000; id++) postings.remove(id);
  await postings.sweep(hurried());
  expect(postings.seriesCount).toBe(0);
  expect(await textsOf((found) => postings.names(everything, found, hurried()))).toEqual([]);
  expect(postings.byteCount).toBe(0);
});

test('a regular expression is tried once per value, not per series', async () => {
  const postings = new Postings();
  for (let id = 0; id < 1000; id++) postings.add(id, ['job', id % 2 === 0 ? 'api' : 'db']);
  let tries = 0;
  const compiled = {
    ...compileMatcher({ name: 'job', op: '=~', value: 'a.i' }),
    test: (value: string) => {
      tries++;
      return value === 'api';
    },
  };
  expect(await postings.resolve([compiled], hurried())).toHaveLength(500);
  expect(tries).toBe(2);
});

test('series added while a sweep is under way stay', async () => {
  const postings = new Postings();
  for (let id = 0; id < 1000; id++) postings.add(id, ['job', 'x', 'id', `${id}`]);
  for (let id = 0; id < 1000; id += 2) postings.remove(id);
  const sweeping = postings.sweep(hurried());
  postings.add(1000, ['job', 'x', 'id', '1000', 'new', 'n']);
  await sweeping;
  const found = await postings.resolve([compileMatcher({ name: 'job', op: '=', value: 'x' })], hurried());
  expect(found).toHaveLength(501);
  expect(found.at(-1)).toBe(1000);
  expect(await textsOf((found) => postings.values('new', everything, found, hurried()))).toEqual(['n']);
});
