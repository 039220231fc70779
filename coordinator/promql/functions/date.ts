/** Calendar functions of a time in seconds, UTC. Without an argument they take the step's own time. */
import { NO_LABELS } from '../../../core/labels.ts';
import type { Call, Expr } from '../ast.ts';
import type { Context } from '../context.ts';
import { Mapped } from '../map.ts';
import { type Cursor, Kept, Slot } from '../vector.ts';
import type { VectorFunction } from './row.ts';

/** What Prometheus shows for NaN and for times that no int64 holds: Go's calendar of the smallest int64 wraps to this one. */
const OUT_OF_RANGE = { day: 106_751_991_167_300, second: 55_808 } as const;
const DAY_SECONDS = 86_400;

/** Year, month, day of a day number since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
function civil(day: number): { year: number; month: number; day: number } {
  const z = day + 719_468;
  const era = Math.floor(z / 146_097);
  const dayOfEra = z - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shifted = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shifted < 10 ? shifted + 3 : shifted - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1,
  };
}

const leap = (year: number): boolean => (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const monthDays = (year: number, month: number): number =>
  month === 2 && leap(year) ? 29 : (MONTH_DAYS[month - 1] as number);

function dayOfYear(day: number): number {
  const date = civil(day);
  let sum = date.day;
  for (let month = 1; month < date.month; month++) sum += monthDays(date.year, month);
  return sum;
}

/** A row whose value comes from the day number and the second of the day. */
function date(name: string, of: (day: number, second: number) => number): VectorFunction {
  const at = (time: number): number => {
    const seconds = Math.trunc(time);
    if (!(Math.abs(seconds) < 2 ** 63)) return of(OUT_OF_RANGE.day, OUT_OF_RANGE.second);
    const second = Number.isSafeInteger(seconds)
      ? seconds % DAY_SECONDS
      : Number(BigInt(seconds) % BigInt(DAY_SECONDS));
    return of(Math.floor(seconds / DAY_SECONDS), second < 0 ? second + DAY_SECONDS : second);
  };
  return {
    kind: 'vector',
    returns: 'vector',
    name,
    args: ['vector'],
    variadic: 1,
    stepDependent: true,
    open: async (call: Call, context: Context): Promise<Cursor> => {
      if (call.args.length > 0) {
        return Mapped.open(await context.vector(call.args[0] as Expr), context, ({ values, present }) => {
          for (let i = 0; i < values.length; i++) if (present[i] === 1) values[i] = at(values[i] as number);
        });
      }
      const { startMs, stepMs, count } = context.grid;
      const slot = new Slot(count);
      slot.labels = NO_LABELS;
      slot.present.fill(1);
      slot.pointCount = count;
      for (let i = 0; i < count; i++) slot.values[i] = at((startMs + i * stepMs) / 1000);
      return new Kept([slot], 'none');
    },
  };
}

export const DATE: readonly VectorFunction[] = [
  date('minute', (_, second) => Math.floor(second / 60) % 60),
  date('hour', (_, second) => Math.floor(second / 3600)),
  date('day_of_week', (day) => (((day + 4) % 7) + 7) % 7),
  date('day_of_month', (day) => civil(day).day),
  date('day_of_year', dayOfYear),
  date('days_in_month', (day) => {
    const { year, month } = civil(day);
    return monthDays(year, month);
  }),
  date('month', (day) => civil(day).month),
  date('year', (day) => civil(day).year),
];
