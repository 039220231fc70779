/** `silverback completion`: what a shell needs to complete command lines. */
import { script } from '@bomb.sh/tab';
import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import { examples } from './context.ts';

/** To be called when all other commands are there. `executable` is the path of this program. */
export function addCompletion(program: Command, executable: string): void {
  // Adds this command, and a hidden one that the scripts call.
  tab(program, { completionCommandName: 'completion' });
  program.commands
    .find((command) => command.name() === 'completion')
    ?.description('prints a script with which a shell completes these commands')
    .addHelpText(
      'after',
      `${examples('completion bash > ~/.local/share/bash-completion/completions/silverback')}
What it completes is the word silverback: an alias of npx silverback,
or what npm link puts into the PATH. In bash it needs the package bash-completion.
`,
    )
    .action((shell: string) => {
      // By its path: a shell's functions do not see an alias.
      script(shell, 'silverback', `${quoted(process.execPath)} ${quoted(executable)}`);
    });
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
