/**
 * `silverback`: what an operator types. Asks a coordinator over HTTP like everybody else; writes through the SDK.
 *
 * Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong.
 */
import { fileURLToPath } from 'node:url';
import { nodeEnv } from '../../core/env/node.ts';
import { createProgram, run } from './program.ts';

const context = {
  env: nodeEnv,
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
  /** Of a pipe: as wide as it takes. */
  columns: process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY,
  executable: fileURLToPath(new URL('../../../coordinator/cli/silverback.js', import.meta.url)),
  input: process.stdin,
};

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await run(createProgram(context), context, process.argv);
