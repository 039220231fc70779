/** The coordinator's gRPC face: the placement for clients, and queries. In and out, no decisions. */
import { toReply } from '../client/placement.ts';
import type { CallContext, ReplyStream, RpcServer } from '../core/grpc.ts';
import type { Placement, PlacementView } from '../core/placement.ts';
import { clusterService, type PlacementReply, type QueryReply, type QueryRequest } from '../core/protocol.ts';
import { API_ROWS, type Api, type ApiRow } from './http/api.ts';
import { Params } from './http/params.ts';

/** Adds the Cluster service to `server`, before it listens. */
export function addClusterService(
  server: RpcServer,
  placement: PlacementView,
  api: Api,
  removeLostNode: (region: string, name: string) => Promise<void>,
): void {
  server
    .stream(clusterService.Placement, (_request, call) => sendPlacements(placement, call))
    .unary(clusterService.Query, (request, call) => answerQuery(api, request, call))
    .unary(clusterService.RemoveLostNode, async ({ region, node }) => {
      await removeLostNode(region, node);
      return {};
    });
}

/** The current placement at once, then each change. Of changes that come faster than they are read, only the last is sent. */
async function sendPlacements(view: PlacementView, call: ReplyStream<PlacementReply>): Promise<void> {
  let next: Placement | undefined = view.current();
  let wake: () => void = () => undefined;
  const stop = view.onChange((placement) => {
    next = placement;
    wake();
  });
  const gone = (): void => wake();
  call.signal.addEventListener('abort', gone);
  try {
    while (!call.signal.aborted) {
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const placement: Placement = next;
      next = undefined;
      await call.send(toReply(placement));
    }
  } finally {
    stop();
    call.signal.removeEventListener('abort', gone);
  }
}

async function answerQuery(api: Api, request: QueryRequest, { signal }: CallContext): Promise<QueryReply> {
  const { query, timeMs, startMs, endMs, stepMs, region } = request;
  const isRange = stepMs > 0;
  const seconds = (ms: number): string => String(ms / 1000);
  const parameters = isRange
    ? { query, region, start: seconds(startMs), end: seconds(endMs), step: seconds(stepMs) }
    : { query, region, time: seconds(timeMs) };
  const row = API_ROWS.find(({ path }) => path === (isRange ? '/query_range' : '/query')) as ApiRow;
  const { status, pieces } = await api.answer(row, {
    params: new Params(new URLSearchParams(parameters).toString()),
    name: '',
    signal,
  });
  return { status, body: Buffer.concat([...pieces]) };
}
