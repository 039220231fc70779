/** `silverback verify --data-dir`: the node's own program reads the files; here is how it is run and what is shown of it. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import { type Context, show } from './context.ts';
import { progress } from './progress.ts';
import { bytes, count, facts, plural, wrap } from './table.ts';

/** Lines of node/verify/main.ts. */
type Line =
  | { readonly kind: 'progress'; readonly done: number; readonly total: number; readonly file: string }
  | ({ readonly kind: 'finding' } & Finding)
  | ({ readonly kind: 'end' } & Totals);

interface Finding {
  /** `damage`: something is lost or cannot be read. `note`: dealt with already, or what an interrupted write leaves. */
  readonly severity: 'damage' | 'note';
  readonly file: string;
  readonly message: string;
}

interface Totals {
  readonly nodes: number;
  readonly shards: number;
  readonly segments: number;
  readonly records: number;
  readonly checkpoints: number;
  readonly blocks: number;
  readonly blockSamples: number;
  readonly bytes: number;
}

export interface DirectoryReport extends Totals {
  readonly findings: readonly Finding[];
}

export async function verifyDirectory(
  context: Context,
  command: Command,
  directory: string,
  shard: number | undefined,
): Promise<void> {
  const args = ['--data-dir', directory, ...(shard === undefined ? [] : ['--shard', String(shard)])];
  const verifier = context.startVerifier(args);
  const findings: Finding[] = [];
  let totals: Totals | undefined;
  let bar: ReturnType<typeof progress> | undefined;
  try {
    for await (const text of createInterface({ input: verifier.output })) {
      const line = JSON.parse(text) as Line;
      if (line.kind === 'progress') {
        bar ??= progress(context, line.total);
        bar.update(line.done, line.file.slice(-40));
      } else if (line.kind === 'finding') {
        const { severity, file, message } = line;
        findings.push({ severity, file, message });
      } else {
        const { kind, ...counts } = line;
        totals = counts;
      }
    }
  } finally {
    bar?.stop();
  }
  const { code, error } = await verifier.ended;
  if (totals === undefined) throw new SilverbackError('UNAVAILABLE', error.trim() || `the verifier ended with ${code}`);
  const data: DirectoryReport = { ...totals, findings };
  show(context, command, { data, text: () => directoryText(data, context.columns) });
  const damages = findings.filter(({ severity }) => severity === 'damage').length;
  if (damages > 0) throw new SilverbackError('CORRUPT', `${plural(damages, 'damage')} found`);
}

export function directoryText(report: DirectoryReport, width: number): string {
  const { nodes, shards, segments, records, checkpoints, blocks, blockSamples, findings } = report;
  const damages = findings.filter(({ severity }) => severity === 'damage');
  return [
    ...findings.map(({ severity, file, message }) => `${wrap(`${severity}: ${file}: ${message}`, width, '  ')}\n`),
    facts(
      [
        ['Checked', `${plural(nodes, 'node')}, ${plural(shards, 'shard')}, ${bytes(report.bytes)}`],
        ['Logs', `${plural(segments, 'segment')}, ${count(records)} records`],
        ['Checkpoints', String(checkpoints)],
        ['Blocks', `${blocks}, ${count(blockSamples)} samples`],
        ['Damages', damages.length === 0 ? 'none' : String(damages.length)],
      ],
      width,
    ),
  ].join('');
}
