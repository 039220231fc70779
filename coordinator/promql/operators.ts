/** The binary operators: one row each. */

export interface OperatorRow {
  readonly name: string;
  /** Binds tighter the higher. */
  readonly precedence: number;
  readonly rightAssociative?: boolean;
  /** Filters or, with `bool`, answers 0 or 1. */
  readonly comparison?: (a: number, b: number) => boolean;
  readonly arithmetic?: (a: number, b: number) => number;
  readonly set?: 'and' | 'or' | 'unless';
}

/** Go's math.Pow differs from ECMAScript's in one place: 1 to any power, and -1 to an infinite one, is 1. */
function pow(a: number, b: number): number {
  if (a === 1) return 1;
  if (a === -1 && !Number.isFinite(b) && !Number.isNaN(b)) return 1;
  return a ** b;
}

const ROWS: readonly OperatorRow[] = [
  { name: 'or', precedence: 1, set: 'or' },
  { name: 'and', precedence: 2, set: 'and' },
  { name: 'unless', precedence: 2, set: 'unless' },
  { name: '==', precedence: 3, comparison: (a, b) => a === b },
  { name: '!=', precedence: 3, comparison: (a, b) => a !== b },
  { name: '>', precedence: 3, comparison: (a, b) => a > b },
  { name: '<', precedence: 3, comparison: (a, b) => a < b },
  { name: '>=', precedence: 3, comparison: (a, b) => a >= b },
  { name: '<=', precedence: 3, comparison: (a, b) => a <= b },
  { name: '+', precedence: 4, arithmetic: (a, b) => a + b },
  { name: '-', precedence: 4, arithmetic: (a, b) => a - b },
  { name: '*', precedence: 5, arithmetic: (a, b) => a * b },
  { name: '/', precedence: 5, arithmetic: (a, b) => a / b },
  { name: '%', precedence: 5, arithmetic: (a, b) => a % b },
  { name: 'atan2', precedence: 5, arithmetic: Math.atan2 },
  { name: '^', precedence: 6, rightAssociative: true, arithmetic: pow },
];

export const OPERATORS: ReadonlyMap<string, OperatorRow> = new Map(ROWS.map((row) => [row.name, row]));
