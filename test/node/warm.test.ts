import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { WarmUp } from '../../node/warm.ts';
import { env, temporaryDirectory } from './cluster.ts';

it('a warm-up answers every kind of read, as long as it is wanted, and leaves nothing behind', async () => {
  const home = await temporaryDirectory();
  const directory = join(home, 'warm-up');
  // Of a process that was killed while it warmed up.
  await mkdir(join(directory, '0'), { recursive: true });
  await writeFile(join(directory, '0', 'remains'), 'x');
  const warmUp = await WarmUp.open(env, directory);
  try {
    const whole = await warmUp.round(() => true);
    expect(whole).toBe(10);
    expect(await warmUp.round(() => true)).toBe(whole);
    let wanted = 3;
    expect(await warmUp.round(() => wanted-- > 0)).toBe(3);
    expect(await warmUp.round(() => false)).toBe(0);
  } finally {
    await warmUp.close();
  }
  expect(await readdir(home)).toEqual([]);
  await rm(home, { recursive: true });
});
