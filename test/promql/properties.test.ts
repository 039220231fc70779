/** What must hold of any query on any data. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Engine, type QueryResult } from '../../coordinator/promql/engine.ts';
import { QueryError } from '../../coordinator/promql/error.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { formatLabels } from '../../core/labels.ts';
import { BASE_MS, dataset, scalarExpression, storeOf, vectorExpression } from './arbitrary.ts';
import type { MemoryStore } from './store.ts';

const engine = new Engine(nodeEnv, { experimental: true });

/** Ties and the whole range's end make these differ between a range query and its steps. */
const DEPENDS_ON_RANGE = /@ (?:end|start)\(\)|topk|bottomk/;

/** Every point as `time labels` -> value, or the error's type. */
function points({ value }: QueryResult): Map<string, number> {
  const found = new Map<string, number>();
  if (value.type === 'scalar') found.set(`${value.timeMs} {}`, value.value);
  if (value.type === 'vector') {
    for (const [i, labels] of value.labels.entries()) {
      found.set(`${value.timeMs} ${formatLabels(labels)}`, value.values[i] as number);
    }
  }
  if (value.type === 'matrix') {
    for (const { labels, timestamps, values } of value.series) {
      for (const [i, time] of timestamps.entries()) found.set(`${time} ${formatLabels(labels)}`, values[i] as number);
    }
  }
  return found;
}

async function ask(
  store: MemoryStore,
  query: string,
  time: Parameters<Engine['query']>[2],
): Promise<Map<string, number> | 'failed'> {
  try {
    return points(await engine.query(store, query, time));
  } catch (error) {
    if (error instanceof QueryError) return 'failed';
    throw error;
  }
}

describe('a range query', () => {
  it('is the sequence of its instant queries', { timeout: 120_000 }, async () => {
    const expression = fc.oneof({ weight: 8, arbitrary: vectorExpression }, { weight: 1, arbitrary: scalarExpression });
    await fc.assert(
      fc.asyncProperty(
        dataset,
        fc.array(expression, { minLength: 6, maxLength: 6 }),
        fc.integer({ min: 0, max: 1_800_000 }),
        fc.constantFrom(15_000, 60_000, 37_000),
        async (data, queries, startMs, stepMs) => {
          const store = storeOf(data);
          const start = BASE_MS + startMs;
          for (const query of queries) {
            if (DEPENDS_ON_RANGE.test(query)) continue;
            const range = await ask(store, query, { startMs: start, endMs: start + 9 * stepMs, stepMs });
            const steps = new Map<string, number>();
            let failed = false;
            for (let i = 0; i < 10; i++) {
              const step = await ask(store, query, { timeMs: start + i * stepMs });
              if (step === 'failed') failed = true;
              else for (const [key, value] of step) steps.set(key, value);
            }
            // A range function's duplicates are an error wherever they are in the range, so only one way round holds.
            if (range === 'failed') continue;
            expect(failed, query).toBe(false);
            expect([...range].sort(), query).toEqual([...steps].sort());
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('an answer', () => {
  it('has each label set once, in order, with ascending times', async () => {
    await fc.assert(
      fc.asyncProperty(dataset, vectorExpression, async (data, query) => {
        let result: QueryResult;
        try {
          result = await engine.query(storeOf(data), query, {
            startMs: BASE_MS,
            endMs: BASE_MS + 2_400_000,
            stepMs: 97_000,
          });
        } catch (error) {
          if (error instanceof QueryError) return;
          throw error;
        }
        if (result.value.type !== 'matrix') throw new Error('not a matrix');
        const names = result.value.series.map(({ labels }) => formatLabels(labels));
        expect(new Set(names).size, query).toBe(names.length);
        for (const { timestamps, values } of result.value.series) {
          expect(timestamps.length).toBe(values.length);
          expect(timestamps.length).toBeGreaterThan(0);
          for (let i = 1; i < timestamps.length; i++)
            expect(timestamps[i]).toBeGreaterThan(timestamps[i - 1] as number);
        }
      }),
      { numRuns: 150 },
    );
  });
});
