import { describe, expect, test } from 'vitest';
import { parseSample } from '../../coordinator/cli/samples.ts';

const NOW = 1_764_400_000_000;

describe('samples as people type them', () => {
  test.each([
    ['up 1', { __name__: 'up' }, 1, NOW],
    ['up{} 1', { __name__: 'up' }, 1, NOW],
    [' a:b{x="1", y="two words",} -1.5e3 1234 ', { __name__: 'a:b', x: '1', y: 'two words' }, -1500, 1234],
    ['{x="\\"\\\\\\n}"} +Inf', { x: '"\\\n}' }, Number.POSITIVE_INFINITY, NOW],
    ['m{x="} 1"} NaN 5', { __name__: 'm', x: '} 1' }, Number.NaN, 5],
    ['m{x=""} .5', { __name__: 'm', x: '' }, 0.5, NOW],
  ])('%s', (line, labels, value, timestampMs) => {
    expect(parseSample(line, NOW)).toEqual({ labels, value, timestampMs });
  });

  test('empty lines and comments are none', () => {
    for (const line of ['', '  ', '# HELP up 1']) expect(parseSample(line, NOW)).toBeUndefined();
  });

  test.each([
    ['up', 'expected metric{label="value"} VALUE [MILLISECONDS]'],
    ['1 2', 'expected metric{label="value"} VALUE [MILLISECONDS]'],
    ['up one', '"one" is not a number'],
    ['up 0x10', '"0x10" is not a number'],
    ['up 1 now', '"now" is not a time in whole milliseconds since 1970'],
    ['up 1 1.5', '"1.5" is not a time in whole milliseconds since 1970'],
    ['up{x=1} 1', 'expected label="value" at "x=1"'],
    ['up{x="1",x="2"} 1', 'label x stands there twice'],
  ])('%s is refused', (line, why) => {
    expect(() => parseSample(line, NOW)).toThrow(`${JSON.stringify(line)}: ${why}`);
  });
});
