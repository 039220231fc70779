/**
 * Numbers as Prometheus's `util/jsonutil` writes them: as ECMAScript does, but for +Inf, -0 and e-07.
 *
 * As bytes without a string in between where that is sure to give the same digits: whole numbers and those with at most
 * six decimals, fifteen digits together. Different decimals of up to fifteen digits are different doubles, so the one that
 * gives a double is the shortest that does, which is what ECMAScript writes.
 */
const POINT = 46;
const MINUS = 45;
const ZERO = 48;
const DECIMALS = 6;
const SCALE = 10 ** DECIMALS;
const MAX_WHOLE = 1e15;
/** Below it, six decimals make fifteen digits at most. */
const MAX_DECIMAL = MAX_WHOLE / SCALE;
const BILLION = 1e9;

/** A sample value as Prometheus writes it in JSON (without the quotes). */
export function formatValue(v: number): string {
  if (v === 0) return Object.is(v, -0) ? '-0' : '0';
  if (v === Infinity) return '+Inf';
  if (v === -Infinity) return '-Inf';
  // Go writes exponents with two digits at least: 7.21e-07.
  return Math.abs(v) < 1e-6 ? String(v).replace(/e-(\d)$/, 'e-0$1') : String(v);
}

/** The most bytes that a number takes here. */
export const NUMBER_BYTES = 24;

/** Writes a number; returns where it ends, or -1 for one that it leaves to others: zero, or with more digits. */
export function writeDecimal(out: Uint8Array, at: number, v: number): number {
  let end = at;
  let magnitude = v;
  if (v < 0) {
    magnitude = -v;
    out[end++] = MINUS;
  }
  if (!(magnitude > 0 && magnitude < MAX_WHOLE)) return -1;
  if (Math.floor(magnitude) === magnitude) return writeWhole(out, end, magnitude);
  if (magnitude >= MAX_DECIMAL) return -1;
  const scaled = Math.round(magnitude * SCALE);
  if (scaled === 0 || scaled / SCALE !== magnitude) return -1;
  const whole = Math.floor(scaled / SCALE);
  end = writeWhole(out, end, whole);
  out[end] = POINT;
  let last = end + DECIMALS;
  let fraction = (scaled - whole * SCALE) | 0;
  for (let i = last; i > end; i--) {
    out[i] = ZERO + (fraction % 10);
    fraction = (fraction / 10) | 0;
  }
  while (out[last] === ZERO) last--;
  return last + 1;
}

/** Writes a date's milliseconds as seconds, as `formatTime` does; returns where they end. */
export function writeSeconds(out: Uint8Array, at: number, ms: number): number {
  let end = at;
  let magnitude = ms;
  if (ms < 0) {
    magnitude = -ms;
    out[end++] = MINUS;
  }
  const whole = Math.floor(magnitude / 1000);
  end = writeWhole(out, end, whole);
  const fraction = (magnitude - whole * 1000) | 0;
  if (fraction === 0) return end;
  out[end] = POINT;
  out[end + 1] = ZERO + ((fraction / 100) | 0);
  out[end + 2] = ZERO + (((fraction / 10) | 0) % 10);
  out[end + 3] = ZERO + (fraction % 10);
  return end + 4;
}

/** A whole number below 1e15. Small integers are the fast ones: at most nine digits at a time. */
function writeWhole(out: Uint8Array, at: number, whole: number): number {
  if (whole < BILLION) return writeDigits(out, at, whole | 0, 1);
  const high = Math.floor(whole / BILLION);
  return writeDigits(out, writeDigits(out, at, high | 0, 1), (whole - high * BILLION) | 0, 9);
}

/** With zeros before it up to `least` digits. */
function writeDigits(out: Uint8Array, at: number, number: number, least: number): number {
  let length = least;
  for (let bound = 10 ** least; number >= bound; bound *= 10) length++;
  let rest = number;
  for (let i = at + length - 1; i >= at; i--) {
    const tenth = (rest / 10) | 0;
    out[i] = ZERO + rest - 10 * tenth;
    rest = tenth;
  }
  return at + length;
}
