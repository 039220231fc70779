/**
 * `silverback`: what an operator types. Asks a coordinator over HTTP like everybody else; writes through the SDK.
 *
 * What it ends with is in program.ts.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { nodeEnv } from '../../core/env/node.ts';
import type { Context, Verifier } from './context.ts';
import { createProgram, run } from './program.ts';

const context: Context = {
  env: nodeEnv,
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
  /** Of a pipe: as wide as it takes. */
  columns: process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY,
  executable: fileURLToPath(new URL('../../../coordinator/cli/silverback.js', import.meta.url)),
  input: process.stdin,
  answers: process.stderr,
  startVerifier,
};

/** The node's own readers read its files; nodes are other programs than coordinators. */
function startVerifier(args: readonly string[]): Verifier {
  const program = fileURLToPath(new URL('../../node/verify/main.js', import.meta.url));
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let error = '';
  child.stderr.on('data', (bytes: Buffer) => {
    error += bytes.toString();
  });
  const ended = new Promise<{ code: number | null; error: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, error }));
  });
  return { output: child.stdout, ended };
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

// The timers of `env` do not keep a process alive, and a command that waits may have nothing else.
const alive = setInterval(() => undefined, 60_000);
process.exitCode = await run(createProgram(context), context, process.argv);
clearInterval(alive);
