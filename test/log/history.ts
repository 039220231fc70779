/**
 * Drives a log through random lives on a simulated disk and holds it to what it promised. Throws at the first broken promise.
 *
 * Payloads: a definition is "d<id>"; samples are "s<id>,<unique number>" of a series defined before in the same segment.
 */
import type { Env } from '../../core/env/env.ts';
import type { Log, Position, Recovered } from '../../node/shard/log.ts';
import { Sim } from '../sim/sim.ts';

export type OpenLog = typeof Log.open;

export const DIRECTORY = '/data/7/log';
export const BEGINNING = { incarnation: 0, sequence: 0 } as unknown as Position;

export interface ReadBack {
  readonly records: Map<number, string>;
  readonly gaps: number;
}

/** Reads a log from its beginning. Records must come in order, and definitions before their use in each segment. */
export async function readBack(log: Log, from = BEGINNING): Promise<ReadBack> {
  const reader = log.read(from);
  const records = new Map<number, string>();
  const decoder = new TextDecoder();
  let last = 0;
  let segment = -1;
  let gaps = 0;
  let gapInSegment = false;
  let defined = new Set<string>();
  for await (const frame of reader) {
    if (frame.segment !== segment) {
      segment = frame.segment;
      defined = new Set();
      gapInSegment = false;
    }
    if (frame.afterGap) {
      gaps++;
      gapInSegment = true;
    }
    while (frame.next()) {
      if (frame.sequence <= last) throw new Error(`sequence ${frame.sequence} read after ${last}`);
      last = frame.sequence;
      const text = decoder.decode(frame.payload);
      const id = text.slice(1).split(',')[0]!;
      if (text.startsWith('d')) defined.add(id);
      else if (!defined.has(id) && !gapInSegment) {
        throw new Error(`record ${frame.sequence} uses series ${id}, which segment ${segment} does not define before`);
      }
      records.set(frame.sequence, text);
    }
  }
  await reader.close();
  return { records, gaps };
}

interface Life {
  readonly log: Log;
  readonly given: number[];
  readonly written: Set<number>;
  readonly synced: Set<number>;
}

class History {
  private readonly sim: Sim;
  private readonly groups: { readonly groupBytes?: number };
  private readonly given = new Map<number, string>();
  /** What must be found at the next open. */
  private required = new Set<number>();
  /** What of it must be found even if the power goes before that. */
  private durable = new Set<number>();
  private lastTail: Position | undefined;
  private released = 0;
  private count = 0;

  constructor(
    seed: number,
    private readonly openLog: OpenLog,
  ) {
    // Of every other seed several groups go with a write.
    this.groups = seed % 2 === 0 ? {} : { groupBytes: 300 };
    this.sim = new Sim(seed);
  }

  async run(): Promise<void> {
    const { sim } = this;
    const lives = sim.random.int(2, 8);
    for (let i = 0; i < lives; i++) {
      const env = sim.boot();
      // Sometimes the open itself is interrupted.
      if (sim.random.chance(0.2)) {
        this.open(env).catch(() => undefined);
        await sim.steps(sim.random.int(0, 40));
        if (sim.random.chance(0.5)) {
          sim.crash();
          this.required = new Set(this.durable);
        } else sim.kill();
        continue;
      }
      const { log, recovered } = await sim.settle(this.open(env));
      await this.check(log, recovered);
      const life: Life = { log, given: [], written: new Set(), synced: new Set() };
      await this.live(life);
      await this.end(life);
    }
    const { log, recovered } = await sim.settle(this.open(sim.boot()));
    await this.check(log, recovered);
  }

  private open(env: Env): ReturnType<OpenLog> {
    return this.openLog(env, DIRECTORY, { shard: 7, segmentBytes: 2000, maxPendingBytes: 4000, ...this.groups });
  }

  private async check(log: Log, recovered: Recovered): Promise<void> {
    const { records } = await this.sim.settle(readBack(log));
    for (const [sequence, text] of records) {
      if (this.given.get(sequence) !== text) {
        throw new Error(`sequence ${sequence} holds ${text}, ${this.given.get(sequence)} was given it`);
      }
    }
    for (const sequence of this.required) {
      if (!records.has(sequence)) throw new Error(`lost: ${sequence} ${this.given.get(sequence)}`);
    }
    for (const sequence of records.keys()) {
      if (sequence >= recovered.endSequence)
        throw new Error(`${sequence} is not before the end ${recovered.endSequence}`);
    }
    // What was found once is durable.
    this.required = new Set(records.keys());
    this.durable = new Set(records.keys());
    const tail = log.tail();
    const last = this.lastTail;
    if (last && recovered.clean && tail.incarnation !== last.incarnation)
      throw new Error('a clean end took the incarnation');
    if (last && !recovered.clean && tail.incarnation === last.incarnation)
      throw new Error('an unclean end kept the incarnation');
    if (last) {
      const clamped = log.clamp(last);
      if (clamped.sequence > last.sequence && clamped.sequence > this.released && records.size > 0) {
        const next = Math.min(...records.keys());
        if (clamped.sequence > next) throw new Error(`a cursor at ${last.sequence} moved on to ${clamped.sequence}`);
      }
    }
    this.lastTail = tail;
  }

  private async live(life: Life): Promise<void> {
    const { sim } = this;
    const { log } = life;
    let segment = -1;
    let defined = new Set<number>();
    // A life without records is a case of its own.
    const turns = sim.random.chance(0.3) ? 0 : sim.random.int(1, 25);
    for (let turn = 0; turn < turns; turn++) {
      const batches = sim.random.int(0, 4);
      for (let b = 0; b < batches; b++) {
        if (log.segment !== segment) {
          segment = log.segment;
          defined = new Set();
        }
        const id = sim.random.int(0, 5);
        try {
          log.admit(300);
        } catch {
          break;
        }
        if (!defined.has(id)) {
          this.append(life, 1, `d${id}`);
          defined.add(id);
        }
        this.append(life, 2, `s${id},${this.count++}${'.'.repeat(sim.random.int(0, 200))}`);
      }
      const what = sim.random.next();
      if (what < 0.5) await sim.steps(sim.random.int(0, 4));
      else if (what < 0.75) await sim.advance(sim.random.int(0, 60));
      else if (what < 0.8) log.startSegment();
      else if (what < 0.85) {
        const keep = sim.random.int(0, 40) + this.released;
        this.released = keep;
        for (const sequence of this.required) if (sequence < keep) this.required.delete(sequence);
        for (const sequence of this.durable) if (sequence < keep) this.durable.delete(sequence);
        await sim.settle(log.release(keep));
      }
    }
  }

  private append(life: Life, kind: 1 | 2, text: string): void {
    const { log } = life;
    const sequence = log.append(kind, 0, new TextEncoder().encode(text));
    const before = this.given.get(sequence);
    if (before !== undefined) throw new Error(`sequence ${sequence} was given to ${before}, and again to ${text}`);
    this.given.set(sequence, text);
    life.given.push(sequence);
    const ignore = () => undefined;
    if (this.sim.random.chance(0.6)) log.written(sequence).then(() => life.written.add(sequence), ignore);
    if (this.sim.random.chance(0.2)) log.synced(sequence).then(() => life.synced.add(sequence), ignore);
    this.lastTail = log.tail();
  }

  private async end(life: Life): Promise<void> {
    const { sim } = this;
    const how = sim.random.next();
    const add = (sequences: Iterable<number>, durable: boolean) => {
      for (const sequence of sequences) {
        if (sequence < this.released) continue;
        this.required.add(sequence);
        if (durable) this.durable.add(sequence);
      }
    };
    if (how < 0.25) {
      await sim.settle(life.log.close());
      add(life.given, true);
      if (sim.random.chance(0.5)) sim.crash();
    } else if (how < 0.65) {
      add(life.synced, true);
      sim.crash();
    } else {
      add(life.written, false);
      add(life.synced, true);
      sim.kill();
    }
  }
}

/** One seed: several lives of one log. */
export async function runHistory(seed: number, openLog: OpenLog): Promise<void> {
  try {
    await new History(seed, openLog).run();
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}
