/**
 * Prometheus's TSDB admin API, as far as there is something to it here: deleting series, and taking out what is deleted;
 * removing nodes, keeping copies away from them, moving copies and holding that. Only where it is switched on.
 */
import type { Eraser } from '../../client/eraser.ts';
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { OrderedMove } from '../../core/meta/operate.ts';
import type { MoveOrder } from '../../core/meta/orders.ts';
import type { Cordon, Moves } from '../../core/meta/region.ts';
import { type Answer, failure, plainData, success } from './answer.ts';
import { shardList } from './cluster.ts';
import { invalid, type Params } from './params.ts';

export interface AdminOptions {
  readonly env: Env;
  readonly eraser: Pick<Eraser, 'delete' | 'clean'>;
  readonly removeLostNode: (region: string, name: string) => Promise<void>;
  readonly removeNode: (region: string, name: string) => Promise<void>;
  readonly switchMoves: (region: string, moves: Moves) => Promise<void>;
  readonly switchMove: (region: string, id: string, mode: Moves) => Promise<void>;
  readonly orderMoves: (region: string, order: MoveOrder) => Promise<readonly OrderedMove[]>;
  readonly rebalance: (region: string) => Promise<readonly OrderedMove[]>;
  readonly setCordon: (region: string, name: string, cordon: Cordon | undefined) => Promise<void>;
}

export interface AdminRow {
  /** Below `/api/v1`; with POST or PUT. */
  readonly path: string;
  /** Resolves with what there is to say of it; undefined: nothing. */
  readonly run: (options: AdminOptions, params: Params, signal: AbortSignal) => Promise<unknown>;
}

export const ADMIN_ROWS: readonly AdminRow[] = [
  { path: '/admin/tsdb/delete_series', run: deleteSeries },
  { path: '/admin/tsdb/clean_tombstones', run: ({ eraser }, _params, signal) => eraser.clean({ signal }) },
  { path: '/admin/nodes/remove', run: removeNode },
  { path: '/admin/nodes/cordon', run: cordonNode },
  { path: '/admin/moves', run: switchMoves },
  { path: '/admin/shards/move', run: moveShards },
  { path: '/admin/rebalance', run: rebalance },
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
    const said = await row.run(options, params, signal);
    if (said !== undefined) return success(plainData(said), false);
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
  const lost = params.text('lost');
  if (lost !== '' && lost !== 'true' && lost !== 'false')
    throw invalid('lost', `expected true or false, got "${lost}"`);
  if (lost === 'true') await options.removeLostNode(region, name);
  else await options.removeNode(region, name);
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
  const id = params.text('id');
  if (id === '') await options.switchMoves(region, mode as Moves);
  else await options.switchMove(region, id, mode as Moves);
}

async function moveShards(options: AdminOptions, params: Params): Promise<object> {
  const [region, shards, to] = [given(params, 'region'), given(params, 'shards'), given(params, 'to')];
  const from = params.text('from');
  const order = { shards: shardList(shards), to, ...(from !== '' && { from }) };
  return { moves: await options.orderMoves(region, order) };
}

async function rebalance(options: AdminOptions, params: Params): Promise<object> {
  return { moves: await options.rebalance(given(params, 'region')) };
}

const MOVES: readonly Moves[] = ['on', 'paused', 'off'];

function given(params: Params, name: string): string {
  const value = params.text(name);
  if (value === '') throw new SilverbackError('INVALID_ARGUMENT', `no ${name} parameter provided`);
  return value;
}
