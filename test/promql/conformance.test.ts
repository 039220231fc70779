/** The golden PromQL cases (test/conformance), run in this process against a store in memory. */
import { describe, expect, it } from 'vitest';
import { Engine, type QueryTime } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { encodeResult } from '../../coordinator/promql/format.ts';
import { nodeEnv } from '../../core/env/node.ts';
import {
  base,
  type Case,
  cases,
  check,
  fill,
  RECORDED_WRONG,
  type Result,
  readDataset,
} from '../conformance/golden.ts';
import { MemoryStore } from './store.ts';

const store = new MemoryStore();
for (const { labels, ...columns } of readDataset()) store.add(labels, columns);
const engine = new Engine(nodeEnv);

/** Prometheus's own JSON of the answer, as the API would give it. */
async function run(c: Case): Promise<{ errorType: string; httpCode: number } | Result> {
  const ms = (seconds: number): number => Math.round((base + seconds) * 1000);
  const time: QueryTime = c.range
    ? { startMs: ms(c.range[0]), endMs: ms(c.range[1]), stepMs: c.range[2] * 1000 }
    : { timeMs: ms(c.at as number) };
  try {
    const { value } = await engine.query(store, fill(c.expr as string), time);
    return JSON.parse(Buffer.concat([...encodeResult(value)]).toString('utf8')) as Result;
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    expect(error.message).not.toBe('');
    return { errorType: error.type, httpCode: error.httpStatus };
  }
}

const groups = new Map<string, Case[]>();
for (const c of cases) if (c.expr !== undefined) groups.set(c.group, [...(groups.get(c.group) ?? []), c]);

describe.each([...groups])('%s', (_, members) => {
  it.each(members.map((c) => [`${c.id} ${c.expr} ${c.range ? `over ${c.range}` : `at ${c.at}`}`, c] as const))(
    '%s',
    async (_, c) => {
      const got = await run(c);
      const wrong = RECORDED_WRONG.get(c.id);
      if (wrong !== undefined) {
        expect(() => check(c, got as Result)).toThrow(wrong);
        return;
      }
      if (c.expect.status === 'error') {
        expect(got).toEqual({ errorType: c.expect.errorType, httpCode: c.expect.httpCode });
        return;
      }
      if ('errorType' in got) expect(got).toBe('an answer');
      else check(c, got);
    },
  );
});
