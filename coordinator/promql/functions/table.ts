/** The functions of the language: one row each, signature and implementation together. */
import { DATE } from './date.ts';
import { HISTOGRAM } from './histogram.ts';
import { INFO } from './info.ts';
import { LABEL } from './label.ts';
import { MATH } from './math.ts';
import { MISC } from './misc.ts';
import { RATE } from './rate.ts';
import type { FunctionRow } from './row.ts';
import { SORT } from './sort.ts';
import { WINDOW } from './window.ts';

const ROWS: readonly FunctionRow[] = [
  ...DATE,
  ...HISTOGRAM,
  ...INFO,
  ...LABEL,
  ...MATH,
  ...MISC,
  ...RATE,
  ...SORT,
  ...WINDOW,
];

export const FUNCTIONS: ReadonlyMap<string, FunctionRow> = new Map(ROWS.map((row) => [row.name, row]));
