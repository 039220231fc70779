/**
 * Checks the data directory of a node that is stopped, for `silverback verify --data-dir`: a JSON object a line, `kind`
 * progress, finding or end. Ends with 0 whatever it finds; with 1 and a line on standard error when it cannot look.
 */
import { Command } from 'commander';
import { nodeEnv } from '../../core/env/node.ts';
import { SilverbackError } from '../../core/errors.ts';
import { verifyDirectory } from './verify.ts';

const PROGRESS_MS = 100;

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function main(): Promise<void> {
  const program = new Command('silverback-verify')
    .requiredOption('--data-dir <DIR>', "a node's data directory, or one that holds several")
    .option('--shard <N>', 'this shard only')
    .parse();
  const { dataDir, shard } = program.opts<{ dataDir: string; shard?: string }>();
  let saidMs = Number.NEGATIVE_INFINITY;
  const totals = await verifyDirectory(nodeEnv, dataDir.replace(/(?<=.)\/+$/, ''), {
    shard: shard === undefined ? undefined : Number(shard),
    found: (finding) => say({ kind: 'finding', ...finding }),
    progress: (done, total, file) => {
      const nowMs = nodeEnv.clock.monotonicMs();
      if (nowMs - saidMs < PROGRESS_MS) return;
      saidMs = nowMs;
      say({ kind: 'progress', done, total, file });
    },
  });
  say({ kind: 'end', ...totals });
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof SilverbackError ? error.message : (error as Error).stack}\n`);
  process.exitCode = 1;
});
