/** A directory belongs to one process at a time. The lock is a file that names its owner; a dead owner's is taken over. */
import type { Env } from './env/env.ts';
import { SilverbackError } from './errors.ts';

export interface DirectoryLock {
  release(): Promise<void>;
}

/**
 * Creates `directory` and takes its lock.
 * @throws SilverbackError CONFLICT when a living process holds it
 */
export async function lockDirectory(env: Env, directory: string): Promise<DirectoryLock> {
  await env.disk.makeDirectory(directory);
  const path = `${directory}/lock`;
  const owner = `${process.pid} ${await startOf(env, process.pid)}\n`;
  for (let tries = 0; tries < 10; tries++) {
    try {
      const file = await env.disk.open(path, 'create');
      await file.write([Buffer.from(owner)], 0);
      await file.close();
      return { release: () => env.disk.remove(path) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const pid = await livingOwner(env, path);
    if (pid !== undefined) throw new SilverbackError('CONFLICT', `${directory} is in use by process ${pid}`);
    await env.disk.remove(path).catch(() => undefined);
  }
  throw new SilverbackError('CONFLICT', `${directory}: others take its lock again and again`);
}

/** The process that has the directory now. */
export function lockedBy(env: Env, directory: string): Promise<number | undefined> {
  return livingOwner(env, `${directory}/lock`);
}

async function livingOwner(env: Env, path: string): Promise<number | undefined> {
  const text = Buffer.from(await env.disk.readFile(path).catch(() => new Uint8Array())).toString();
  const [, digits, start] = /^(\d+) (\S*)\n$/.exec(text) ?? [];
  const pid = Number(digits);
  if (digits === undefined || pid === process.pid || !isAlive(pid)) return undefined;
  // Process numbers are used again: after a reboot or in a container another process may have this one.
  return (await startOf(env, pid)) === start ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process started, in the kernel's ticks: with its number, unique until a reboot. Empty where there is no /proc. */
async function startOf(env: Env, pid: number): Promise<string> {
  const stat = Buffer.from(await env.disk.readFile(`/proc/${pid}/stat`).catch(() => new Uint8Array())).toString();
  // proc(5): field 22, counted after the name, which is in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
