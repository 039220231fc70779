/**
 * Prometheus's TSDB admin API, as far as there is something to it here: deleting series, and taking out what is deleted;
 * declaring nodes lost, keeping copies away from nodes, and holding moves. Only where it is switched on.
 */
import type { Eraser } from '../../client/eraser.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { Cordon, Moves } from '../../core/meta/region.ts';
import { type Answer, failure } from './answer.ts';
import { invalid, type Params } from './params.ts';

export interface AdminOptions {
  readonly env: Env;
  readonly eraser: Pick<Eraser, 'delete' | 'clean'>;
  readonly removeLostNode: (region: string, name: string) => Promise<void>;
  readonly switchMoves: (region: string, moves: Moves) => Promise<void>;
  readonly setCordon: (region: string, name: string, cordon: Cordon | undefined) => Promise<void>;
}

export interface AdminRow {
  /** Below `/api/v1`; with POST or PUT. */
  readonly path: string;
  readonly run: (options: AdminOptions, params: Params, signal: AbortSignal) => Promise<void>;
}

export const ADMIN_ROWS: readonly AdminRow[] = [
  { path: '/admin/tsdb/delete_series', run: deleteSeries },
  { path: '/admin/tsdb/clean_tombstones', run: ({ eraser }, _params, signal) => eraser.clean({ signal }) },
  { path: '/admin/nodes/remove', run: removeNode },
  { path: '/admin/nodes/cordon', run: cordonNode },
  { path: '/admin/moves', run: switchMoves },
];

/** Answers a call; never rejects. Undefined: the admin API is switched off. */
export async function administer(
  row: AdminRow,
  options: AdminOptions | undefined,
  params: Params,
  signal: AbortSignal,
): Promise<Answer> {
  if (options === undefined) {
    // Prometheus's words. Its status is 500, of which a client would think that trying again may help.
    return { ...failure(new SilverbackError('UNAVAILABLE', 'admin APIs disabled')), status: 403 };
  }
  try {
    await row.run(options, params, signal);
    return { status: 204, contentType: 'application/json', headers: {}, pieces: [] };
  } catch (error) {
    return failure(error);
  }
}

/** Without `start` and `end`: all of the past. What lies ahead cannot be deleted, so an `end` ahead means now. */
async function deleteSeries({ env, eraser }: AdminOptions, params: Params, signal: AbortSignal): Promise<void> {
  const selectors = params.selectors();
  if (selectors.length === 0) throw new SilverbackError('INVALID_ARGUMENT', 'no match[] parameter provided');
  const { fromMs, toMs } = params.range();
  const untilMs = Math.min(toMs, env.clock.nowMs());
  if (fromMs > untilMs) throw invalid('start', 'only what is past can be deleted');
  if (untilMs < 0) return;
  for (const matchers of selectors) await eraser.delete(matchers, Math.max(0, fromMs), untilMs, { signal });
}

async function removeNode(options: AdminOptions, params: Params): Promise<void> {
  const [region, name] = [given(params, 'region'), given(params, 'name')];
  if (params.text('lost') !== 'true') {
    throw invalid('lost', 'only a lost node can be removed, which gives up what it did not deliver: lost=true says so');
  }
  await options.removeLostNode(region, name);
}

async function cordonNode(options: AdminOptions, params: Params): Promise<void> {
  const [region, name, mode] = [given(params, 'region'), given(params, 'name'), given(params, 'mode')];
  if (!Object.hasOwn(CORDONS, mode))
    throw invalid('mode', `expected ${Object.keys(CORDONS).join(', ')}, got "${mode}"`);
  await options.setCordon(region, name, CORDONS[mode as keyof typeof CORDONS]);
}

const CORDONS = { on: 'cordoned', drain: 'draining', off: undefined } as const;

async function switchMoves(options: AdminOptions, params: Params): Promise<void> {
  const [region, mode] = [given(params, 'region'), given(params, 'mode')];
  if (!MOVES.includes(mode as Moves)) throw invalid('mode', `expected ${MOVES.join(', ')}, got "${mode}"`);
  await options.switchMoves(region, mode as Moves);
}

const MOVES: readonly Moves[] = ['on', 'paused', 'off'];

function given(params: Params, name: string): string {
  const value = params.text(name);
  if (value === '') throw new SilverbackError('INVALID_ARGUMENT', `no ${name} parameter provided`);
  return value;
}
