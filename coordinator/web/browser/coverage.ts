/** A coverage ledger in words: complete, or exactly what is missing. */
import type { Coverage, CoverageState } from './answer.ts';
import { countOf } from './number.ts';
import { formatMoment } from './time.ts';

export interface CoverageText {
  /** `unsaid`: the server did not say. */
  readonly state: CoverageState | 'unsaid';
  /** A few words for the summary line. */
  readonly short: string;
  /** One line for each gap. */
  readonly lines: readonly string[];
}

/** The shard numbers of `0,2-5`. */
function shardsOf(text: string): number[] {
  return text.split(',').flatMap((span) => {
    const [first = Number.NaN, last = first] = span.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

function between(fromMs: number, toMs: number): string {
  const [from, to] = [formatMoment(fromMs), formatMoment(toMs)];
  const sameDay = from.slice(0, 10) === to.slice(0, 10);
  return from === to ? `at ${from}` : `${from} to ${sameDay ? to.slice(11) : to}`;
}

export function describeCoverage(coverage: Coverage | undefined): CoverageText {
  if (coverage === undefined) return { state: 'unsaid', short: 'coverage not stated', lines: [] };
  const { state, ranges } = coverage;
  if (state === 'complete') return { state, short: 'complete', lines: [] };
  const countIn = (those: typeof ranges) => new Set(those.flatMap(({ shards }) => shardsOf(shards))).size;
  const worst = countIn(ranges.filter((range) => range.state === state));
  const lines = ranges
    .filter((range) => range.state !== 'complete')
    .map(({ shards, start, end, state: its, reason }) => {
      const which = `${/[,-]/.test(shards) ? 'shards' : 'shard'} ${shards.replaceAll(',', ', ').replaceAll('-', '\u2013')}`;
      return `${which} ${its}, ${between(start * 1000, end * 1000)}${reason === undefined ? '' : `: ${reason}`}`;
    });
  return { state, short: `${worst} of ${countOf(countIn(ranges), 'shard')} ${state}`, lines };
}
