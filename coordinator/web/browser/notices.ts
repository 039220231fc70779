/** What went wrong with an answer, or could mislead: errors, what is missing, warnings, remarks. */
import type { Answer } from './answer.ts';
import { ApiError } from './api.ts';
import { describeCoverage } from './coverage.ts';
import { element } from './dom.ts';

/** The coordinator repeats its coverage ledger among the warnings, for clients that do not read the ledger. */
const REPEATS_COVERAGE = 'the answer is not complete: ';

function notice(kind: 'error' | 'missing' | 'warning' | 'info', title: string, lines: readonly string[]): HTMLElement {
  const list = lines.map((line) => element('li', {}, line));
  return element('div', { class: `notice ${kind}` }, element('b', {}, title), element('ul', {}, ...list));
}

export function answerNotices({ coverage, warnings, infos }: Answer): HTMLElement[] {
  const { state, short, lines } = describeCoverage(coverage);
  const others = coverage === undefined ? warnings : warnings.filter((text) => !text.startsWith(REPEATS_COVERAGE));
  const notices: HTMLElement[] = [];
  if (lines.length > 0)
    notices.push(notice(state === 'missing' ? 'missing' : 'warning', `Not complete: ${short}`, lines));
  if (others.length > 0) notices.push(notice('warning', others.length === 1 ? 'Warning' : 'Warnings', others));
  if (infos.length > 0) notices.push(notice('info', 'Note', infos));
  return notices;
}

const TITLES: Readonly<Record<string, string>> = {
  bad_data: 'The query is not valid',
  execution: 'The query failed',
  timeout: 'The query took too long',
  canceled: 'The query was cancelled',
  unavailable: 'The data cannot be had now',
  network: 'No answer',
};

export function errorNotice(error: unknown): HTMLElement {
  const [kind, message] = error instanceof ApiError ? [error.kind, error.message] : ['error', String(error)];
  const node = notice('error', TITLES[kind] ?? `Error (${kind})`, [message]);
  node.setAttribute('role', 'alert');
  return node;
}
