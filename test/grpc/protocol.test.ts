import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { clusterService, shardsService } from '../../core/protocol.ts';

const proto = readFileSync(new URL('../../proto/silverback.proto', import.meta.url), 'utf8');

/** Names that are given numbers in a message or an enum of the proto, as the loader spells them. */
function namesIn(block: string): string[] {
  const body = new RegExp(`^(?:message|enum) ${block} \\{\\n([\\s\\S]*?)^\\}`, 'm').exec(proto)?.[1] ?? '';
  const own = body.replace(/^ {2}enum \w+ \{[\s\S]*?^ {2}\}/gm, '');
  return [...own.matchAll(/(\w+) = \d+;/g)].map(([, name]) => name as string);
}

function fieldsOf(message: string): string[] {
  return namesIn(message)
    .map((name) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()))
    .sort();
}

describe('protocol', () => {
  it('gives a write request back, columns as views of the message', () => {
    const bytes = shardsService.Write.requestSerialize({
      hello: { version: 1, clusterId: 'c', caller: 'test', speaks: [{ format: 'f', lowest: 1, highest: 2 }] },
      batchId: 2 ** 40 + 1,
      peerWaitMs: 1_500,
      ack: 'FSYNC',
      shards: [
        {
          shard: 3,
          epoch: 7,
          definitions: Buffer.from('definitions'),
          refs: new Uint8Array([1, 0, 0, 0]),
          counts: new Uint8Array(0),
          timestamps: new Uint8Array(8).fill(5),
          values: new Uint8Array(8).fill(6),
          exemplars: Buffer.from('exemplars'),
          metadata: new Uint8Array(0),
        },
      ],
    });
    const request = shardsService.Write.requestDeserialize(bytes);
    expect(request.hello).toEqual({
      version: 1,
      clusterId: 'c',
      caller: 'test',
      speaks: [{ format: 'f', lowest: 1, highest: 2 }],
    });
    expect(request.batchId).toBe(2 ** 40 + 1);
    expect(request.ack).toBe('FSYNC');
    const [batch] = request.shards;
    expect(Object.keys(batch ?? {}).sort()).toEqual(fieldsOf('ShardBatch'));
    expect(batch?.values).toEqual(Buffer.alloc(8, 6));
    expect(batch?.counts).toHaveLength(0);
    expect(batch?.values.buffer).toBe(bytes.buffer);
  });

  it('fills absent fields with defaults', () => {
    const request = shardsService.Write.requestDeserialize(Buffer.alloc(0));
    expect(request).toEqual({ hello: null, batchId: 0, ack: 'LOCAL', shards: [], peerWaitMs: 0 });
    expect(shardsService.Write.responseDeserialize(Buffer.alloc(0))).toEqual({ batchId: 0, shards: [], speaks: [] });
  });

  // Decoding fills in every field of the proto, so the keys of an empty message are the proto's fields. The literals
  // below are typed: they have exactly the fields of the TypeScript shapes.
  it('has the shapes of the proto', () => {
    const coverage = { shards: [1, 2], fromMs: -1, toMs: 2 ** 42, state: 'MISSING', reason: 'r', given: true } as const;
    const answer = {
      id: 2 ** 32 - 1,
      page: Buffer.from('p'),
      values: ['v', 'w'],
      done: true,
      coverage: [coverage],
      code: 'TOO_LARGE',
      message: 'm',
      retryAfterMs: 4,
    } as const;
    expect(shardsService.Read.responseDeserialize(shardsService.Read.responseSerialize(answer))).toEqual(answer);

    const matcher = { name: 'a', op: 'NRE', value: 'b' } as const;
    const select = { shards: [1, 2], matchers: [matcher], fromMs: -5, toMs: 5, maxSeries: 1, maxSamples: 2 };
    const labels = { shards: [1], fromMs: 0, toMs: 9, selectors: [{ matchers: [matcher] }], name: 'n', asJson: true };
    const aggregate = {
      select,
      operation: 'sum',
      grouping: ['a'],
      without: true,
      function: 'rate',
      rangeMs: 3,
      startMs: -4,
      stepMs: 5,
      steps: 6,
      perStep: true,
      parameter: 0.5,
      limit: 7,
    };
    const request = {
      hello: null,
      id: 7,
      select,
      series: labels,
      labelNames: null,
      labelValues: null,
      windowVersions: { shards: [2], fromMs: 1, toMs: 2 },
      cardinality: { shards: [3], fromMs: 1, toMs: 2 },
      credit: 3,
      cancel: true,
      wholeOnly: true,
      aggregate,
      exemplars: labels,
      metadata: labels,
    };
    expect(shardsService.Read.requestDeserialize(shardsService.Read.requestSerialize(request))).toEqual(request);

    const rejection = { ref: 4, code: 'TOO_OLD', message: 'm', samples: 2, retryAfterMs: 3 } as const;
    const refusal = { code: 'INVALID_LABELS', message: 'm' } as const;
    const outcome = {
      shard: 1,
      code: 'OK',
      message: 'm',
      retryAfterMs: 9,
      unknownRefs: Buffer.from('abcd'),
      rejections: [rejection],
      exemplars: 6,
      refusedExemplars: [refusal],
    } as const;
    const reply = { batchId: 5, shards: [outcome], speaks: [{ format: 'f', lowest: 1, highest: 2 }] };
    expect(shardsService.Write.responseDeserialize(shardsService.Write.responseSerialize(reply))).toEqual(reply);

    const copy = { region: 'r', zone: 'z', node: 'n', address: 'a:1', state: 'joining', epoch: 3, from: 'm' };
    const placement = { clusterId: 'c', shardCount: 1, revision: 8, shards: [{ copies: [copy] }] };
    const { responseSerialize, responseDeserialize } = clusterService.Placement;
    expect(responseDeserialize(responseSerialize(placement))).toEqual(placement);

    const sizes = { series: 2, samples: 3, memoryBytes: 4, logBytes: 5, diskBytes: 6 };
    const shard = { shard: 1, state: 'serving', ...sizes, problem: 'p', gap: 'g' };
    const behind = { records: 2, bytes: 3, inFlightBytes: 4, ageMs: 5, ageUnknown: true, lostRecords: 6 };
    const lag = { shard: 1, region: 'r', node: 'n', ...behind };
    const caller = { caller: 'c', newSeries: 1, newSeriesLastHour: 2, refusedSamples: 3 };
    const memory = { memoryUsedBytes: 4, memoryBudgetBytes: 5, residentBytes: 6 };
    const process = { region: 'r', zone: 'z', pid: 2, uptimeMs: 3, ...memory };
    const status = {
      node: 'n',
      version: 'v',
      ready: true,
      shards: [shard],
      ...process,
      lags: [lag],
      callers: [caller],
      moveBytesPerSecond: 32 * 2 ** 20,
      movedBytesPerSecond: 5 * 2 ** 20,
      seriesPerShard: 7,
      speaks: [{ format: 'f', lowest: 1, highest: 2 }],
      refused: ['r'],
    };
    expect(shardsService.Status.responseDeserialize(shardsService.Status.responseSerialize(status))).toEqual(status);

    const query = { query: 'up', timeMs: 1, startMs: 2, endMs: 3, stepMs: 4, region: 'east' };
    expect(clusterService.Query.requestDeserialize(clusterService.Query.requestSerialize(query))).toEqual(query);

    const erase = { hello: null, shards: [1], matchers: [], fromMs: 1, toMs: 2 };
    expect(shardsService.Delete.requestDeserialize(shardsService.Delete.requestSerialize(erase))).toEqual(erase);
    const clean = { hello: null, shards: [1] };
    const failed = { shard: 1, code: 'UNAVAILABLE' as const, message: 'm' };

    const compare = {
      hello: null,
      shard: 1,
      fromMs: 2,
      windows: [3, 4],
      buckets: true,
      region: 'r',
      node: 'n',
      recoveredRecords: 5,
    };
    expect(shardsService.Compare.requestDeserialize(shardsService.Compare.requestSerialize(compare))).toEqual(compare);
    const summary = { startMs: 1, digest: Buffer.from('d'), buckets: Buffer.from('b'), blockBytes: 2 };
    const known = { origin: 'r/n', ageMs: 4, lostRecords: 5, wallMs: 6 };
    const compared = { windows: [summary], settledMs: 3, gaps: [coverage], frontiers: [known] };
    const { Compare, Fetch, Repair } = shardsService;
    expect(Compare.responseDeserialize(Compare.responseSerialize(compared))).toEqual(compared);
    const fetch = { hello: null, shard: 1, windowMs: 2, buckets: Buffer.from('b'), block: true, annex: true };
    expect(Fetch.requestDeserialize(Fetch.requestSerialize(fetch))).toEqual(fetch);
    const fetched = { deletions: Buffer.from('d'), page: Buffer.from('p'), block: Buffer.from('b') };
    expect(Fetch.responseDeserialize(Fetch.responseSerialize(fetched))).toEqual(fetched);
    const repair = { hello: null, shards: [1], run: true };
    const repaired = {
      shard: 1,
      running: true,
      rounds: 2,
      compared: 3,
      differing: 4,
      healed: 5,
      samples: 6,
      bytes: 7,
      lastRoundMs: 8,
      lastError: 'e',
      filledWindows: 9,
      fillWindows: 10,
    };
    expect(Repair.responseDeserialize(Repair.responseSerialize({ shards: [repaired] }))).toEqual({
      shards: [repaired],
    });

    for (const [message, shape] of Object.entries({
      CompareRequest: compare,
      CompareReply: compared,
      WindowSummary: summary,
      FetchRequest: fetch,
      FetchReply: fetched,
      RepairRequest: repair,
      ShardRepair: repaired,
      DeleteRequest: erase,
      CleanRequest: clean,
      ShardFailure: failed,
      ReadRequest: request,
      ReadReply: answer,
      Coverage: coverage,
      SelectRequest: select,
      AggregateRequest: aggregate,
      Matcher: matcher,
      LabelsRequest: labels,
      ShardOutcome: outcome,
      Rejection: rejection,
      ExemplarRefusal: refusal,
      PlacementReply: placement,
      Copy: copy,
      ShardStatus: shard,
      StatusReply: status,
      LagStatus: lag,
      CallerStatus: caller,
      QueryRequest: query,
    })) {
      expect(fieldsOf(message), message).toEqual(Object.keys(shape).sort());
    }
  });

  it('names every code of the proto as an error code', async () => {
    const { isErrorCode } = await import('../../core/errors.ts');
    const codes = namesIn('Code');
    expect(codes).toContain('UNCONFIRMED');
    expect(codes.filter((code) => code !== 'OK' && !isErrorCode(code))).toEqual([]);
  });
});
