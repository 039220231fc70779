/**
 * `npm run chaos -- [--minutes N] [--seed S] [--rounds N] [--span SECONDS] [--scenarios A,B]`: rounds of network and process faults
 * against two regions; with `--etcd`, a real etcd keeps the meta store; with `--namespaces`, regions are networks of their own. `--crashes N` instead: N rounds of kill -9 against one region, `--seeds N` times from one seed on.
 * Ends with 1 at the first broken promise, and then leaves the data where it is.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ETCD, EtcdServer } from '../test/meta/etcd-server.ts';
import { Namespaces } from './namespaces.ts';
import { runRegions } from './regions.ts';
import { chaos } from './rounds.ts';
import { NEEDS, type Need, SCENARIOS } from './scenarios.ts';
import { nowMs } from './traffic.ts';

const USAGE = `npm run chaos -- [flags]
  --minutes N       how long (10)
  --seed S          decides everything that is decided (the time of day)
  --rounds N        at most so many rounds
  --span SECONDS    of a round's strikes (15)
  --scenarios A,B   of ${Object.keys(SCENARIOS).join(', ')} (all that can be had here)
  --etcd            a real etcd keeps the meta store
  --namespaces      each region is a network namespace of its own; for the scenarios that drop packets (root)
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
        scenarios: text(''),
        etcd: { type: 'boolean', default: false },
        namespaces: { type: 'boolean', default: false },
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

/** Set within the namespaces: their prefix. */
const INSIDE = 'SILVERBACK_CHAOS_NAMESPACES';

/** Why this machine cannot do it, or undefined. */
function whyNot(need: Need): string | undefined {
  const isInside = process.env[INSIDE] !== undefined;
  if (need === 'drop') return isInside ? undefined : 'needs --namespaces';
  if (need === 'clock')
    return process.env['SILVERBACK_TEST_FAKETIME'] === undefined ? 'no libfaketime here' : undefined;
  return process.getuid?.() === 0 && process.platform === 'linux' ? undefined : 'mounting small disks takes root';
}

/** Those asked for, or all that can be had here; in namespaces, all that drop packets. */
function chooseScenarios(asked: string, say: (line: string) => void): string[] {
  const names = asked === '' ? Object.keys(SCENARIOS) : asked.split(',');
  return names.filter((name) => {
    if (SCENARIOS[name] === undefined) {
      throw new UsageError(`--scenarios: there is no ${name}; there are ${Object.keys(SCENARIOS).join(', ')}`);
    }
    const need = NEEDS[name];
    if (asked === '' && process.env[INSIDE] !== undefined) return need === 'drop';
    const why = need === undefined ? undefined : whyNot(need);
    if (why === undefined) return true;
    if (asked !== '') throw new UsageError(`--scenarios: ${name} cannot be run: ${why}`);
    say(`SKIPPED: ${name}: ${why}`);
    return false;
  });
}

/** This same run, in a namespace from which the other two can be reached. */
async function runInside(): Promise<void> {
  const prefix = `silverback-${process.pid}`;
  const namespaces = Namespaces.create(prefix);
  try {
    const [program = '', ...args] = [...namespaces.within('mid'), process.execPath, ...process.argv.slice(1)];
    const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: prefix } });
    // Also when this process is told to end.
    process.once('exit', () => {
      child.kill('SIGTERM');
      namespaces.remove();
    });
    process.exitCode = await new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? 1)));
  } finally {
    namespaces.remove();
  }
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
  const say = (line: string) => console.log(line);
  if (flags.namespaces && process.env[INSIDE] === undefined) return runInside();
  const scenarios = chooseScenarios(flags.scenarios, say);
  const directory = await mkdtemp(join(tmpdir(), 'silverback-chaos-'));
  if (crashes > 0) {
    for (let i = 0; i < seeds; i++) await chaos({ seed: seed + i, rounds: crashes, directory, say });
  } else {
    const toxiproxy = process.env['SILVERBACK_TEST_TOXIPROXY'];
    if (toxiproxy === undefined) throw new UsageError('there is no toxiproxy-server here, see above');
    const untilMs = nowMs() + minutes * 60_000;
    if (flags.etcd && ETCD === undefined) throw new UsageError('there is no etcd here, see above');
    const etcd = flags.etcd ? await EtcdServer.start() : undefined;
    const [faketime, inside] = [process.env['SILVERBACK_TEST_FAKETIME'], process.env[INSIDE]];
    const needs = new Set(scenarios.map((name) => NEEDS[name]));
    try {
      const result = await runRegions({
        ...{ seed, scenarios, rounds, untilMs, spanMs: span * 1_000 },
        ...{ toxiproxy, directory, say },
        extras: {
          ...(etcd === undefined ? {} : { etcd }),
          ...(needs.has('clock') && faketime !== undefined ? { faketime } : {}),
          smallDisks: needs.has('disk'),
          ...(inside === undefined ? {} : { namespaces: new Namespaces(inside) }),
        },
      });
      say(`${JSON.stringify(result)}`);
    } finally {
      await etcd?.stop();
    }
  }
  await rm(directory, { recursive: true });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

main().then(
  () => process.exit(),
  (error: Error) => {
    console.error(error instanceof UsageError ? `${error.message}\n\n${USAGE}` : error.message);
    process.exit(1);
  },
);
