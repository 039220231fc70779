/**
 * One simulated history of a shard: random writes, ticks and reads, ends by power cut, kill and close at any moment, on a disk
 * that loses and tears what was not synced. Throws, naming the seed, when the shard breaks a promise:
 *
 * - what was appended can be read at once, merged by the rule, each sample once, and nothing else can;
 * - what was acknowledged (FSYNC; LOCAL, when the process was killed) is there after the restart, and so is what was there
 *   after the last one, and nothing else that was never written;
 * - in the end, digests and block files are those of a shard that got each sample once, in order, and never crashed.
 */

import type { AckLevel } from '../../core/protocol.ts';
import { Budget } from '../../node/shard/budget.ts';
import type { AppendOutcome, Sender } from '../../node/shard/sender.ts';
import { Shard } from '../../node/shard/shard.ts';
import { Sim } from '../sim/sim.ts';
import {
  batchOf,
  bitsOf,
  contentsOf,
  type Deleted,
  identityOf,
  line,
  Model,
  type Sample,
  STALE,
  undeleted,
} from './model.ts';

const MINUTE = 60_000;
const WINDOW = 120 * MINUTE;

/** Values that must survive bit for bit, and collide. */
const BITS = [
  bitsOf(1),
  bitsOf(2),
  bitsOf(0.1),
  bitsOf(0),
  bitsOf(-0),
  bitsOf(Number.POSITIVE_INFINITY),
  bitsOf(Number.NEGATIVE_INFINITY),
  bitsOf(5e-324),
  0x7ff8000000000001n,
  0xfff800000000bad8n,
  STALE,
];

/** Where a history leans, to meet one kind of trouble more often. */
export interface Tilt {
  /** Of the acknowledgements asked for. */
  readonly fsyncShare?: number;
  readonly syncDelayMs?: number;
  readonly checkpointIntervalMs?: number;
  /** Of the actions. */
  readonly deletionShare?: number;
}

/** `open`: `Shard.open`, or that of a shard with a planted bug. */
export async function simulate(seed: number, open: typeof Shard.open = Shard.open, tilt: Tilt = {}): Promise<void> {
  const sim = new Sim(seed);
  const { random } = sim;
  const isTight = random.chance(0.2);
  const options = {
    shard: seed % 16,
    budget: new Budget(isTight ? 20_000 : 1 << 30),
    maxSampleAgeMs: Number.POSITIVE_INFINITY,
    checkpointIntervalMs: tilt.checkpointIntervalMs ?? random.pick([1, 10_000, 10 * MINUTE]),
    sealDelayMs: random.pick([0, 10 * MINUTE]),
    sealIdleMs: random.pick([0, 2 * MINUTE]),
    sliceMs: random.pick([0, 0, 1]),
    log: { segmentBytes: random.pick([400, 2000, 1 << 20]), syncDelayMs: tilt.syncDelayMs ?? random.pick([1, 100]) },
    limits: { maxOpenWindowCount: random.pick([3, 64]), maxSeriesCount: 256, maxKernelBytes: 1 << 24 },
  };
  const fail = (what: string, lines: readonly string[] = []): never => {
    throw new Error(`seed ${seed}: ${[what, ...lines.slice(0, 5)].join('\n  ')}`);
  };
  const seriesCount = random.int(1, 6);
  const fsyncShare = tilt.fsyncShare ?? 0.5;
  const deletionShare = tilt.deletionShare ?? 0.06;

  /** Everything ever handed in; what survives a kill; what survives a power cut. */
  const possible = new Set<string>();
  /** Every deletion ever asked for. */
  const asked = new Model();
  let kept = new Model();
  let synced = new Model();
  let ended: 'killed' | 'cut' | 'closed' = 'closed';
  let wasCut = false;
  let visible = new Model();

  const lives = random.int(1, 5);
  for (let life = 0; life < lives; life++) {
    const env = sim.boot();
    const opening = open(env, '/d', options);
    // Sometimes the power goes while the shard recovers: nothing may be worse for it.
    if (random.chance(0.15)) {
      opening.catch(() => undefined);
      await sim.steps(random.int(0, 30));
      sim.crash();
      ended = 'cut';
      kept = synced.copy();
      continue;
    }
    const shard = await sim.settle(opening);
    const recovered = await sim.settle(contentsOf(shard));
    const promised = ended === 'cut' ? synced : kept;
    const missing = recovered.missing(promised);
    if (missing.length > 0) fail(`life ${life}: lost after having been ${ended}`, missing);
    for (const line of recovered.lines()) if (!possible.has(line)) fail(`life ${life}: never written`, [line]);
    const forgotten = undeleted(recovered, promised.deletions);
    if (forgotten.length > 0) fail(`life ${life}: a deletion was lost after having been ${ended}`, forgotten);
    const invented = undeleted(asked, recovered.deletions);
    if (invented.length > 0) fail(`life ${life}: never deleted`, invented);
    kept = recovered.copy();
    if (ended !== 'killed') synced = recovered.copy();
    visible = recovered;

    let senders: { sender: Sender; defined: Set<string> }[] = [];
    const refs = (series: string) => Number(series.slice(1)) * 3 + 1;
    const actions = random.int(1, 16);
    let interrupted = false;
    for (let action = 0; action < actions; action++) {
      if (random.chance(deletionShare)) {
        const one = randomDeletion(sim, env.clock.nowMs(), seriesCount);
        asked.delete(one);
        const deleting = shard.delete([{ name: 's', op: '=', value: one.series }], one.fromMs, one.toMs);
        if (random.chance(0.2)) {
          // The end comes before the answer: whether it holds then is told by the shard.
          deleting.catch(() => undefined);
          if (random.chance(0.7)) await sim.steps(random.int(1, 4));
          if (random.chance(0.7)) void shard.tick();
          else shard.clean().catch(() => undefined);
          interrupted = true;
          break;
        }
        if ((await sim.settle(deleting)) === 0) continue;
        for (const model of [visible, kept, synced]) model.delete(one);
        continue;
      }
      const dice = random.next();
      if (dice < 0.55) {
        if (senders.length === 0 || random.chance(0.05)) senders.push({ sender: shard.attach(), defined: new Set() });
        const from = random.pick(senders);
        const samples = randomSamples(sim, env.clock.nowMs(), seriesCount);
        const fresh = [...new Set(samples.map((sample) => sample.series))].filter(
          (series) => !from.defined.has(series),
        );
        for (const series of fresh) from.defined.add(series);
        const ack: AckLevel = random.chance(fsyncShare) ? 'FSYNC' : 'LOCAL';
        const before = visible.copy();
        const refused = new Set<number>();
        const appended = from.sender.append(batchOf(samples, refs, fresh), ack);
        visible.addAll(samples);
        for (const one of samples) possible.add(line(one));
        appended.then(
          (outcome: AppendOutcome) => {
            for (const rejection of outcome.rejections) refused.add(rejection.ref);
            // A series of which every sample was refused may have been released meanwhile.
            for (const ref of outcome.unknownRefs) refused.add(ref);
            for (const series of from.defined)
              if (outcome.unknownRefs.includes(refs(series))) from.defined.delete(series);
            if (outcome.code !== 'OK') return;
            const acked = samples.filter((sample) => !refused.has(refs(sample.series)));
            kept.addAll(acked);
            if (ack === 'FSYNC') synced.addAll(acked);
          },
          () => undefined,
        );
        // With few windows allowed, or little memory, some samples are refused: what was taken is asked of the shard then.
        if (isTight || options.limits.maxOpenWindowCount < 64) {
          const now = await sim.settle(contentsOf(shard));
          const lost = now.missing(before);
          if (lost.length > 0) fail('lost by an append', lost);
          visible = now;
        }
      } else if (dice < 0.65) await sim.advance(random.pick([1, 50, 1000, 3 * MINUTE, WINDOW]));
      else if (dice < 0.8) {
        const tick = shard.tick();
        if (random.chance(0.5)) await sim.settle(tick);
        else await sim.steps(random.int(0, 40));
      } else if (dice < 0.85) {
        for (const { sender } of senders) sender.detach();
        senders = [];
      } else if (dice < 0.95) {
        const expected = visible.copy();
        const held = await sim.settle(contentsOf(shard));
        // Nothing was appended meanwhile: this loop is the only writer.
        compare(fail, 'reading', held, expected);
        if (random.chance(0.3)) {
          await sim.settle(shard.clean());
          compare(fail, 'cleaning', await sim.settle(contentsOf(shard)), expected);
        }
      } else {
        const windows = shard.windows();
        if (windows.length > 0) await sim.settle(shard.digest(random.pick(windows)));
      }
    }
    // After a power cut the log may have a torn tail, or a hole in what was not synced; which is found until a checkpoint is made.
    wasCut ||= ended === 'cut';
    const expected = wasCut ? /^an unfinished tail|^the log is damaged|lack their series/ : /^an unfinished tail/;
    const problems = shard.stats().problems.filter((problem) => !expected.test(problem.message));
    if (problems.length > 0)
      fail(
        'problems',
        problems.map((problem) => problem.message),
      );
    // What was asked for and not answered may hold or not: only what is recovered tells.
    if (interrupted) {
      await sim.steps(random.int(0, 40));
      const cut = random.chance(0.5);
      if (cut) sim.crash();
      else sim.kill();
      ended = cut ? 'cut' : 'killed';
      if (cut) kept = synced.copy();
      continue;
    }
    if (life === lives - 1) break;
    const end = random.next();
    if (end < 0.15) {
      await sim.settle(shard.close());
      ended = 'closed';
      kept = visible.copy();
      synced = visible.copy();
      sim.crash();
    } else {
      if (random.chance(0.5)) void shard.tick();
      await sim.steps(random.int(0, 25));
      if (end < 0.5) {
        sim.kill();
        ended = 'killed';
      } else {
        sim.crash();
        ended = 'cut';
        kept = synced.copy();
      }
    }
  }
  if (seed % 3 === 0) await compareWithReference(sim, open, options, kept, ended, fail);
}

type Fail = (what: string, lines?: readonly string[]) => never;

/** Restarts once more, and holds everything against a shard that was fed in order. */
async function compareWithReference(
  sim: Sim,
  open: typeof Shard.open,
  options: Parameters<typeof Shard.open>[2],
  kept: Model,
  ended: string,
  fail: Fail,
): Promise<void> {
  const env = sim.boot();
  const shard = await sim.settle(open(env, '/d', options));
  const held = await sim.settle(contentsOf(shard));
  const missing = held.missing(kept);
  if (missing.length > 0) fail(`lost in the end, after having been ${ended}`, missing);
  const forgotten = undeleted(held, kept.deletions);
  if (forgotten.length > 0) fail(`a deletion was lost in the end, after having been ${ended}`, forgotten);

  const limits = { ...options.limits, maxOpenWindowCount: 64 };
  const plain = { ...options, budget: new Budget(1 << 30), limits };
  const reference = await sim.settle(Shard.open(env, '/reference', plain));
  const samples = [...held].sort((a, b) => a.timestampMs - b.timestampMs);
  const names = [...new Set([...samples, ...held.deletions].map(({ series }) => series))];
  const refs = (series: string) => Number(series.slice(1));
  const sender = reference.attach();
  for (const name of names) sender.define(refs(name), identityOf(name));
  const remove = async () => {
    for (const { series, fromMs, toMs } of held.deletions) {
      await sim.settle(reference.delete([{ name: 's', op: '=', value: series }], fromMs, toMs));
    }
  };
  const first = sim.random.chance(0.5);
  if (first) await remove();
  const outcome = await sim.settle(sender.append(batchOf(samples, refs, names), 'LOCAL'));
  if (!first) await remove();
  if (outcome.code !== 'OK' || outcome.rejections.length > 0) fail('the reference refused', [JSON.stringify(outcome)]);
  compare(fail, 'the reference', await sim.settle(contentsOf(reference)), held);
  const touched = held.deletions.flatMap(({ fromMs, toMs }) => [fromMs, toMs].map((ms) => ms - (ms % WINDOW)));
  for (const startMs of new Set([...shard.windows(), ...reference.windows(), ...touched])) {
    const [a, b] = [await sim.settle(shard.digest(startMs)), await sim.settle(reference.digest(startMs))];
    if (Buffer.compare(a, b) !== 0) fail(`digests of window ${startMs} differ`);
  }
  for (const one of [shard, reference]) {
    for (let tries = 0; one.stats().openWindowCount > 0; tries++) {
      if (tries > 50)
        fail(
          'windows stay open',
          one.stats().problems.map((problem) => problem.message),
        );
      await sim.advance(4 * WINDOW);
      await sim.settle(one.tick());
    }
  }
  for (const one of [shard, reference]) await sim.settle(one.clean());
  const blocksOf = (directory: string) =>
    new Map(
      sim.disk
        .paths()
        .filter((path) => path.startsWith(`${directory}/blocks/`) && path.endsWith('.block'))
        .map((path) => [/(\d+)-\d+\.block$/.exec(path)?.[1], sim.disk.bytes(path)]),
    );
  const [mine, theirs] = [blocksOf('/d'), blocksOf('/reference')];
  if ([...mine.keys()].sort().join() !== [...theirs.keys()].sort().join()) fail('other windows have blocks');
  for (const [startMs, bytes] of mine) {
    if (Buffer.compare(bytes, theirs.get(startMs) as Uint8Array) !== 0) fail(`block bytes of window ${startMs} differ`);
  }
  compare(fail, 'after sealing', await sim.settle(contentsOf(shard)), held);
}

function compare(fail: Fail, where: string, held: Model, expected: Model): void {
  const [a, b] = [held.lines(), expected.lines()];
  const [inA, inB] = [new Set(a), new Set(b)];
  const wrong = [
    ...a.filter((line) => !inB.has(line)).map((line) => `has ${line}`),
    ...b.filter((line) => !inA.has(line)).map((line) => `lacks ${line}`),
  ];
  if (wrong.length > 0) fail(where, wrong);
}

function randomDeletion(sim: Sim, nowMs: number, seriesCount: number): Deleted {
  const { random } = sim;
  const series = `s${random.int(0, seriesCount)}`;
  const toMs = nowMs - random.pick([0, 0, 5000, 10 * MINUTE, WINDOW, 3 * WINDOW]);
  return { series, fromMs: toMs - random.pick([0, 3000, 60_000, 10 * MINUTE, WINDOW, 5 * WINDOW]), toMs };
}

function randomSamples(sim: Sim, nowMs: number, seriesCount: number): Sample[] {
  const { random } = sim;
  const count = random.pick([1, 2, 5, 30]);
  const stepMs = random.pick([1, 1000, 15_000, 15_003]);
  const series = `s${random.int(0, seriesCount)}`;
  // Live, a little late, or windows late; on few enough places that samples repeat and collide.
  let timestampMs = nowMs - random.pick([0, 0, 0, 10 * MINUTE, WINDOW, 3 * WINDOW]) - random.int(0, 3) * 1000;
  timestampMs -= timestampMs % 1000;
  const samples: Sample[] = [];
  for (let i = 0; i < count; i++) {
    samples.push({
      series: random.chance(0.8) ? series : `s${random.int(0, seriesCount)}`,
      timestampMs: timestampMs - (count - i) * stepMs,
      bits: random.chance(0.5) ? bitsOf(i) : random.pick(BITS),
    });
  }
  return samples;
}
