/** Groups that a shard remembers are those that the identities say, whoever bears a number by now. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeIdentity, formatLabels, makeLabels } from '../../core/labels.ts';
import { Aggregator } from '../../core/promql/groups.ts';
import { GroupCache } from '../../core/promql/known.ts';

const NO_CLAUSE = { names: ['a'], isWithout: false };

function aggregatorOf(grouping: readonly string[], without: boolean): Aggregator {
  return new Aggregator({
    operation: 'count',
    limit: 0,
    grouping,
    without,
    function: '',
    parameter: 0,
    rangeMs: 1_000,
    reference: { startMs: 0, stepMs: 1 },
    steps: 1,
    perStep: false,
  });
}

function counted({ groups }: Aggregator): string[] {
  return [...groups.values()].map(({ labels, partial }) => `${formatLabels(labels)} ${partial.columns[0]?.[0]}`).sort();
}

const labelSet = fc.record({
  __name__: fc.constantFrom('m', 'n'),
  a: fc.constantFrom('', 'x', 'y'),
  b: fc.constantFrom('', '1', '2', '3'),
  c: fc.constantFrom('ü', 'v'),
});

it('a remembered group is the one that the identity says, also after numbers went to other series', () => {
  const clause = fc.record({
    grouping: fc.constantFrom([], ['a'], ['b', 'a'], ['__name__'], ['none'], ['c', 'c']),
    without: fc.boolean(),
  });
  /** The series by their numbers, the clauses asked of them in turn, and whether some went before. */
  const round = fc.record({
    series: fc.array(labelSet, { maxLength: 20 }),
    clauses: fc.array(clause, { minLength: 1, maxLength: 8 }),
  });
  fc.assert(
    fc.property(fc.array(round, { minLength: 1, maxLength: 4 }), fc.nat(3_000), (rounds, firstId) => {
      const cache = new GroupCache();
      for (const [releaseCount, { series, clauses }] of rounds.entries()) {
        const identities = series.map((labels) => encodeIdentity(makeLabels(labels)));
        for (const { grouping, without } of clauses) {
          const plain = aggregatorOf(grouping, without);
          const known = aggregatorOf(grouping, without);
          known.within(cache.of(known.clause, releaseCount), (id) => identities[id - firstId] as Uint8Array);
          for (const [i, identity] of identities.entries()) {
            plain.add(identity, Float64Array.of(0), Float64Array.of(1), 1);
            expect(known.addKnown(firstId + i, Float64Array.of(0), Float64Array.of(1), 1)).toBe(true);
          }
          expect(counted(known)).toEqual(counted(plain));
        }
      }
    }),
    { numRuns: 300 },
  );
});

it('of many groups only so many are remembered, and the others found each time', () => {
  const cache = new GroupCache();
  const identityOf = (id: number) => encodeIdentity(makeLabels({ __name__: 'm', a: String(id) }));
  const known = cache.of(NO_CLAUSE, 0);
  let lookups = 0;
  const looking = (id: number) => {
    lookups++;
    return identityOf(id);
  };
  for (let turn = 0; turn < 2; turn++) {
    const aggregator = aggregatorOf(['a'], false);
    aggregator.within(cache.of(aggregator.clause, 0), looking);
    for (let id = 0; id < 5_000; id++) aggregator.addKnown(id, Float64Array.of(0), Float64Array.of(1), 1);
    expect(aggregator.groups.count).toBe(5_000);
    expect([...aggregator.groups.values()].every(({ partial }) => partial.columns[0]?.[0] === 1)).toBe(true);
  }
  expect(lookups).toBe(5_000 + 904);
  // Clauses that were not asked for of late are forgotten.
  expect(cache.of(NO_CLAUSE, 0)).toBe(known);
  for (const name of ['b', 'c', 'd', 'e']) cache.of({ names: [name], isWithout: false }, 0);
  expect(cache.of(NO_CLAUSE, 0)).not.toBe(known);
});
