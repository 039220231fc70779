import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeIdentity, type Labels, makeLabels } from '../../core/labels.ts';
import { Grouping } from '../../core/promql/grouping.ts';
import { keep, labelsKey, without } from '../../core/promql/labelset.ts';

const name = fc.constantFrom('__name__', 'a', 'b', 'ab', 'host', 'é', 'n'.repeat(200));
const value = fc.oneof(fc.constantFrom('', 'x', 'y', 'xy', 'Ü', 'v'.repeat(300)), fc.string({ maxLength: 3 }));
const labelSet = fc.dictionary(name, value, { maxKeys: 5 }).map((labels) => makeLabels(labels));

it('series are grouped by the labels that are kept, whatever their bytes', () => {
  fc.assert(
    fc.property(
      fc.array(labelSet, { maxLength: 30 }),
      fc.uniqueArray(name, { maxLength: 3 }),
      fc.boolean(),
      (all, names, isWithout) => {
        const grouping = new Grouping<string>(names, isWithout);
        const kept = (labels: Labels) => labelsKey(isWithout ? without(labels, names) : keep(labels, names));
        const opened: string[] = [];
        for (const labels of all) {
          const found = grouping.of(encodeIdentity(labels), (own) => {
            opened.push(labelsKey(own));
            return labelsKey(own);
          });
          expect(found).toBe(kept(labels));
        }
        expect(opened.sort()).toEqual([...new Set(all.map(kept))].sort());
      },
    ),
    { numRuns: 500 },
  );
});

it('groups whose bytes have the same hash are told apart', () => {
  const grouping = new Grouping<string>(['a'], false);
  // 31 * 'B' + 'a' is 31 * 'A' + (31 + 'a').
  const values = ['Ba', `A${String.fromCharCode(31 + 'a'.charCodeAt(0))}`];
  for (let round = 0; round < 2; round++) {
    for (const a of values) expect(grouping.of(encodeIdentity(makeLabels({ a })), ([, own]) => own as string)).toBe(a);
  }
});
