/** The command line as a whole: its commands, its shared options, and how it says what is wrong. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { type ErrorCode, SilverbackError } from '../../core/errors.ts';
import { addCardinality } from './cardinality.ts';
import { addCompletion } from './completion.ts';
import { type Context, examples } from './context.ts';
import { addLag } from './lag.ts';
import { addRebalance } from './move.ts';
import { addMoves } from './moves.ts';
import { addNodes } from './nodes.ts';
import { addQuery } from './query.ts';
import { addRepair } from './repair.ts';
import { addShards } from './shards.ts';
import { addStatus } from './status.ts';
import { addVerify } from './verify.ts';
import { addWrite } from './write.ts';

const DEFAULT_URL = 'http://127.0.0.1:9090';

/** What every command ends with. */
const EXIT = { done: 0, failed: 1, wrong: 2, bug: 70 } as const;
/** The command line breaks a rule, whatever the cluster is like. A name that is not known may be so later. */
const WRONG: readonly ErrorCode[] = ['INVALID_ARGUMENT', 'INVALID_LABELS'];
const EXIT_TEXT = `
Ends with ${EXIT.done} when it is done (or --dry-run has shown it), ${EXIT.failed} when it was refused, declined or
failed, ${EXIT.wrong} when the command line is wrong. One line says why.
`;

export function createProgram(context: Context): Command {
  const program = new Command('silverback')
    .description('Looks after a Silverback cluster, through one of its coordinators.')
    .addOption(
      new Option('--url <URL>', "the coordinator's HTTP address")
        .env('SILVERBACK_URL')
        .default(DEFAULT_URL)
        .argParser(parseUrl),
    )
    .addOption(new Option('--output <FORMAT>', 'how answers look').choices(['table', 'json']).default('table'))
    .helpOption('-h, --help', 'all of this; with examples after a command')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    // What is wrong is said once, by `run`.
    .configureOutput({ writeOut: context.out, writeErr: context.err, outputError: () => undefined })
    .addHelpText('after', examples('status', 'nodes --url http://10.0.0.1:9090', 'shards --output json', 'query up'))
    .addHelpText('after', EXIT_TEXT)
    .exitOverride();
  addStatus(program, context);
  addNodes(program, context);
  addShards(program, context);
  addMoves(program, context);
  addRebalance(program, context);
  addLag(program, context);
  addCardinality(program, context);
  addVerify(program, context);
  addRepair(program, context);
  addQuery(program, context);
  addWrite(program, context);
  addCompletion(program, context.executable);
  return program;
}

/** Runs a command line; resolves with the exit code. */
export async function run(program: Command, context: Pick<Context, 'err'>, argv: readonly string[]): Promise<number> {
  try {
    await program.parseAsync(argv);
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.done;
      // Without a command, the help was shown instead.
      if (error.code !== 'commander.help') context.err(`${oneLine(error.message)} (try --help)\n`);
      return EXIT.wrong;
    }
    if (error instanceof SilverbackError) {
      context.err(`${error.message}\n`);
      return WRONG.includes(error.code) ? EXIT.wrong : EXIT.failed;
    }
    context.err(`a bug: ${(error as Error).stack ?? String(error)}\n`);
    return EXIT.bug;
  }
}

function oneLine(message: string): string {
  return message.replace(/^error: /, '').replaceAll('\n', ' ');
}

function parseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return text;
  throw new InvalidArgumentError(`expected an address such as ${DEFAULT_URL}`);
}
