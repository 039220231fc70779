import { expect, test } from 'vitest';
import { Turns } from '../../node/turns.ts';
import { Sim } from '../sim/sim.ts';

test('who has been served least is next; the requests of one stay in order', async () => {
  const sim = new Sim(1);
  const turns = new Turns(sim.boot());
  const order: string[] = [];
  for (let i = 0; i < 50; i++) turns.add('flooder', 1_000_000, () => order.push(`flooder ${i}`));
  for (let i = 0; i < 50; i++) turns.add('other', 1_000_000, () => order.push(`other ${i}`));
  turns.add('polite', 100, () => order.push('polite 0'));
  turns.add('polite', 100, () => order.push('polite 1'));
  await sim.steps(1_000);
  expect(order).toHaveLength(102);
  expect(order.indexOf('polite 0')).toBeLessThanOrEqual(2);
  expect(order.indexOf('polite 1')).toBeLessThanOrEqual(5);
  for (const caller of ['flooder', 'other', 'polite']) {
    const own = order.filter((one) => one.startsWith(caller)).map((one) => Number(one.split(' ')[1]));
    expect(own).toEqual(own.map((_, i) => i));
  }
  // And the two that want all there is get the same.
  const half = order.slice(0, 52);
  expect(Math.abs(half.filter((one) => one.startsWith('other')).length - 25)).toBeLessThanOrEqual(1);
});

test('one that comes after others have waited long does not wait as long', async () => {
  const sim = new Sim(2);
  const turns = new Turns(sim.boot());
  const order: string[] = [];
  for (let i = 0; i < 20; i++) {
    turns.add('flooder', 1_000_000, () => {
      order.push('flooder');
      if (order.length === 10) turns.add('late', 1_000_000, () => order.push('late'));
    });
  }
  await sim.steps(1_000);
  expect(order).toHaveLength(21);
  expect(order.indexOf('late')).toBeLessThanOrEqual(11);
});
