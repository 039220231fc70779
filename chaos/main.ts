/**
 * `npm run chaos -- [--minutes N] [--seed S] [--rounds N] [--span SECONDS] [--scenarios A,B]`: rounds of network and process faults
 * against two regions. `--crashes N` instead: N rounds of kill -9 against one region, `--seeds N` times from one seed on.
 * Ends with 1 at the first broken promise, and then leaves the data where it is.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runRegions } from './regions.ts';
import { chaos } from './rounds.ts';
import { SCENARIOS } from './scenarios.ts';
import { nowMs } from './traffic.ts';

const USAGE = `npm run chaos -- [flags]
  --minutes N       how long (10)
  --seed S          decides everything that is decided (the time of day)
  --rounds N        at most so many rounds
  --span SECONDS    of a round's strikes (15)
  --scenarios A,B   of ${Object.keys(SCENARIOS).join(', ')} (all)
  --crashes N       instead: so many rounds of kill -9 against one region
  --seeds N         of --crashes: so many seeds, from --seed on (1)`;

class UsageError extends Error {}

function readFlags() {
  const text = (fallback: string) => ({ type: 'string', default: fallback }) as const;
  try {
    const { values } = parseArgs({
      options: {
        seed: text(String(Date.now() % 1_000_000)),
        minutes: text('10'),
        rounds: text('1000000'),
        span: text('15'),
        scenarios: text(Object.keys(SCENARIOS).join(',')),
        crashes: text('0'),
        seeds: text('1'),
        help: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function wholeNumber(flag: string, text: string, least: number): number {
  if (/^\d{1,9}$/.test(text) && Number(text) >= least) return Number(text);
  throw new UsageError(`--${flag}: expected a whole number from ${least} on, got "${text}"`);
}

async function main(): Promise<void> {
  const flags = readFlags();
  if (flags.help) {
    console.log(USAGE);
    return;
  }
  const seed = wholeNumber('seed', flags.seed, 0);
  const [minutes, rounds] = [wholeNumber('minutes', flags.minutes, 1), wholeNumber('rounds', flags.rounds, 1)];
  const [span, crashes] = [wholeNumber('span', flags.span, 2), wholeNumber('crashes', flags.crashes, 0)];
  const seeds = wholeNumber('seeds', flags.seeds, 1);
  const scenarios = flags.scenarios.split(',');
  for (const name of scenarios) {
    if (SCENARIOS[name] !== undefined) continue;
    throw new UsageError(`--scenarios: there is no ${name}; there are ${Object.keys(SCENARIOS).join(', ')}`);
  }
  const say = (line: string) => console.log(line);
  const directory = await mkdtemp(join(tmpdir(), 'silverback-chaos-'));
  if (crashes > 0) {
    for (let i = 0; i < seeds; i++) await chaos({ seed: seed + i, rounds: crashes, directory, say });
  } else {
    const toxiproxy = process.env['SILVERBACK_TEST_TOXIPROXY'];
    if (toxiproxy === undefined) throw new UsageError('there is no toxiproxy-server here, see above');
    const untilMs = nowMs() + minutes * 60_000;
    const result = await runRegions({
      ...{ seed, scenarios, rounds, untilMs, spanMs: span * 1_000 },
      ...{ toxiproxy, directory, say },
    });
    say(`${JSON.stringify(result)}`);
  }
  await rm(directory, { recursive: true });
}

main().then(
  () => process.exit(0),
  (error: Error) => {
    console.error(error instanceof UsageError ? `${error.message}\n\n${USAGE}` : error.message);
    process.exit(1);
  },
);
