/** `silverback write`: samples from the command line or from standard input, acknowledged before it ends. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { Client } from '../../client/client.ts';
import { SilverbackError } from '../../core/errors.ts';
import type { StatusReport } from '../cluster/report.ts';
import { type Context, coordinatorOf, examples, show } from './context.ts';
import { parseSample, type Typed } from './samples.ts';
import { plural } from './table.ts';

/** Samples that are written at a time. */
const BATCH_SAMPLES = 10_000;

export function addWrite(program: Command, context: Context): void {
  program
    .command('write')
    .description('writes samples, from the arguments or, without any, from standard input, one a line')
    .argument('[SAMPLE...]', 'metric{label="value"} VALUE [MILLISECONDS since 1970; default: now]')
    .addHelpText(
      'after',
      examples(
        'write \'temperature{room="kitchen"} 21.5\'',
        "write 'deploys_total 7' 'deploys_total{service=\"web\"} 3 1764400000000'",
        'write < samples.txt',
      ),
    )
    .action(async (samples: readonly string[], _options, command: Command) => {
      const lines = samples.length > 0 ? samples : linesOf(context);
      const coordinator = coordinatorOf(command);
      const { data: status } = await coordinator.get<StatusReport>('/cluster/status');
      const client = new Client({
        endpoints: [reachable(status.grpc, coordinator.url)],
        caller: 'cli',
        retryMs: 30_000,
        // `write` rejects with the same.
        onDrop: () => undefined,
      });
      try {
        const written = await writeAll(client, lines, context.env.clock.nowMs());
        show(context, command, { data: { written }, text: () => `${plural(written, 'sample')} written\n` });
      } finally {
        await client.close();
      }
    });
}

/** What stands before a line that is wrong is written, and the error says how much that is. */
async function writeAll(
  client: Client,
  lines: Iterable<string> | AsyncIterable<string>,
  nowMs: number,
): Promise<number> {
  let written = 0;
  let number = 0;
  let batch: Typed[] = [];
  const flush = async (): Promise<void> => {
    await client.write(batch);
    written += batch.length;
    batch = [];
  };
  const many = !Array.isArray(lines);
  for await (const line of lines) {
    number++;
    let sample: Typed | undefined;
    try {
      sample = parseSample(line, nowMs);
    } catch (error) {
      // Of arguments nothing is written unless all are right; of a stream nobody knows what is to come.
      if (!many) throw error;
      await flush();
      const { message } = error as Error;
      throw new SilverbackError(
        'INVALID_ARGUMENT',
        `line ${number}: ${message}; ${plural(written, 'sample')} before it written`,
      );
    }
    if (sample !== undefined) batch.push(sample);
    if (batch.length >= BATCH_SAMPLES) await flush();
  }
  if (batch.length > 0) await flush();
  return written;
}

/** Opened when it is read: lines that readline reads before somebody asks for them are lost, and so is the end. */
async function* linesOf({ input, err }: Context): AsyncGenerator<string> {
  if (input.isTTY === true) err('reading samples from the terminal, one a line; Ctrl-D ends\n');
  yield* createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
}

/** A coordinator that listens everywhere is where its HTTP API is. */
function reachable(grpc: string, url: string): string {
  return grpc.replace(/^(0\.0\.0\.0|\[::\])(?=:\d+$)/, new URL(url).hostname);
}
