/** Text for people: columns without borders, and numbers that are short enough for them. */
import Table from 'cli-table3';

export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => string;
  /** Numbers. */
  readonly right?: boolean;
}

const GAP = 2;
const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
};

/** Columns move closer together where the terminal is too narrow. Ends with a line break. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], width: number): string {
  const wide = render(columns, rows, GAP);
  const isWide = wide.split('\n').some((line) => line.length > width);
  return isWide ? render(columns, rows, 1) : wide;
}

function render<Row>(columns: readonly Column<Row>[], rows: readonly Row[], gap: number): string {
  const drawn = new Table({
    head: columns.map(({ head }) => head),
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': gap },
    colAligns: columns.map(({ right }) => (right === true ? 'right' : 'left')),
  });
  drawn.push(...rows.map((row) => columns.map(({ cell }) => cell(row))));
  return drawn
    .toString()
    .split('\n')
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

/** `name  value` lines. */
export function facts(rows: readonly (readonly [name: string, value: string])[], width: number): string {
  const longest = Math.max(...rows.map(([name]) => name.length));
  return rows
    .map(([name, value]) => {
      const indent = ' '.repeat(longest + GAP);
      return `${name.padEnd(longest + GAP)}${wrap(value, width - indent.length, indent)}\n`;
    })
    .join('');
}

/** Breaks lines at spaces, with the rest of each as far in as it began; a word that is longer than the line stays whole. */
export function wrap(text: string, width: number, indent = ''): string {
  const lines: string[] = [];
  for (const line of text.split('\n')) {
    const own = /^ */.exec(line)?.[0] ?? '';
    let rest = line;
    while (rest.length > width) {
      const at = rest.lastIndexOf(' ', width);
      if (at <= own.length) break;
      lines.push(rest.slice(0, at));
      rest = own + rest.slice(at + 1);
    }
    lines.push(rest);
  }
  return lines.join(`\n${indent}`);
}

/** What is not known. */
export const UNKNOWN = '-';

/** Three or four digits: 9999, 12.3k, 4.56M. */
export function count(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value < 10_000) return String(value);
  for (const [unit, size] of [
    ['k', 1e3],
    ['M', 1e6],
    ['G', 1e9],
  ] as const) {
    if (value < 999.5 * size) return `${digits(value / size)}${unit}`;
  }
  return `${digits(value / 1e12)}T`;
}

/** As `ls -h` has them: K is 1024 bytes. */
export function bytes(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value < 1024) return `${value}B`;
  for (const [unit, size] of [
    ['K', 2 ** 10],
    ['M', 2 ** 20],
    ['G', 2 ** 30],
  ] as const) {
    if (value < 999.5 * size) return `${digits(value / size)}${unit}`;
  }
  return `${digits(value / 2 ** 40)}T`;
}

/** The two largest units: 0.4s, 12s, 3m5s, 2h5m, 3d4h. */
export function duration(seconds: number | null): string {
  if (seconds === null) return UNKNOWN;
  if (seconds < 10) return `${Math.round(seconds * 10) / 10}s`;
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3_600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ] as const;
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([value], i) => i === 0 || value > 0)
    .map(([value, unit]) => `${value}${unit}`)
    .join('');
}

function digits(value: number): string {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** `0-3,7` of ascending numbers. */
export function ranges(numbers: readonly number[]): string {
  const found: string[] = [];
  for (let i = 0; i < numbers.length; i++) {
    const first = numbers[i] as number;
    let last = first;
    while (numbers[i + 1] === last + 1) last = numbers[++i] as number;
    found.push(first === last ? String(first) : `${first}-${last}`);
  }
  return found.join(',');
}

export function plural(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? '' : 's'}`;
}
