/** Durations and moments: as typed, as shown, as steps. */

const UNITS: readonly (readonly [unit: string, ms: number])[] = [
  ['w', 604_800_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

/** `1h30m` in milliseconds; plain numbers are seconds, as in PromQL. Undefined for anything that is no positive duration. */
export function parseDuration(text: string): number | undefined {
  const compact = text.replaceAll(' ', '').toLowerCase();
  if (/^\d+(\.\d+)?$/.test(compact)) return positive(Math.round(Number(compact) * 1000));
  if (!/^(\d+(\.\d+)?(ms|[wdhms]))+$/.test(compact)) return undefined;
  let total = 0;
  for (const [, amount, unit] of compact.matchAll(/(\d+(?:\.\d+)?)(ms|[wdhms])/g)) {
    total += Number(amount) * (UNITS.find(([name]) => name === unit)?.[1] ?? Number.NaN);
  }
  return positive(Math.round(total));
}

function positive(ms: number): number | undefined {
  return ms > 0 && Number.isSafeInteger(ms) ? ms : undefined;
}

/** Shortest exact text: 5400000 is `1h30m`. Days only when whole, so that 26 h stays `26h`. */
export function formatDuration(ms: number): string {
  let rest = ms;
  let text = '';
  for (const [unit, size] of UNITS) {
    if (size > 3_600_000 && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text === '' ? '0s' : text;
}

const STEPS_S = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200];

/** The smallest round step with which a range has at most `points` points. */
export function chooseStep(rangeMs: number, points: number): number {
  const leastS = rangeMs / 1000 / points;
  return 1000 * (STEPS_S.find((step) => step >= leastS) ?? Math.ceil(leastS / 86_400) * 86_400);
}

/** Both ends moved down to multiples of the step, so that a refresh asks for the same moments again. */
export function alignRange(endMs: number, rangeMs: number, stepMs: number): { startMs: number; endMs: number } {
  const end = Math.floor(endMs / stepMs) * stepMs;
  return { startMs: Math.floor((endMs - rangeMs) / stepMs) * stepMs, endMs: end };
}

const two = (n: number) => String(n).padStart(2, '0');

/** Local time, `2026-11-21 08:30:15`; with `.250` when it falls between seconds. */
export function formatMoment(ms: number): string {
  const date = new Date(ms);
  const fraction = date.getMilliseconds();
  return `${formatDay(date)} ${formatClock(date, true)}${fraction === 0 ? '' : `.${String(fraction).padStart(3, '0')}`}`;
}

function formatDay(date: Date): string {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function formatClock(date: Date, withSeconds: boolean): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}${withSeconds ? `:${two(date.getSeconds())}` : ''}`;
}

/** Labels of a time axis: clock times, with the day where it begins and under the first. `splits` are ms, ascending. */
export function formatTicks(splits: readonly number[], incrementMs: number): string[] {
  let day = '';
  return splits.map((ms) => {
    const date = new Date(ms);
    const today = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    if (incrementMs >= 86_400_000) return today;
    const clock = formatClock(date, incrementMs < 60_000);
    const text = today === day ? clock : `${clock}\n${today}`;
    day = today;
    return text;
  });
}

/**
 * A moment as typed, local time: `2026-11-21 08:30:15`, with the seconds, the clock or the day left out. Without a day
 * it is the last such time before `nowMs`. Undefined for anything else.
 */
export function parseMoment(text: string, nowMs: number): number | undefined {
  const typed = /^(?:(\d{4})-(\d\d?)-(\d\d?))?(?:(?:^|[ T]+)(\d\d?):(\d\d)(?::(\d\d))?)?$/.exec(text.trim());
  if (typed === null || text.trim() === '') return undefined;
  const [year, month, day, hour, minute, second] = typed
    .slice(1)
    .map((part) => (part === undefined ? part : Number(part)));
  const today = new Date(nowMs);
  const [y, m, d] = [
    year ?? today.getFullYear(),
    month === undefined ? today.getMonth() : month - 1,
    day ?? today.getDate(),
  ];
  const moment = new Date(y, m, d, hour ?? 0, minute ?? 0, second ?? 0);
  // The 31st of April is the 1st of May to Date, and 25:00 tomorrow.
  const same =
    moment.getMonth() === m && moment.getDate() === d && (hour ?? 0) < 24 && (minute ?? 0) < 60 && (second ?? 0) < 60;
  if (!same) return undefined;
  if (year === undefined && moment.getTime() > nowMs) moment.setDate(moment.getDate() - 1);
  return moment.getTime();
}

/** The offset of local time at a moment: `UTC`, `UTC+02:00`. */
export function zone(ms: number): string {
  const minutes = -new Date(ms).getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
