/**
 * Real processes that can be killed, frozen, kept down and started again at will, without the supervisor of `npm start` that
 * would start them again. Every process has a directory of its own, and its output is kept in `logs/`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '../coordinator/local/child.ts';

/** The compiled programs, seen from the sources and from where these are compiled to. */
export const DIST = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../dist/' : '../', import.meta.url));

export interface Program {
  readonly name: string;
  readonly kind: 'coordinator' | 'node';
  /** Without its name and its data directory. */
  readonly args: readonly string[];
  /** What runs it, with arguments; it must become the process itself. */
  readonly within?: readonly string[];
  /** Variables on top of those of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

export class Fleet {
  readonly #dataDir: string;
  readonly #programs: ReadonlyMap<string, Program>;
  readonly #running = new Map<string, { readonly child: ChildProcess; readonly exited: Promise<void> }>();
  /** Those that nobody starts. */
  readonly #held = new Set<string>();
  /** Processes that ended without being asked to, and how. */
  readonly #casualties: string[] = [];

  /** Everything lies below `dataDir`: `<name>/` per process, `logs/`. Starts nothing. */
  constructor(dataDir: string, programs: readonly Program[]) {
    this.#dataDir = dataDir;
    this.#programs = new Map(programs.map((program) => [program.name, program]));
  }

  get names(): string[] {
    return [...this.#programs.keys()];
  }

  isRunning(name: string): boolean {
    return this.#running.has(name);
  }

  directoryOf(name: string): string {
    return join(this.#dataDir, name);
  }

  /** Of a running process. */
  pidOf(name: string): number {
    const pid = this.#running.get(name)?.child.pid;
    if (pid === undefined) throw new Error(`${name} does not run`);
    return pid;
  }

  /** Everything the process ever printed. */
  logOf(name: string): string {
    const path = this.#logPath(name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Starts those of the processes that do not run (default: all), but for those that are held. */
  start(names: readonly string[] = this.names): void {
    for (const name of names) if (!this.#running.has(name) && !this.#held.has(name)) this.#spawn(name);
  }

  /** Whether it stays as it is when it does not run, whoever starts it. */
  hold(name: string, isHeld: boolean): void {
    if (isHeld) this.#held.add(name);
    else this.#held.delete(name);
  }

  /** SIGKILL, all at once. Resolves when they are gone. */
  kill(names: readonly string[] = this.names): Promise<void> {
    return this.#end(names, 'SIGKILL');
  }

  /** SIGTERM: the processes close their files in order. Resolves when they are gone. */
  stop(names: readonly string[] = this.names): Promise<void> {
    // One that is frozen would never hear of it.
    this.thaw(names);
    return this.#end(names, 'SIGTERM');
  }

  /** SIGSTOP: they stand still, with all their connections, until they are thawed or killed. */
  freeze(names: readonly string[]): void {
    for (const name of names) this.#running.get(name)?.child.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(names: readonly string[]): void {
    for (const name of names) this.#running.get(name)?.child.kill('SIGCONT');
  }

  /** Throws if a process ended by itself since the fleet was made. */
  checkAlive(): void {
    if (this.#casualties.length > 0) throw new Error(this.#casualties.join('\n'));
  }

  #spawn(name: string): void {
    const { kind, args, environment, within = [] } = this.#programs.get(name) as Program;
    mkdirSync(join(this.#dataDir, 'logs'), { recursive: true });
    const output = openSync(this.#logPath(name), 'a');
    const own = ['--name', name, '--data-dir', this.directoryOf(name)];
    const command = [...within, process.execPath, ...NODE_FLAGS, join(DIST, kind, 'main.js'), ...own, ...args];
    const child = spawn(command[0] as string, command.slice(1), {
      // The channel is what tells a child that its supervisor is gone.
      stdio: ['ignore', output, output, 'ipc'],
      env: { ...process.env, ...environment },
    });
    closeSync(output);
    const exited = new Promise<void>((resolve) => {
      child.once('close', (code, signal) => {
        if (this.#running.get(name)?.child === child) {
          this.#running.delete(name);
          const tail = this.logOf(name).split('\n').slice(-6).join('\n');
          this.#casualties.push(`${name} ended by itself (${signal ?? `code ${code}`}):\n${tail}`);
        }
        resolve();
      });
    });
    this.#running.set(name, { child, exited });
  }

  async #end(names: readonly string[], signal: NodeJS.Signals): Promise<void> {
    const ended: Promise<void>[] = [];
    for (const name of names) {
      const running = this.#running.get(name);
      if (running === undefined) continue;
      this.#running.delete(name);
      running.child.kill(signal);
      ended.push(running.exited);
    }
    await Promise.all(ended);
  }

  #logPath(name: string): string {
    return join(this.#dataDir, 'logs', `${name}.log`);
  }
}

/** Resolves when the coordinator at this URL says that every shard is served. Rejects when a process ended by itself, or after `withinMs`. */
export async function served(url: string, fleet: Fleet, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const why = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(5_000) }).then(
      async (response) => (response.ok ? undefined : (await response.text()).trim()),
      (error: Error) => error.message,
    );
    if (why === undefined) return;
    fleet.checkAlive();
    if (performance.now() > untilMs) throw new Error(`not ready after ${withinMs / 1_000} s: ${why}`);
    await new Promise((wake) => setTimeout(wake, READY_POLL_MS));
  }
}

const READY_POLL_MS = 20;
