/**
 * `npm run chaos -- [--seed S] [--rounds N] [--seeds N]`: rounds of kill -9 against a cluster under load, from one seed on.
 * Ends with 1 at the first broken promise, and then leaves the data where it is.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chaos } from './rounds.ts';

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    rounds: { type: 'string', default: '10' },
    seeds: { type: 'string', default: '1' },
  },
});
const directory = await mkdtemp(join(tmpdir(), 'silverback-chaos-'));
try {
  for (let i = 0; i < Number(flags.seeds); i++) {
    const seed = Number(flags.seed) + i;
    await chaos({ seed, rounds: Number(flags.rounds), directory, say: (line) => console.log(line) });
  }
  await rm(directory, { recursive: true });
  process.exit(0);
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
