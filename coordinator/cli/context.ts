/** What every command is given: the outside world, and the options that all commands share. */
import { type Command, InvalidArgumentError } from 'commander';
import type { Env } from '../../core/env/env.ts';
import { Coordinator } from './coordinator.ts';

export interface Context {
  readonly env: Env;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Width of the terminal; Infinity: none. */
  readonly columns: number;
  /** Where questions and bars are shown: the terminal behind standard error. */
  readonly answers: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Runs the program that checks a data directory. */
  readonly startVerifier: (args: readonly string[]) => Verifier;
  /** Path of the program that the shell runs. */
  readonly executable: string;
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
}

export interface Verifier {
  readonly output: NodeJS.ReadableStream;
  /** Resolves with its exit code, null when a signal ended it, and what it said on standard error. */
  readonly ended: Promise<{ readonly code: number | null; readonly error: string }>;
}

/** Options of the whole program, which may stand before or after the command. */
export interface Shared {
  readonly url: string;
  readonly output: 'table' | 'json';
}

/** Something to show: JSON as it is, or as text for people. */
export interface Shown {
  readonly data: unknown;
  readonly warnings?: readonly string[];
  readonly text: () => string;
}

export function coordinatorOf(command: Command): Coordinator {
  return new Coordinator(command.optsWithGlobals<Shared>().url);
}

/** Warnings go to standard error, so that what is piped on stays what it is. */
export function show(context: Context, command: Command, { data, warnings = [], text }: Shown): void {
  for (const warning of warnings) context.err(`warning: ${warning}\n`);
  const isJson = command.optsWithGlobals<Shared>().output === 'json';
  context.out(isJson ? `${JSON.stringify(data, null, 2)}\n` : text());
}

/** For a commander option: a whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}`);
  };
}

/** Examples below a command's help. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ silverback ${line}\n`).join('')}`;
}
