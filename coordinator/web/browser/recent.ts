/** Queries that ran, latest first, kept in this browser. */

const KEY = 'silverback.recent';
const KEPT_COUNT = 50;

/** Empty where storage is refused or holds something else. */
export function readRecent(): string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter((query): query is string => typeof query === 'string') : [];
  } catch {
    return [];
  }
}

export function addRecent(query: string): void {
  const kept = [query, ...readRecent().filter((other) => other !== query)].slice(0, KEPT_COUNT);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Private windows may refuse storage: the history is then this session's addresses only.
  }
}
