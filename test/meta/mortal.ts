/** An env whose process can die in the middle of things: afterwards nothing it started happens or answers any more. */
import type { Env, File } from '../../core/env/env.ts';

export function mortal(env: Env): { env: Env; kill(): void } {
  let dead = false;
  const living = async <T>(operation: () => Promise<T>): Promise<T> => {
    if (dead) return new Promise<T>(() => undefined);
    const result = await operation();
    return dead ? new Promise<T>(() => undefined) : result;
  };
  const wrap = (file: File): File => ({
    write: (parts, offset) => living(() => file.write(parts, offset)),
    read: (offset, length) => living(() => file.read(offset, length)),
    size: () => living(() => file.size()),
    truncate: (length) => living(() => file.truncate(length)),
    sync: () => living(() => file.sync()),
    close: () => file.close(),
  });
  return {
    kill() {
      dead = true;
    },
    env: {
      ...env,
      timers: {
        after: (delayMs, task) => env.timers.after(delayMs, () => dead || task()),
        every: (periodMs, task) => env.timers.every(periodMs, () => dead || task()),
        yield: () => living(() => env.timers.yield()),
      },
      disk: {
        open: async (path, mode) => wrap(await living(() => env.disk.open(path, mode))),
        readFile: (path) => living(() => env.disk.readFile(path)),
        list: (path) => living(() => env.disk.list(path)),
        makeDirectory: (path) => living(() => env.disk.makeDirectory(path)),
        rename: (from, to) => living(() => env.disk.rename(from, to)),
        remove: (path) => living(() => env.disk.remove(path)),
        removeTree: (path) => living(() => env.disk.removeTree(path)),
        exists: (path) => living(() => env.disk.exists(path)),
        syncDirectory: (path) => living(() => env.disk.syncDirectory(path)),
      },
    },
  };
}
