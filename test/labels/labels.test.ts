import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareLabels,
  compareUtf8,
  decodeIdentity,
  encodeIdentity,
  formatLabels,
  labelValue,
  makeLabels,
  NO_LABELS,
  sortUtf8,
} from '../../core/labels.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 });
const labelSet = fc.dictionary(text, fc.string({ unit: 'grapheme', maxLength: 12 }), { maxKeys: 8 });

describe('label sets', () => {
  it('are sorted by UTF-8 bytes, not by UTF-16 units, and have no empty values', () => {
    const labels = makeLabels({ '\u{10000}': 'last', '\uffee': 'before', b: '2', a: '1', gone: '' });
    expect(labels).toEqual(['a', '1', 'b', '2', '\uffee', 'before', '\u{10000}', 'last']);
  });

  it('and any texts, are sorted so, with the engine where it agrees', () => {
    const byBytes = (texts: readonly string[]) =>
      [...texts].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(sortUtf8(['\u{10000}', '\uffee', 'b', 'a', ''])).toEqual(['', 'a', 'b', '\uffee', '\u{10000}']);
    fc.assert(
      fc.property(fc.array(text), (texts) => {
        expect(sortUtf8([...texts])).toEqual(byBytes(texts));
      }),
    );
  });

  it('come from pairs as from records', () => {
    expect(
      makeLabels([
        ['b', '2'],
        ['a', '1'],
      ]),
    ).toEqual(makeLabels({ a: '1', b: '2' }));
    expect(makeLabels([])).toEqual(NO_LABELS);
  });

  it.each([
    ['an empty name', [['', 'x']], /value "x" has an empty name/],
    [
      'a name twice',
      [
        ['a', '1'],
        ['b', '2'],
        ['a', '3'],
      ],
      /label name "a" occurs twice/,
    ],
    ['half a character in a name', [['a\ud800', '1']], /label name .* lone surrogate/],
    ['half a character in a value', [['a', '\udc00x']], /value .* of label "a" has a lone surrogate/],
    ['a long name', [['é'.repeat(600), '1']], /has 1200 bytes, at most 1024/],
    ['a long value', [['a', 'x'.repeat(5000)]], /of label "a" has 5000 bytes, at most 4096/],
    ['many labels', Array.from({ length: 65 }, (_, i) => [`l${i}`, 'x']), /65 labels where at most 64/],
  ] as [string, [string, string][], RegExp][])('refuse %s', (_name, pairs, message) => {
    expect(() => makeLabels(pairs)).toThrow(message);
    expect(() => makeLabels(pairs)).toThrow(expect.objectContaining({ code: 'INVALID_LABELS' }));
  });

  it('give the value of a label, or the empty string', () => {
    const labels = makeLabels({ a: '1', b: '2' });
    expect([labelValue(labels, 'a'), labelValue(labels, 'b'), labelValue(labels, 'c')]).toEqual(['1', '2', '']);
  });

  it('print as Prometheus prints them', () => {
    expect(formatLabels(makeLabels({ __name__: 'up', job: 'a"b', instance: 'x' }))).toBe(
      'up{instance="x", job="a\\"b"}',
    );
    expect(formatLabels(makeLabels({ __name__: 'up' }))).toBe('up');
    expect(formatLabels(NO_LABELS)).toBe('{}');
  });
});

describe('order', () => {
  it('of strings is the order of their UTF-8 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 6 }), fc.string({ unit: 'binary', maxLength: 6 }), (a, b) => {
        expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
      { numRuns: 2000 },
    );
    expect(compareUtf8('\uffee', '\u{10000}')).toBeLessThan(0);
    expect(compareUtf8('\u{10ffff}', '\ue000')).toBeGreaterThan(0);
  });

  it('of label sets is total and agrees with equality', () => {
    fc.assert(
      fc.property(labelSet, labelSet, (a, b) => {
        const [x, y] = [makeLabels(a), makeLabels(b)];
        expect(Math.sign(compareLabels(x, y))).toBe(-Math.sign(compareLabels(y, x)) + 0);
        expect(compareLabels(x, y) === 0).toBe(hex(encodeIdentity(x)) === hex(encodeIdentity(y)));
      }),
    );
  });
});

describe('identities', () => {
  /** The vectors of ARCHITECTURE.md ("Series identity"). */
  it.each([
    [{}, ''],
    [{ __name__: 'up' }, '085f5f6e616d655f5f027570'],
    [{ job: 'api', __name__: 'up', empty: '' }, '085f5f6e616d655f5f027570036a6f6203617069'],
    [{ a: 'é' }, '016102c3a9'],
    [{ a: 'x'.repeat(200) }, `0161c801${'78'.repeat(200)}`],
  ])('of %j are as published', (pairs, expected) => {
    expect(hex(encodeIdentity(makeLabels(pairs as Record<string, string>)))).toBe(expected);
  });

  it('are the same for the same set, and come back', () => {
    fc.assert(
      fc.property(labelSet, fc.nat(), (set, turn) => {
        const entries = Object.entries(set);
        const turned = entries.map((_, i) => entries[(i + turn) % entries.length] as [string, string]);
        const labels = makeLabels(entries);
        expect(hex(encodeIdentity(makeLabels(turned)))).toBe(hex(encodeIdentity(labels)));
        expect(decodeIdentity(encodeIdentity(labels))).toEqual(labels);
      }),
    );
  });

  it('never decode into anything that does not encode to the same bytes', () => {
    const arbitrary = fc.oneof(
      fc.uint8Array({ maxLength: 24 }),
      fc.tuple(labelSet, fc.nat(200), fc.nat(255)).map(([set, at, bits]) => {
        const bytes = encodeIdentity(makeLabels(set));
        if (bytes.length > 0) bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ bits;
        return bytes;
      }),
    );
    fc.assert(
      fc.property(arbitrary, (bytes) => {
        try {
          expect(hex(encodeIdentity(decodeIdentity(bytes)))).toBe(hex(bytes));
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_LABELS' });
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['cut in a length', '01', /cut short/],
    ['cut in a name', '056162', /label name at byte 0 of an identity is cut short/],
    ['without a value', '0161', /value|length at byte 2/],
    ['with an empty name', '000178', /label name at byte 0 of an identity is empty/],
    ['with an empty value', '016100', /value of label "a" at byte 2 of an identity is empty/],
    ['with a length in five bytes where one does', '8100610178', /not in shortest form/],
    ['with an endless length', 'ffffffffffffffff', /too long/],
    ['not in order', '016201780161', /cut short|"a"/],
    ['with a name twice', '0161017801610179', /"a" does not sort after "a"/],
    ['not UTF-8', '0161 02c328'.replace(' ', ''), /value of label "a" .* is not UTF-8/],
    ['with half a character', '016103eda080', /is not UTF-8/],
  ])('are refused when %s', (_name, bytes, message) => {
    expect(() => decodeIdentity(Buffer.from(bytes, 'hex'))).toThrow(message);
  });

  it('keep a byte order mark: it is a character like any other', () => {
    const labels = makeLabels({ a: '\ufeffx' });
    expect(decodeIdentity(encodeIdentity(labels))).toEqual(labels);
  });
});
