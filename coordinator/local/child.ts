/**
 * A process of the local cluster: started, watched, started again when it dies, ended when asked.
 *
 * A child is a process group of its own, so that Ctrl-C in the terminal reaches the supervisor only, which then ends the
 * children in order. A child whose supervisor dies sees its IPC channel close, and stops.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';

const FIRST_RESTART_MS = 500;
const MOST_RESTART_MS = 10_000;
/** A child that ran this long was well: its next death starts the waiting over. */
const WELL_AFTER_MS = 30_000;
/**
 * Bodies and batches pass through as buffers whose owners are small young objects. A small young generation is collected
 * often and cheaply, which frees the buffers before they force a full collection: a third less resident memory.
 *
 * V8 throws code away that a few full collections did not see run: while data is loaded, that of the queries, which was warmed
 * at the start. (`--always-sparkplug` and `--no-lazy-feedback-allocation` made no difference once it was warm.)
 */
export const NODE_FLAGS = [
  ...['--enable-source-maps', '--max-semi-space-size=4', '--no-flush-bytecode'],
  // grpc-js names the host that it speaks TLS to, even when it is an address.
  '--disable-warning=DEP0123',
];
/**
 * libuv's threads for the disk. Each write of a log may wake as many as are idle, and of a node's two cores they find little: with
 * three instead of four remote write of small bodies takes a tenth less CPU. Fsyncs hold two at most (core/env/node.ts), so one is
 * left for writes.
 */
const POOL_THREADS = '3';
/** pino's numbers. */
const WARN_LEVEL = 40;
const FATAL_LEVEL = 60;

export interface ChildOptions {
  readonly name: string;
  readonly script: string;
  readonly args: readonly string[];
  /** Takes all that the child prints. */
  readonly logFile: string;
  /** Takes a line for the terminal. */
  readonly say: (line: string) => void;
  /** Told when the child ended by itself before `keep` was called: it cannot run as it was started. */
  readonly failed: (reason: string) => void;
}

export class Child {
  readonly name: string;
  readonly #options: ChildOptions;
  readonly #log: WriteStream;
  #process: ChildProcess | undefined;
  #startedMs = 0;
  #restartMs = FIRST_RESTART_MS;
  #restartTimer: NodeJS.Timeout | undefined;
  #kept = false;
  #stopping = false;
  #exited: Promise<void> = Promise.resolve();
  /** The last thing it complained about, for the reason of its death. */
  #lastComplaint = '';

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
    this.#log = createWriteStream(options.logFile, { flags: 'a' });
    this.#start();
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** From now on a death, whatever its reason, is answered by a restart. */
  keep(): void {
    this.#kept = true;
  }

  /** SIGTERM, and SIGKILL after `graceMs`. Resolves when the process is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restartTimer);
    const timer = setTimeout(() => {
      this.#options.say(`${this.name} did not stop within ${graceMs / 1_000} s and is killed`);
      this.#process?.kill('SIGKILL');
    }, graceMs);
    this.#process?.kill('SIGTERM');
    await this.#exited;
    clearTimeout(timer);
    this.#log.end();
  }

  kill(): void {
    this.#stopping = true;
    this.#process?.kill('SIGKILL');
  }

  #start(): void {
    this.#startedMs = performance.now();
    const { script, args } = this.#options;
    const child = spawn(process.execPath, [...NODE_FLAGS, script, ...args], {
      env: { UV_THREADPOOL_SIZE: POOL_THREADS, ...process.env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#process = child;
    for (const output of [child.stdout, child.stderr]) {
      if (output !== null) createInterface({ input: output }).on('line', (line) => this.#heard(line));
    }
    child.on('error', (error) => this.#heard(`cannot start: ${error.message}`));
    this.#exited = new Promise((resolve) => {
      // Not `exit`: what it said last is still in the pipe then.
      child.on('close', (code, signal) => {
        if (this.#process === child) this.#process = undefined;
        resolve();
        this.#ended(code, signal);
      });
    });
  }

  #heard(line: string): void {
    this.#log.write(`${line}\n`);
    const { level, text } = readLogLine(line);
    if (level < WARN_LEVEL || text === '') return;
    // Of what Node prints when it goes down, the line with the error says most.
    if (level < FATAL_LEVEL || !/Error\b/.test(this.#lastComplaint)) this.#lastComplaint = text;
    // While it starts, its last words are the reason that `failed` is told.
    if (!this.#kept && level >= FATAL_LEVEL) return;
    if (!this.#stopping) this.#options.say(`${this.name}: ${text}`);
  }

  #ended(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#stopping) return;
    const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    if (!this.#kept && signal === null) {
      this.#options.failed(this.#lastComplaint === '' ? `${this.name} ${how}` : `${this.name}: ${this.#lastComplaint}`);
      return;
    }
    if (performance.now() - this.#startedMs > WELL_AFTER_MS) this.#restartMs = FIRST_RESTART_MS;
    this.#options.say(`${this.name} ${how}; starting it again in ${this.#restartMs / 1_000} s`);
    this.#restartTimer = setTimeout(() => {
      this.#start();
      this.#options.say(`${this.name} runs again, pid ${this.pid}`);
    }, this.#restartMs);
    this.#restartMs = Math.min(this.#restartMs * 2, MOST_RESTART_MS);
  }
}

/** Level and message of a line that pino wrote; of any other line the line itself, as the last words that they mostly are. */
function readLogLine(line: string): { level: number; text: string } {
  try {
    const record = JSON.parse(line) as { level?: unknown; msg?: unknown; err?: { message?: unknown } };
    if (typeof record === 'object' && record !== null && typeof record.level === 'number') {
      const parts = [record.msg, record.err?.message].filter((part) => typeof part === 'string' && part !== '');
      return { level: record.level, text: [...new Set(parts)].join(': ') };
    }
  } catch {
    // Not JSON: what Node itself prints when a process goes down.
  }
  return { level: FATAL_LEVEL, text: line.trim() };
}
