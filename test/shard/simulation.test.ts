import { expect, test } from 'vitest';
import { simulate } from './simulation.ts';

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 200);
const FIRST = Number(process.env['SIM_FIRST'] ?? 0);

test('crashes', { timeout: 120_000 }, async () => {
  const t = performance.now();
  const failures: string[] = [];
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    try {
      if (process.env["SIM_TRACE"]) console.error("seed", seed);
      await simulate(seed);
    } catch (error) {
      failures.push(process.env['SIM_STACK'] ? (error as Error).stack! : (error as Error).message);
      if (failures.length > 5) break;
    }
  }
  console.log(((performance.now() - t) / SEEDS).toFixed(2), 'ms a seed');
  expect(failures).toEqual([]);
});
