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
  // A thousandth and more is easier read as a fraction than with a prefix.
  const [unit, letter] =
    size < 1 && size >= 1e-3
      ? [1, '']
      : (PREFIXES.find(([least]) => size >= least * (1 - 0.5 / 10 ** digits)) ?? [0, '']);
  if (unit === 0) return value.toExponential(digits - 1);
  return `${Number((value / unit).toPrecision(digits))}${letter}`;
}

/** Labels of an axis: one prefix for all, and as many decimals as the increment between them needs. */
export function formatAxis(values: readonly number[], increment: number): string[] {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const [unit, letter] =
    largest < 1 && largest >= 1e-3 ? [1, ''] : (PREFIXES.find(([least]) => largest >= least) ?? [1, '']);
  const decimals = Math.max(0, Math.ceil(-Math.log10(increment / unit) - 1e-9));
  if (decimals > 8) return values.map((value) => (value === 0 ? '0' : value.toPrecision(3)));
  return values.map((value) => (value === 0 ? '0' : `${(value / unit).toFixed(Math.min(decimals, 8))}${letter}`));
}

/** `1,234` in any locale. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 series`, `2 nodes`: a count with its noun. */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
