/** What is shown, as the address of the page: a query can be bookmarked, sent to somebody, gone back to. */
import { formatDuration, parseDuration } from './time.ts';

export type Tab = 'graph' | 'table';

/** All that a person chose. Times in milliseconds. */
export interface View {
  readonly query: string;
  readonly tab: Tab;
  readonly rangeMs: number;
  /** Undefined: now. */
  readonly endMs: number | undefined;
  /** Undefined: chosen from the range and the width. */
  readonly stepMs: number | undefined;
  /** 0: off. */
  readonly refreshMs: number;
}

export const FIRST_VIEW: View = {
  query: '',
  tab: 'graph',
  rangeMs: 3_600_000,
  endMs: undefined,
  stepMs: undefined,
  refreshMs: 0,
};

export const REFRESHES_MS: readonly number[] = [0, 5000, 15_000, 60_000];

/** The view of `location.search`. What is absent or makes no sense is as in the first view. */
export function parseAddress(search: string): View {
  const parameters = new URLSearchParams(search);
  const duration = (name: string) => parseDuration(parameters.get(name) ?? '');
  const until = Date.parse(parameters.get('until') ?? '');
  const refreshMs = duration('refresh') ?? 0;
  return {
    query: parameters.get('q') ?? '',
    tab: parameters.get('tab') === 'table' ? 'table' : 'graph',
    rangeMs: duration('range') ?? FIRST_VIEW.rangeMs,
    endMs: Number.isNaN(until) ? undefined : until,
    stepMs: duration('step'),
    refreshMs: REFRESHES_MS.includes(refreshMs) ? refreshMs : 0,
  };
}

/** The search part of a view's address, `?` included; empty for the first view. */
export function formatAddress(view: View): string {
  const parameters = new URLSearchParams();
  if (view.query !== '') parameters.set('q', view.query);
  if (view.tab !== FIRST_VIEW.tab) parameters.set('tab', view.tab);
  if (view.rangeMs !== FIRST_VIEW.rangeMs) parameters.set('range', formatDuration(view.rangeMs));
  if (view.endMs !== undefined) parameters.set('until', new Date(view.endMs).toISOString());
  if (view.stepMs !== undefined) parameters.set('step', formatDuration(view.stepMs));
  if (view.refreshMs !== 0) parameters.set('refresh', formatDuration(view.refreshMs));
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}
