import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type Incarnation, Log, type LogProblem, type Position, RecordKind } from '../../node/shard/log.ts';
import { Seeded } from '../sim/random.ts';
import { Sim } from '../sim/sim.ts';
import { BEGINNING, DIRECTORY, readBack } from './history.ts';

const SKIP = 2 ** 30;
const OPTIONS = { shard: 3 };

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

async function open(sim: Sim, options: Partial<Parameters<typeof Log.open>[2]> = {}) {
  return sim.settle(Log.open(sim.boot(), DIRECTORY, { ...OPTIONS, ...options }));
}

async function readAll(sim: Sim, log: Log, from: Position = BEGINNING): Promise<string[]> {
  const found: string[] = [];
  const reader = log.read(from);
  const run = async () => {
    for await (const frame of reader) {
      while (frame.next()) {
        found.push(`${frame.sequence}:${frame.kind}:${frame.origin}:${new TextDecoder().decode(frame.payload)}`);
      }
    }
    await reader.close();
  };
  await sim.settle(run());
  return found;
}

/** Appends `count` records as one frame each. */
async function fill(sim: Sim, log: Log, count: number, size = 50): Promise<void> {
  for (let i = 0; i < count; i++) {
    log.append(RecordKind.DEFINITION, 0, text(`d${i}`.padEnd(size, '.')));
    await sim.settle(log.written(log.tail().sequence - 1));
  }
}

describe('log', () => {
  test('records come back in order after a clean close, and the incarnation goes on', async () => {
    const sim = new Sim(1);
    const { log, recovered } = await open(sim);
    expect(recovered).toMatchObject({ clean: true, problems: [] });
    expect(log.append(RecordKind.SAMPLES, 0, text('a'))).toBe(1);
    expect(log.append(RecordKind.SAMPLES, 2, [text('b'), text('c')])).toBe(2);
    await sim.settle(log.written(2));
    expect(await readAll(sim, log)).toEqual(['1:2:0:a', '2:2:2:bc']);
    const tail = log.tail();
    await sim.settle(log.close());
    expect(() => log.append(RecordKind.SAMPLES, 0, text('x'))).toThrow(/closed/);
    const again = await open(sim);
    expect(again.recovered).toMatchObject({ clean: true, endSequence: 3, problems: [] });
    expect(again.log.tail()).toEqual(tail);
    expect(await readAll(sim, again.log)).toEqual(['1:2:0:a', '2:2:2:bc']);
  });

  test('what gathers in one turn, and during a write, is one write; idle, nothing happens', async () => {
    const sim = new Sim(2);
    const { log } = await open(sim);
    const before = sim.disk.counts.write;
    for (let i = 0; i < 100; i++) log.append(RecordKind.SAMPLES, 0, text(`s${i}`));
    await sim.steps(1);
    for (let i = 0; i < 100; i++) log.append(RecordKind.SAMPLES, 0, text(`s${i}`));
    await sim.settle(log.written(200));
    expect(sim.disk.counts.write - before).toBe(2);
    await sim.advance(200);
    const { write, sync } = sim.disk.counts;
    await sim.advance(3_600_000);
    expect(sim.disk.counts).toMatchObject({ write, sync });
  });

  test('an fsync follows a write within the delay, at once when asked for', async () => {
    const sim = new Sim(3);
    const { log } = await open(sim, { syncDelayMs: 100 });
    const before = sim.disk.counts.sync;
    log.append(RecordKind.SAMPLES, 0, text('a'));
    await sim.settle(log.written(1));
    await sim.advance(90);
    expect(sim.disk.counts.sync).toBe(before);
    await sim.advance(20);
    expect(sim.disk.counts.sync).toBe(before + 1);
    log.append(RecordKind.SAMPLES, 0, text('b'));
    const asked = sim.nowMs;
    await sim.settle(log.synced(2));
    expect(sim.nowMs - asked).toBeLessThan(10);
  });

  test('where nothing has entered the cluster here since is told', async () => {
    const sim = new Sim(3);
    const { log } = await open(sim);
    expect(log.ownSequence).toBe(1);
    log.append(RecordKind.SAMPLES, 0, text('a'));
    log.append(RecordKind.SAMPLES, 2, text('b'));
    await sim.settle(log.written(2));
    expect(log.ownSequence).toBe(2);
    await sim.settle(log.close());
    // After an open, each of those that were found may have.
    expect((await open(sim)).log.ownSequence).toBe(3);
  });

  test('a torn tail is cut and reported, and its sequences are not used again', async () => {
    const sim = new Sim(4);
    const { log } = await open(sim);
    await fill(sim, log, 3);
    const path = log.segments()[0]!.file;
    const whole = sim.disk.bytes(path);
    sim.disk.replace(path, whole.subarray(0, whole.length - 5));
    const again = await open(sim);
    expect(again.recovered.clean).toBe(false);
    expect(again.recovered.endSequence).toBe(3);
    expect(again.recovered.problems).toEqual([
      expect.objectContaining({ kind: 'torn', file: path, firstSequence: 3, byteCount: expect.any(Number) }),
    ]);
    const [problem] = again.recovered.problems as [LogProblem];
    expect(sim.disk.bytes(path).length).toBe(problem.offset);
    expect(problem.offset + problem.byteCount).toBe(whole.length - 5);
    expect(again.log.tail().sequence).toBe(3 + SKIP);
    // A cursor that had read the lost record goes on at what was recovered.
    expect(again.log.clamp({ ...log.tail(), sequence: 4 }).sequence).toBe(3);
    expect((await open(sim)).recovered.problems).toEqual([]);
  });

  test('any flipped bit is found, set aside and reported once; every other frame is still read', async () => {
    const random = new Seeded(5);
    for (let seed = 0; seed < 300; seed++) {
      const sim = new Sim(seed);
      const { log } = await open(sim, { segmentBytes: 500 });
      await fill(sim, log, 12);
      await sim.settle(log.close());
      const segments = log.segments();
      const victim = random.pick(segments);
      const offset = random.int(0, victim.byteCount);
      const intact = sim.disk.bytes(victim.file);
      sim.disk.flip(victim.file, offset, 1 << random.int(0, 8));
      const again = await open(sim, { segmentBytes: 500 });
      const what = `seed ${seed}, ${victim.file} at ${offset}`;
      // Bytes that hold nothing (the rest of a table) may not matter; everything else must.
      expect(again.recovered.problems.length, what).toBe(1);
      const [problem] = again.recovered.problems as [LogProblem];
      expect(problem.file, what).toBe(victim.file);
      const aside = sim.disk.bytes(problem.quarantine!);
      expect(aside.length, what).toBe(problem.byteCount);
      expect(Buffer.compare(aside, intact.subarray(problem.offset, problem.offset + problem.byteCount)), what).not.toBe(
        0,
      );
      const { records } = await sim.settle(readBack(again.log));
      for (let sequence = 1; sequence <= 12; sequence++) {
        const lost = sequence >= problem.firstSequence && sequence < problem.endSequence;
        expect(records.has(sequence), `${what}: ${sequence}`).toBe(!lost);
      }
      expect(
        problem.endSequence === Number.POSITIVE_INFINITY || problem.endSequence - problem.firstSequence <= 1,
        what,
      ).toBe(true);
      await sim.settle(again.log.close());
      expect((await open(sim)).recovered, what).toMatchObject({ clean: true, problems: [] });
    }
  });

  test('a reader that meets damage sets it aside, reports it, flags the gap, and goes on', async () => {
    const sim = new Sim(6);
    const { log } = await open(sim);
    await fill(sim, log, 5);
    const path = log.segments()[0]!.file;
    sim.disk.flip(path, 320 + 45);
    const { records, gaps } = await sim.settle(readBack(log));
    expect([...records.keys()]).toEqual([2, 3, 4, 5]);
    expect(gaps).toBe(1);
    expect(log.problems).toEqual([
      expect.objectContaining({ kind: 'damaged', file: path, offset: 320, firstSequence: 1 }),
    ]);
    expect((await sim.settle(readBack(log))).gaps).toBe(1);
    expect(log.problems).toHaveLength(1);
  });

  test('a reader starts at a position with the definitions of its segment, and follows the tail', async () => {
    const sim = new Sim(7);
    const { log } = await open(sim);
    log.append(RecordKind.DEFINITION, 0, text('old'));
    log.startSegment();
    log.append(RecordKind.DEFINITION, 0, text('one'));
    log.append(RecordKind.SAMPLES, 0, text('before'));
    await sim.settle(log.written(3));
    log.append(RecordKind.SAMPLES, 0, text('also before'));
    await sim.settle(log.written(4));
    const from = log.tail();
    log.append(RecordKind.SAMPLES, 1, text('after'));
    await sim.settle(log.written(5));
    const reader = log.read(from);
    const next = async () => {
      const frame = await sim.settle(reader.next());
      if (frame === undefined) return undefined;
      const found: string[] = [];
      while (frame.next()) found.push(new TextDecoder().decode(frame.payload));
      return found;
    };
    expect(await next()).toEqual(['one']);
    expect(await next()).toEqual(['after']);
    expect(await next()).toBeUndefined();
    expect(reader.position()).toEqual(log.tail());
    log.startSegment();
    log.append(RecordKind.SAMPLES, 0, text('later'));
    await sim.settle(log.written(6));
    expect(await next()).toEqual(['later']);
    expect(await next()).toBeUndefined();
  });

  test('segments go when released, except the last; an old or foreign cursor starts at the oldest record kept', async () => {
    const sim = new Sim(8);
    const { log } = await open(sim, { segmentBytes: 500 });
    const start = log.tail();
    await fill(sim, log, 20);
    await sim.advance(300);
    expect(log.segments().length).toBeGreaterThan(3);
    await sim.settle(log.release(9));
    const oldest = log.segments()[0]!;
    expect(oldest.firstSequence).toBeLessThanOrEqual(9);
    expect(oldest.endSequence).toBeGreaterThan(9);
    expect(log.clamp(start).sequence).toBe(oldest.firstSequence);
    expect(log.clamp({ incarnation: 5 as Incarnation, sequence: 9999 }).sequence).toBe(oldest.firstSequence);
    expect(log.clamp({ ...start, sequence: 12 }).sequence).toBe(12);
    await sim.settle(log.release(1e9));
    expect(log.segments()).toHaveLength(1);
    expect(sim.disk.paths()).toHaveLength(1);
    expect(log.byteCount).toBe(sim.disk.usedBytes());
  });

  test('past the bound, records are refused until the disk has taken what waits', async () => {
    const sim = new Sim(9);
    const { log } = await open(sim, { maxPendingBytes: 1000 });
    const payload = new Uint8Array(394);
    log.append(RecordKind.SAMPLES, 0, payload);
    log.append(RecordKind.SAMPLES, 0, payload);
    expect(() => log.admit(400)).toThrow(/wait for the log's disk/);
    expect(() => log.append(RecordKind.SAMPLES, 0, payload)).toThrow(
      expect.objectContaining({ code: 'RESOURCE_EXHAUSTED' }),
    );
    await sim.settle(log.written(2));
    expect(log.pendingBytes).toBe(0);
    expect(log.append(RecordKind.SAMPLES, 0, new Uint8Array(100_000))).toBe(3);
    await sim.settle(log.written(3));
  });

  test('all that came while a write was under way goes with the next one, and lies there in order', async () => {
    const sim = new Sim(11);
    const { log } = await open(sim);
    const before = sim.disk.counts.write;
    const append = () => log.append(RecordKind.DEFINITION, 0, [text('d'), sim.random.bytes(60_000)]);
    const sequences = Array.from({ length: 60 }, append);
    await sim.settle(log.written(sequences.at(-1)!));
    expect(sim.disk.counts.write - before).toBe(1);
    // But what a write takes is bounded.
    for (let i = 0; i < 120; i++) sequences.push(append());
    await sim.settle(log.written(sequences.at(-1)!));
    expect(sim.disk.counts.write - before).toBe(3);
    expect([...(await sim.settle(readBack(log))).records.keys()]).toEqual(sequences);
  });

  test('past the bound of what no fsync has covered, records wait for one; small ones last', async () => {
    const sim = new Sim(10);
    const { log } = await open(sim, { maxUnsyncedBytes: 2_000, syncDelayMs: 60_000 });
    // Such that it does not compress.
    log.append(RecordKind.SAMPLES, 0, sim.random.bytes(1_000));
    await sim.settle(log.written(1));
    expect(log.unsyncedBytes).toBeGreaterThan(1_000);
    expect(() => log.admit(600)).toThrow(
      expect.objectContaining({
        code: 'RESOURCE_EXHAUSTED',
        message: expect.stringMatching(
          /^shard \d+: \d+ bytes of the log wait for an fsync, at most 2000 may: 600 more/,
        ),
      }),
    );
    log.admit(200);
    await sim.settle(log.synced(1));
    expect(log.unsyncedBytes).toBe(0);
    log.admit(900);
  });

  test('a full disk refuses and waits; with space again everything is there, in order', async () => {
    for (let seed = 0; seed < 100; seed++) {
      const sim = new Sim(seed);
      const { log } = await open(sim, { segmentBytes: 600 });
      await fill(sim, log, 3);
      sim.disk.capacityBytes = sim.disk.usedBytes() + sim.random.int(0, 200);
      const refused: unknown[] = [];
      const first = log.tail().sequence;
      for (let i = 0; i < 20; i++) {
        try {
          const sequence = log.append(RecordKind.DEFINITION, 0, text(`d${i}`));
          log.written(sequence).catch((error: unknown) => refused.push(error));
        } catch (error) {
          refused.push(error);
        }
        await sim.steps(sim.random.int(0, 3));
      }
      await sim.advance(5000);
      expect(refused.length).toBeGreaterThan(0);
      for (const error of refused)
        expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', message: expect.stringMatching(/no space/) });
      expect(log.failure).toBeUndefined();
      if (sim.random.chance(0.3)) {
        // The node is restarted while its disk is full: it opens, refuses writes, and has what was acknowledged.
        sim.kill();
        const again = await open(sim);
        expect((await readAll(sim, again.log)).length).toBeGreaterThanOrEqual(3);
        const full = sim.disk.capacityBytes - sim.disk.usedBytes() < 320;
        if (full) expect(() => again.log.admit(1)).toThrow(/no space/);
        sim.disk.capacityBytes = Number.POSITIVE_INFINITY;
        await sim.advance(2000);
        const sequence = again.log.append(RecordKind.SAMPLES, 0, text('x'));
        await sim.settle(again.log.synced(sequence));
        continue;
      }
      sim.disk.capacityBytes = Number.POSITIVE_INFINITY;
      await sim.advance(2000);
      const end = log.append(RecordKind.DEFINITION, 0, text('d'));
      await sim.settle(log.synced(end));
      const found = await readAll(sim, log);
      expect(found.map((record) => Number(record.split(':')[0]))).toEqual(Array.from({ length: end }, (_, i) => i + 1));
      expect(end).toBeGreaterThan(first);
      await sim.settle(log.close());
      expect((await open(sim)).recovered).toMatchObject({ clean: true, problems: [] });
    }
  });

  test.each([
    ['write', 'EIO'],
    ['sync', 'EIO'],
  ] as const)(
    'an error of %s fails the log for good; what was acknowledged is there after a restart',
    async (operation, code) => {
      const sim = new Sim(10);
      const { log } = await open(sim);
      await fill(sim, log, 3);
      await sim.settle(log.synced(3));
      sim.disk.fault = (what) => (what === operation ? code : undefined);
      const sequence = log.append(RecordKind.DEFINITION, 0, text('dx'));
      const expected = { code: 'DISK_FAILED', message: expect.stringMatching(/EIO.*until restart/) };
      const synced = log.synced(sequence);
      await expect(sim.settle(synced)).rejects.toMatchObject(expected);
      sim.disk.fault = undefined;
      expect(() => log.append(RecordKind.SAMPLES, 0, text('x'))).toThrow(
        expect.objectContaining({ code: 'DISK_FAILED' }),
      );
      await expect(log.synced(sequence)).rejects.toMatchObject(expected);
      expect(log.failure).toMatchObject(expected);
      await expect(sim.settle(log.close())).rejects.toMatchObject(expected);
      const again = await open(sim);
      expect((await sim.settle(readBack(again.log))).records.size).toBeGreaterThanOrEqual(3);
    },
  );

  test('sequences start above the position that a checkpoint knows, whatever is left of the log', async () => {
    const sim = new Sim(11);
    const { log } = await open(sim);
    await fill(sim, log, 3);
    const from = log.tail();
    sim.kill();
    for (const path of sim.disk.paths()) sim.disk.replace(path, new Uint8Array(0));
    const again = await open(sim, { from });
    expect(again.recovered.clean).toBe(false);
    expect(again.recovered.problems.map((problem) => problem.kind)).toContain('missing');
    expect(again.log.tail().sequence).toBeGreaterThan(from.sequence);
    expect(again.log.tail().incarnation).not.toBe(from.incarnation);
  });

  test("another shard's log and a newer version are refused", async () => {
    const sim = new Sim(12);
    await open(sim);
    await expect(open(sim, { shard: 4 })).rejects.toThrow(/belongs to shard 3, not to 4/);
    const path = sim.disk.paths()[0]!;
    const bytes = Buffer.from(sim.disk.bytes(path));
    bytes[7] = 2;
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 316)), 316);
    sim.disk.replace(path, bytes);
    await expect(open(sim)).rejects.toMatchObject({ code: 'VERSION', message: expect.stringMatching(/version 2/) });
  });

  test('the golden log decodes', async () => {
    const sim = new Sim(13);
    const bytes = readFileSync(new URL('../golden/log-1.bin', import.meta.url));
    sim.disk.replace(`${DIRECTORY}/0000000000000001.log`, bytes);
    const { log, recovered } = await open(sim);
    expect(recovered).toMatchObject({ clean: true, endSequence: 4, problems: [] });
    expect(await readAll(sim, log)).toEqual([
      '1:1:0:series one',
      `2:2:0:${'samples of series one, '.repeat(20)}`,
      '3:3:3:gone',
    ]);
  });
});
