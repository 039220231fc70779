/** Commands that change something: what they would do can be seen first, and they ask before they do it. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { SilverbackError } from '../../core/errors.ts';
import { type Context, type Shared, show } from './context.ts';

export interface Changing {
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

/** Adds what every changing command has. */
export function changing(command: Command): Command {
  return command
    .option('--dry-run', 'print what would be done, and do nothing')
    .option('-y, --yes', 'do it without asking');
}

/**
 * Shows the plan; true when it is to be carried out, false when it was only to be seen. Without a terminal there is nobody to
 * ask, so --yes has to be said.
 * @throws SilverbackError CANCELLED when somebody says no: what is to follow must not, as if it had been done
 */
export async function agreed(
  context: Context,
  command: Command,
  plan: { readonly data: unknown; readonly text: string },
): Promise<boolean> {
  const { dryRun = false, yes = false, output } = command.optsWithGlobals<Shared & Changing>();
  if (dryRun) {
    show(context, command, { data: { plan: plan.data }, text: () => plan.text });
    return false;
  }
  if (output === 'table') context.err(plan.text);
  if (yes) return true;
  if (context.input.isTTY !== true) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      'there is no terminal to ask on: --yes does it, --dry-run shows the plan',
    );
  }
  const questions = createInterface({ input: context.input, output: context.answers });
  try {
    // The end of the input, or Ctrl-C, closes it without an answer.
    const closed = new Promise<string>((resolve) => questions.once('close', () => resolve('')));
    const answer = await Promise.race([questions.question('Do it? [y/N] '), closed]);
    if (/^y(es)?$/i.test(answer.trim())) return true;
  } finally {
    questions.close();
  }
  throw new SilverbackError('CANCELLED', 'nothing was done');
}
