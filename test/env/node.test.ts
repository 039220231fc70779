/** The real disk: the same modules on Node's own file system, a small file system that fills up, and what a process kill leaves. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { nodeEnv as env } from '../../core/env/node.ts';
import { loadCheckpoint, writeCheckpoint } from '../../node/shard/checkpoint.ts';
import { Log, RecordKind } from '../../node/shard/log.ts';
import { BEGINNING, readBack } from '../log/history.ts';

const root = mkdtempSync(join(tmpdir(), 'silverback-env-'));
const SMALL = join(root, 'small');

/** Mounts a file system of 256 KiB; why not, if that is not allowed here. */
function mountSmall(): string | undefined {
  try {
    execFileSync('mkdir', ['-p', SMALL]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', SMALL], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `no tmpfs can be mounted here: ${error instanceof Error ? error.message : error}`;
  }
}

const unmounted = mountSmall();

afterAll(() => {
  if (unmounted === undefined) execFileSync('umount', [SMALL]);
  rmSync(root, { recursive: true });
});

describe('the real disk', () => {
  test('write, read, truncate, list, rename, remove', async () => {
    const directory = join(root, 'a/b/c');
    await env.disk.makeDirectory(directory);
    await env.disk.makeDirectory(directory);
    const path = join(directory, 'file');
    const file = await env.disk.open(path, 'create');
    await expect(env.disk.open(path, 'create')).rejects.toMatchObject({ code: 'EEXIST' });
    const parts = Array.from({ length: 3000 }, (_, i) => new Uint8Array(i % 7).fill(i));
    await file.write(parts, 5);
    const expected = Buffer.concat([Buffer.alloc(5), ...parts]);
    expect(await file.size()).toBe(expected.length);
    await file.write([], 0);
    expect(Buffer.compare(await file.read(0, 1 << 20), expected)).toBe(0);
    expect(Buffer.compare(await file.read(100, 50), expected.subarray(100, 150))).toBe(0);
    await file.truncate(10);
    await file.sync();
    await file.close();
    expect(await env.disk.readFile(path)).toHaveLength(10);
    await env.disk.rename(path, `${path}2`);
    await env.disk.syncDirectory(directory);
    expect(await env.disk.list(directory)).toEqual(['file2']);
    expect([await env.disk.exists(path), await env.disk.exists(`${path}2`)]).toEqual([false, true]);
    await env.disk.remove(`${path}2`);
    expect(await env.disk.list(join(root, 'absent'))).toEqual([]);
    await expect(env.disk.open(path, 'read')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('timers fire, repeat and are cancelled; yield comes back', async () => {
    let count = 0;
    await new Promise<void>((resolve) => {
      const timer = env.timers.every(1, () => {
        if (++count < 3) return;
        timer.cancel();
        resolve();
      });
    });
    env.timers.after(0, () => expect.unreachable()).cancel();
    await env.timers.yield();
    await new Promise<void>((resolve) => env.timers.after(5, resolve));
    expect(count).toBe(3);
  });

  test('log and checkpoint, written, closed, read again', async () => {
    const directory = join(root, 'log');
    const { log } = await Log.open(env, directory, { shard: 1, segmentBytes: 50_000 });
    const from = log.tail();
    let last = 0;
    for (let i = 0; i < 5000; i++) {
      last = log.append(
        RecordKind.DEFINITION,
        0,
        new TextEncoder().encode(`d${i} ${'x'.repeat(i % 50)}${Math.sqrt(i)}`),
      );
      if (i % 100 === 0) await log.written(last);
    }
    await log.synced(last);
    expect(log.segments().length).toBeGreaterThan(2);
    expect(statSync(log.segments()[0]!.file).size).toBe(log.segments()[0]!.byteCount);
    const writer = await writeCheckpoint(env, join(root, 'checkpoint'), { shard: 1, position: from });
    for (let i = 0; i < 100; i++) await writer.page(i, new Uint8Array(10_000).fill(i));
    await writer.commit();
    await log.close();
    const again = await Log.open(env, directory, { shard: 1, from });
    expect(again.recovered).toMatchObject({ clean: true, problems: [], endSequence: 5001 });
    expect((await readBack(again.log, BEGINNING)).records.size).toBe(5000);
    const { checkpoint, problems } = await loadCheckpoint(env, join(root, 'checkpoint'), { shard: 1 });
    expect(problems).toEqual([]);
    expect(checkpoint?.position).toEqual(from);
    let pages = 0;
    for await (const page of checkpoint!.pages()) {
      expect(page.kind).toBe(pages);
      expect(page.bytes.every((byte) => byte === pages)).toBe(true);
      pages++;
    }
    expect(pages).toBe(100);
    // Not closed: what a killed process leaves.
    const { log: left } = await Log.open(env, directory, { shard: 1 });
    expect(left.tail().incarnation).not.toBe(from.incarnation);
    await left.close();
    await again.log.close().catch(() => undefined);
  });

  test(
    unmounted ?? 'a full file system: writes are refused, nothing acknowledged is lost, space mends it',
    async (context) => {
      if (unmounted !== undefined) return context.skip(unmounted);
      const directory = join(SMALL, 'log');
      const { log } = await Log.open(env, directory, { shard: 1, segmentBytes: 30_000 });
      const acknowledged: number[] = [];
      let refusal: unknown;
      for (let i = 0; i < 2000 && refusal === undefined; i++) {
        try {
          const sequence = log.append(
            RecordKind.DEFINITION,
            0,
            Buffer.concat([Buffer.from(`d${i},`), env.random.bytes(1000)]),
          );
          await log.written(sequence);
          acknowledged.push(sequence);
        } catch (error) {
          refusal = error;
        }
      }
      expect(refusal).toMatchObject({ code: 'RESOURCE_EXHAUSTED', message: expect.stringMatching(/no space.*ENOSPC/) });
      expect(() => log.admit(1)).toThrow(/no space/);
      await log.synced(acknowledged.at(-1)!);
      // A restart on the full disk.
      await expect(log.close()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
      const again = await Log.open(env, directory, { shard: 1 });
      const { records } = await readBack(again.log);
      for (const sequence of acknowledged) expect(records.has(sequence)).toBe(true);
      await again.log.release(acknowledged.at(-1)! - 20);
      for (let tries = 0; again.log.segments().at(-1)!.endSequence < again.log.tail().sequence && tries < 50; tries++) {
        await new Promise<void>((resolve) => env.timers.after(100, resolve));
      }
      await again.log.synced(again.log.append(RecordKind.DEFINITION, 0, Buffer.from('dx')));
      await again.log.close();
      const last = await Log.open(env, directory, { shard: 1 });
      expect(last.recovered.clean).toBe(true);
      await last.log.close();
    },
  );
});
