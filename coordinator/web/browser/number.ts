/** Numbers for people. */

const PREFIXES: readonly (readonly [size: number, letter: string])[] = [
  [1e24, 'Y'],
  [1e21, 'Z'],
  [1e18, 'E'],
  [1e15, 'P'],
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
  [1, ''],
  [1e-3, 'm'],
  [1e-6, 'µ'],
  [1e-9, 'n'],
];

/** Prometheus's text of a value as a number; `+Inf` and `NaN` included. */
export function parseValue(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Number.POSITIVE_INFINITY;
  return text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text);
}

/** At most `digits` significant digits and a decimal prefix: 12345678 is `12.35M`. Exact figures belong in the table. */
export function formatShort(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
  if (value === 0) return '0';
  const size = Math.abs(value);
  // From a thousandth to ten thousand a number is easier read without a prefix.
  const [unit, letter] =
    size >= 1e-3 && size < 10_000
      ? [1, '']
      : (PREFIXES.find(([least]) => size >= least * (1 - 0.5 / 10 ** digits)) ?? [0, '']);
  if (unit === 0) return value.toExponential(digits - 1);
  return `${Number((value / unit).toPrecision(digits))}${letter}`;
}

/** Labels of an axis: one prefix for all, the largest with which the increment between them needs two decimals or fewer. */
export function formatAxis(values: readonly number[], increment: number): string[] {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [unit, letter] of PREFIXES) {
    // Below ten thousand, and down to thousandths, plain numbers are easier read.
    const plain = largest < 1e4 && largest >= 1e-2;
    if (plain ? unit !== 1 : largest < unit) continue;
    const decimals = decimalsOf(increment / unit);
    if (!plain && unit > 1e-9 && decimals > 2) continue;
    return values.map((value) => (value === 0 ? '0' : `${(value / unit).toFixed(decimals)}${letter}`));
  }
  return values.map((value) => (value === 0 ? '0' : value.toPrecision(3)));
}

/** Decimals that write a round increment exactly; at most 9. */
function decimalsOf(increment: number): number {
  let decimals = 0;
  while (decimals < 9 && Math.abs(increment * 10 ** decimals - Math.round(increment * 10 ** decimals)) > 1e-6)
    decimals++;
  return decimals;
}

/** `1,234` in any locale. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 series`, `2 nodes`: a count with its noun. */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
