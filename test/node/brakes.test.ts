import { expect, test } from 'vitest';
import { Brakes } from '../../node/brakes.ts';
import { Callers } from '../../node/callers.ts';
import { Sim } from '../sim/sim.ts';

const MIB = 2 ** 20;

class Stream {
  isPaused = false;
  pauseCount = 0;

  pause(): void {
    this.isPaused = true;
    this.pauseCount++;
  }

  resume(): void {
    this.isPaused = false;
  }
}

function start() {
  const sim = new Sim(1);
  const env = sim.boot();
  const brakes = new Brakes(env);
  const callers = new Callers(() => env.clock.monotonicMs());
  const open = (holder: string) => {
    const stream = new Stream();
    return { stream, tally: callers.of(holder), brake: brakes.open(holder, callers.of(holder), stream) };
  };
  return { sim, brakes, open };
}

test('who does not wait as it was told is not read until then, on none of its streams; others are', async () => {
  const { sim, open } = start();
  const [one, two, other] = [open('flooder'), open('flooder'), open('other')];
  one.brake.refuse(3 * MIB, 100);
  expect(one.stream.isPaused).toBe(false);
  await sim.advance(50);
  two.brake.refuse(2 * MIB, 100);
  expect([one.stream.isPaused, two.stream.isPaused, other.stream.isPaused]).toEqual([true, true, false]);
  expect(one.tally.pausedCount).toBe(2);
  // One more stream does not help.
  expect(open('flooder').stream.isPaused).toBe(true);
  await sim.advance(49);
  expect(one.stream.isPaused).toBe(true);
  await sim.advance(2);
  expect([one.stream.isPaused, two.stream.isPaused]).toEqual([false, false]);
  expect(one.tally.pausedCount).toBe(0);
  expect(one.tally.pausedMs).toBeCloseTo(50);
});

test('who waits is not braked, whatever it was refused; nobody is for longer than a moment', async () => {
  const { sim, open } = start();
  const { stream, brake } = open('patient');
  for (let i = 0; i < 20; i++) {
    brake.refuse(3 * MIB, 100);
    await sim.advance(100);
  }
  expect(stream.pauseCount).toBe(0);
  brake.refuse(5 * MIB, 60_000);
  expect(stream.isPaused).toBe(true);
  await sim.advance(201);
  expect(stream.isPaused).toBe(false);
});

test('who has much waiting for its turn is not read until it is less', () => {
  const { open } = start();
  const { stream, brake } = open('bulk');
  for (let i = 0; i < 5; i++) brake.wait(MIB);
  expect(stream.isPaused).toBe(true);
  for (let i = 0; i < 2; i++) brake.begin(MIB);
  expect(stream.isPaused).toBe(true);
  brake.begin(MIB);
  expect(stream.isPaused).toBe(false);
  expect(stream.pauseCount).toBe(1);
});

test('a stream that leaves counts no more', async () => {
  const { sim, brakes, open } = start();
  const [one, two] = [open('flooder'), open('flooder')];
  one.brake.refuse(5 * MIB, 200);
  expect(one.tally.pausedCount).toBe(2);
  brakes.close(one.brake, one.stream);
  brakes.close(one.brake, one.stream);
  expect(one.tally.pausedCount).toBe(1);
  brakes.close(two.brake, two.stream);
  expect(one.tally.pausedCount).toBe(0);
  await sim.advance(1_000);
  expect(one.tally.pausedCount).toBe(0);
  expect(open('flooder').stream.isPaused).toBe(false);
});
