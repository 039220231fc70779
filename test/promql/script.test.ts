import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../coordinator/promql/engine.ts';
import { nodeEnv } from '../../core/env/node.ts';
import { readScript, runEvaluation } from './script.ts';

const folder = new URL('./testdata/', import.meta.url);
const engine = new Engine(nodeEnv, { experimental: true });

describe.each(readdirSync(folder).filter((name) => name.endsWith('.test')))('%s', (name) => {
  const evaluations = readScript(readFileSync(new URL(name, folder), 'utf8'));
  it.each(evaluations.map((e) => [`${e.line}: ${e.query}`, e] as const))('%s', async (_, evaluation) => {
    await runEvaluation(engine, evaluation);
  });
});

describe('the runner itself', () => {
  const check = (script: string): Promise<unknown> =>
    Promise.all(readScript(script).map((evaluation) => runEvaluation(engine, evaluation)));
  const load = 'load 1m\n  m{a="x"} 1+1x3\n\n';

  it.each([
    ['a wrong value', `${load}eval instant at 1m m\n  m{a="x"} 3\n`],
    ['a series too few', `${load}eval instant at 1m m\n`],
    ['a series too many', `${load}eval instant at 1m m\n  m{a="x"} 2\n  m{a="y"} 2\n`],
    ['a wrong step', `${load}eval range from 0 to 2m step 1m m\n  m{a="x"} 1 2 4\n`],
    ['a missing error', `${load}eval instant at 1m m\n  expect fail\n`],
    ['a missing info', `${load}eval instant at 1m m\n  expect info\n  m{a="x"} 2\n`],
  ])('notices %s', async (_, script) => {
    await expect(check(script)).rejects.toThrow();
  });
});
