/** `silverback verify`: whether copies hold the same samples, or whether a data directory is sound. */
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import type { VerifyReport, WindowDifference } from '../cluster/digests.ts';
import type { StatusReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show, wholeNumber } from './context.ts';
import type { Coordinator } from './coordinator.ts';
import { progress } from './progress.ts';
import { plural, wrap } from './table.ts';
import { verifyDirectory } from './verify-directory.ts';

/** Writes on their way make copies differ for a moment: those that do are asked again. */
const TRIES = 4;
const PAUSE_MS = 1_500;

export function addVerify(program: Command, context: Context): void {
  program
    .command('verify')
    .description('compares the digests of all copies; with --data-dir, checks every file of a node that is stopped')
    .option('--shard <N>', 'this shard only', wholeNumber(0, 65_535))
    .option('--data-dir <DIR>', "a node's data directory, or one that holds several; nothing in it is changed")
    .addHelpText('after', examples('verify', 'verify --shard 3 --output json', 'verify --data-dir ./data'))
    .action(async ({ shard, dataDir }: { shard?: number; dataDir?: string }, command: Command) => {
      if (dataDir !== undefined) return verifyDirectory(context, command, dataDir, shard);
      const reports = await compare(context, coordinatorOf(command), shard);
      show(context, command, { data: reports, text: () => verifyText(reports, context.columns) });
      const different = reports.filter(({ differing }) => differing.some(({ settled }) => settled));
      if (different.length > 0) {
        const what = `${plural(different.length, 'shard')} with copies that differ`;
        throw new SilverbackError('CORRUPT', `${what}: silverback repair run brings each what it lacks`);
      }
      if (reports.some(({ unasked }) => unasked.length > 0)) {
        throw new SilverbackError('UNAVAILABLE', 'not every copy could be compared');
      }
    });
}

/** Of one shard, or of all. */
export async function compare(context: Context, coordinator: Coordinator, shard?: number): Promise<VerifyReport[]> {
  const { shardCount } = (await coordinator.get<StatusReport>('/cluster/status')).data;
  const shards = shard === undefined ? Array.from({ length: shardCount }, (_, id) => id) : [shard];
  const reports = new Map<number, VerifyReport>();
  const bar = progress(context, shards.length);
  const ask = async (id: number): Promise<void> => {
    reports.set(id, (await coordinator.get<VerifyReport>('/cluster/verify', { shard: String(id) })).data);
  };
  try {
    for (const [i, id] of shards.entries()) {
      bar.update(i, `shard ${id}`);
      await ask(id);
    }
    for (let tries = 1; tries < TRIES; tries++) {
      const different = shards.filter((id) => (reports.get(id) as VerifyReport).differing.length > 0);
      if (different.length === 0) break;
      bar.update(shards.length, `looking again at ${plural(different.length, 'shard')}`);
      await new Promise<void>((resolve) => void context.env.timers.after(PAUSE_MS, resolve));
      for (const id of different) await ask(id);
    }
  } finally {
    bar.stop();
  }
  return [...reports.values()];
}

export function verifyText(reports: readonly VerifyReport[], width: number): string {
  const lines: string[] = [];
  let equal = 0;
  let open = 0;
  for (const { shard, windows, differing, unasked, compared } of reports) {
    const settled = differing.filter((one) => one.settled);
    open += differing.length - settled.length;
    equal += windows - differing.length;
    if (compared < 2 && unasked.length === 0) lines.push(`shard ${shard}: one copy, nothing to compare it with`);
    for (const { region, node, reason } of unasked) {
      lines.push(`shard ${shard}: ${region}/${node} could not be compared: ${reason}`);
    }
    for (const one of settled) lines.push(`shard ${shard}: ${differenceText(one)}`);
  }
  const summary = `${plural(equal, 'window')} equal in all copies that were compared, in ${plural(reports.length, 'shard')}`;
  const still =
    open === 0 ? [] : [`${plural(open, 'window')} being written, where copies differ by what is on its way`];
  return [...lines, summary, ...still].map((line) => `${wrap(line, width, '  ')}\n`).join('');
}

export function differenceText({ start, buckets, copies }: WindowDifference): string {
  const groups = new Map<string, string[]>();
  for (const { region, node, digest } of copies) {
    groups.set(digest, [...(groups.get(digest) ?? []), `${region}/${node}`]);
  }
  const shown = [...groups].map(
    ([digest, names]) => `${names.join(', ')} ${digest === '' ? 'has nothing' : digest.slice(0, 8)}`,
  );
  const window = new Date(start * 1_000).toISOString().slice(0, 16);
  return `window ${window}Z differs in ${buckets} of 256 parts: ${shown.join('; ')}`;
}
