import { expect, test } from 'vitest';
import { Log, type Position, RecordKind } from '../../node/shard/log.ts';
import { Sim } from '../sim/sim.ts';

const DIRECTORY = '/data/0/log';
const text = (value: string) => new TextEncoder().encode(value);

async function readAll(log: Log, from: Position): Promise<string[]> {
  const reader = log.read(from);
  const found: string[] = [];
  for await (const frame of reader) {
    while (frame.next())
      found.push(`${frame.sequence}:${frame.kind}:${frame.origin}:${new TextDecoder().decode(frame.payload)}`);
  }
  await reader.close();
  return found;
}

const START = { incarnation: 0, sequence: 0 } as unknown as Position;

test('records come back in order after a clean close, and the incarnation goes on', async () => {
  const sim = new Sim(1);
  const env = sim.boot();
  const { log } = await sim.settle(Log.open(env, DIRECTORY, { shard: 3 }));
  expect(log.append(RecordKind.SAMPLES, 0, text('a'))).toBe(1);
  expect(log.append(RecordKind.SAMPLES, 2, [text('b'), text('c')])).toBe(2);
  await sim.settle(log.written(2));
  expect(await sim.settle(readAll(log, START))).toEqual(['1:2:0:a', '2:2:2:bc']);
  const tail = log.tail();
  await sim.settle(log.close());
  const again = await sim.settle(Log.open(sim.boot(), DIRECTORY, { shard: 3 }));
  expect(again.recovered).toMatchObject({ clean: true, endSequence: 3, problems: [] });
  expect(again.log.tail()).toEqual(tail);
  expect(await sim.settle(readAll(again.log, START))).toEqual(['1:2:0:a', '2:2:2:bc']);
});
