/** The embedded store on a disk that loses and tears what was not synced: what it confirmed is there, and nothing by halves. */
import { describe, expect, test } from 'vitest';
import { SilverbackError } from '../../core/errors.ts';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import type { MetaStore } from '../../core/meta/store.ts';
import { Sim } from '../sim/sim.ts';

const DIRECTORY = '/meta';
const OPTIONS = { historyMost: 50, snapshotLeastBytes: 300 };

/** Twin keys are always written together, so a commit done by halves shows. */
async function writeSome(store: MetaStore, sim: Sim, confirmed: Map<number, number>, from: number): Promise<void> {
  for (let i = 0; i < 12; i++) {
    const slot = sim.random.int(0, 5);
    const value = String(from + i);
    await store.commit(
      [],
      [
        { put: `a/${slot}`, value },
        { put: `b/${slot}`, value },
      ],
    );
    confirmed.set(slot, from + i);
  }
}

async function checked(store: MetaStore, confirmed: Map<number, number>, seed: number): Promise<number> {
  const { entries, revision } = await store.range('');
  const values = new Map(entries.map(({ key, value }) => [key, value]));
  for (const [slot, least] of confirmed) {
    const found = Number(values.get(`a/${slot}`));
    expect(found, `seed ${seed}: slot ${slot}`).toBeGreaterThanOrEqual(least);
  }
  for (let slot = 0; slot < 5; slot++) {
    expect(values.get(`a/${slot}`), `seed ${seed}: twins of slot ${slot}`).toBe(values.get(`b/${slot}`));
  }
  return revision;
}

describe('embedded meta store, power cuts', () => {
  test('300 seeds of four lives each', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const sim = new Sim(seed);
      const confirmed = new Map<number, number>();
      let confirmedRevision = 0;
      for (let life = 0; life < 4; life++) {
        const store = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY, OPTIONS));
        const revision = await sim.settle(checked(store, confirmed, seed));
        expect(revision, `seed ${seed}: revisions go on`).toBeGreaterThanOrEqual(confirmedRevision);
        const work = writeSome(store, sim, confirmed, life * 100 + 1);
        await sim.steps(sim.random.int(0, 60));
        confirmedRevision = Math.max(confirmedRevision, revision);
        if (sim.random.chance(0.5)) sim.crash();
        else sim.kill();
        work.catch(() => undefined);
      }
    }
  });

  test('a torn tail is cut and said', async () => {
    const sim = new Sim(7);
    const store = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY));
    await sim.settle(store.commit([], [{ put: 'a', value: '1' }]));
    const bytes = sim.disk.bytes(`${DIRECTORY}/log-0`);
    await sim.settle(store.commit([], [{ put: 'a', value: '2' }]));
    const torn = sim.disk.bytes(`${DIRECTORY}/log-0`).slice(0, -3);
    sim.kill();
    sim.disk.replace(`${DIRECTORY}/log-0`, torn);
    const said: string[] = [];
    const say = (message: string) => said.push(message);
    const again = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY, { say }));
    expect((await sim.settle(again.get('a')))?.value).toBe('1');
    expect(said).toEqual([expect.stringContaining(`${torn.length - bytes.length} bytes`)]);
    expect(sim.disk.bytes(`${DIRECTORY}/log-0`)).toEqual(bytes);
  });

  test('a flipped byte before whole records is refused, naming the file and the place', async () => {
    const sim = new Sim(8);
    const store = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY));
    const ends = [8];
    for (let i = 0; i < 3; i++) {
      await sim.settle(store.commit([], [{ put: 'a', value: String(i) }]));
      ends.push(sim.disk.bytes(`${DIRECTORY}/log-0`).length);
    }
    sim.kill();
    const whole = sim.disk.bytes(`${DIRECTORY}/log-0`);
    for (let at = ends[1]!; at < ends[2]!; at++) {
      sim.disk.replace(`${DIRECTORY}/log-0`, whole);
      sim.disk.flip(`${DIRECTORY}/log-0`, at);
      const opened = sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY));
      await expect(opened).rejects.toMatchObject({
        code: 'CORRUPT',
        message: expect.stringContaining(`offset ${ends[1]}`),
      });
    }
    sim.disk.replace(`${DIRECTORY}/log-0`, Buffer.from('SILVMLG\x02'));
    await expect(sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY))).rejects.toMatchObject({ code: 'VERSION' });
  });

  test('a disk that fails stops the store: no confirmation, no answer from what is not durable', async () => {
    const sim = new Sim(9);
    const store = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY));
    await sim.settle(store.commit([], [{ put: 'a', value: '1' }]));
    sim.disk.fault = (operation) => (operation === 'sync' ? 'EIO' : undefined);
    await expect(sim.settle(store.commit([], [{ put: 'a', value: '2' }]))).rejects.toMatchObject({
      code: 'DISK_FAILED',
    });
    await expect(store.get('a')).rejects.toBeInstanceOf(SilverbackError);
    sim.disk.fault = undefined;
    const again = await sim.settle(openEmbeddedMeta(sim.boot(), DIRECTORY));
    expect(['1', '2']).toContain((await sim.settle(again.get('a')))?.value);
  });

  test('time in which the store stood still does not end leases', async () => {
    const sim = new Sim(10);
    const env = sim.boot();
    let frozenMs = 0;
    const clock = { ...env.clock, monotonicMs: () => env.clock.monotonicMs() + frozenMs };
    const store = await sim.settle(openEmbeddedMeta({ ...env, clock }, DIRECTORY));
    const lease = await sim.settle(store.grantLease(5_000));
    await sim.advance(1_000);
    frozenMs = 60_000;
    await sim.advance(1_000);
    await sim.settle(store.renewLease(lease));
    await sim.advance(5_500);
    await expect(sim.settle(store.renewLease(lease))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
