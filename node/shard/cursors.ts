/**
 * How far each other copy of a shard has this shard's log. A cursor is a position in the log, durable here once the records
 * before it are durable there; the log keeps its segments until every cursor is past them, unless it outgrows its budget. It is
 * about one log at the destination: where that has another one, because its disk was lost, the cursor starts over.
 *
 * `cursors` in the shard's directory (jsonfile.ts, magic "SILVCUR" and version 1) is replaced as a whole, now and then: an older
 * one repeats records, which changes nothing. Before the log lets segments go that cursors are past, the newest is made to
 * stay. A lost or damaged one makes cursors start at the oldest record, and what was before that counts as lost.
 */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { DAMAGED, type JsonFile, readJson, writeJson } from './jsonfile.ts';
import type { Log, Position, Reader } from './log.ts';
import type { Incarnation } from './segment.ts';
import type { Peers } from './sender.ts';

/** A copy of the shard in another node. */
export interface Destination {
  readonly region: string;
  readonly node: string;
}

interface Stored extends Destination {
  readonly incarnation: number;
  readonly sequence: number;
  readonly lostRecordCount: number;
  readonly caughtUpMs: number;
  /** Absent: not known. */
  readonly receiver?: number | undefined;
}

const MAGIC = 'SILVCUR\x01';
/** How long an acknowledgement PEER may take, unless told otherwise. */
const PEER_MS = 5_000;
/** And at most: clients take a node that is silent for longer than this for one that hangs. */
const MAX_PEER_MS = 10_000;
const SAVE_MS = 5_000;

/** Before every record. */
const BEGINNING: Position = { incarnation: 0 as Incarnation, sequence: 1 };

export class Cursor {
  readonly destination: Destination;
  /** The copy lies in another failure zone. */
  elsewhere = false;
  /** Everything before is durable at the destination. */
  position: Position;
  /** One past the last record that is in the destination's log. */
  deliveredEnd: number;
  /** Records that the log let go before they were shipped; an upper bound. Repair has to bring them. */
  lostRecordCount: number;
  /** The last time of which it is known that all from before was delivered; else, since when the cursor is there. */
  caughtUpMs: number;
  /** The incarnation of the destination's log when it was heard of last. */
  receiver: number | undefined;
  readonly #cursors: Cursors;

  /** Made by `Cursors`. */
  constructor(
    cursors: Cursors,
    destination: Destination,
    position: Position,
    { lostRecordCount, caughtUpMs, receiver }: Pick<Stored, 'lostRecordCount' | 'caughtUpMs' | 'receiver'>,
  ) {
    this.#cursors = cursors;
    this.destination = destination;
    this.position = position;
    this.deliveredEnd = position.sequence;
    this.lostRecordCount = lostRecordCount;
    this.caughtUpMs = caughtUpMs;
    this.receiver = receiver;
  }

  /**
   * The destination's log is of these incarnations, the present one first. Returns false where it is not the one that the cursor
   * is about: nothing is there of what was sent, and the cursor is at the oldest record again.
   */
  meet(incarnations: readonly number[]): boolean {
    const [present] = incarnations;
    const isSame = this.receiver === undefined || incarnations.includes(this.receiver);
    if (this.receiver !== present) this.#cursors.changed();
    this.receiver = present;
    if (!isSame) this.#cursors.startOver(this);
    return isSame;
  }

  /** A reader of what the destination lacks. To be closed. */
  read(): Reader {
    return this.#cursors.readFor(this);
  }

  /** Everything before `end` is in the destination's log, everything before `durable` for good. Never goes back. */
  advance(end: number, durable: Position): void {
    if (durable.sequence > this.position.sequence) {
      this.position = durable;
      this.#cursors.changed();
    }
    if (end <= this.deliveredEnd) return;
    this.deliveredEnd = end;
    if (this.elsewhere) this.#cursors.delivered(end);
  }

  /** The destination has so many of the lost records by now. */
  recovered(recordCount: number): void {
    if (recordCount <= 0 || this.lostRecordCount === 0) return;
    this.lostRecordCount = Math.max(0, this.lostRecordCount - recordCount);
    this.#cursors.changed();
  }
}

interface Waiter {
  readonly sequence: number;
  readonly resolve: () => void;
}

export class Cursors implements Peers {
  readonly #env: Env;
  readonly #directory: string;
  readonly #log: Log;
  readonly #report: (message: string) => void;
  readonly #cursors = new Map<string, Cursor>();
  #waiters: Waiter[] = [];
  #awaitedEnd = 0;
  #changed = false;
  #savedMs = Number.NEGATIVE_INFINITY;

  /** The cursors of the shard in `directory`; those that cannot be read start over. */
  static async load(env: Env, directory: string, log: Log, report: (message: string) => void): Promise<Cursors> {
    const cursors = new Cursors(env, directory, log, report);
    await cursors.#load();
    return cursors;
  }

  private constructor(env: Env, directory: string, log: Log, report: (message: string) => void) {
    this.#env = env;
    this.#directory = directory;
    this.#log = log;
    this.#report = report;
  }

  get #file(): JsonFile {
    return { directory: this.#directory, name: 'cursors', magic: MAGIC };
  }

  get all(): Cursor[] {
    return [...this.#cursors.values()];
  }

  /** The log that they are cursors of. */
  get log(): Pick<
    Log,
    'tail' | 'read' | 'segments' | 'writtenSequence' | 'ownSequence' | 'onWritten' | 'incarnations'
  > {
    return this.#log;
  }

  /** The destination's cursor; a new one is at the oldest record. `elsewhere`: the copy is in another failure zone. */
  open(destination: Destination, elsewhere: boolean): Cursor {
    const key = keyOf(destination);
    let cursor = this.#cursors.get(key);
    if (cursor === undefined) {
      const fresh = { lostRecordCount: 0, caughtUpMs: this.#env.clock.nowMs(), receiver: undefined };
      cursor = new Cursor(this, destination, BEGINNING, fresh);
      this.#cursors.set(key, cursor);
      this.#catchUp(cursor);
      this.changed();
    }
    cursor.elsewhere = elsewhere;
    return cursor;
  }

  /** Forgets those that no copy belongs to any more. */
  keepOnly(destinations: readonly Destination[]): void {
    const keys = new Set(destinations.map(keyOf));
    for (const key of this.#cursors.keys()) {
      if (keys.has(key)) continue;
      this.#cursors.delete(key);
      this.changed();
    }
  }

  /** The first sequence that some cursor still needs. */
  floor(): number {
    let floor = Number.POSITIVE_INFINITY;
    for (const { position } of this.#cursors.values()) floor = Math.min(floor, position.sequence);
    return floor;
  }

  /** The log lost its oldest segments: cursors that needed them have a known gap from now on. */
  released(): void {
    for (const cursor of this.#cursors.values()) this.#catchUp(cursor);
  }

  /** The record is going to be waited for, and those before it that were not shipped yet with it. */
  announce(sequence: number): void {
    this.#awaitedEnd = Math.max(this.#awaitedEnd, sequence + 1);
  }

  /** One past the last record that was waited for, or is going to be, whether it was shipped or not. */
  get awaitedEnd(): number {
    return this.#awaitedEnd;
  }

  /** Resolves when a copy in another failure zone has the record. Rejects with UNCONFIRMED after `waitMs` (0: 5 s), at most 10 s. */
  async reached(sequence: number, waitMs: number): Promise<void> {
    const boundMs = waitMs === 0 ? PEER_MS : Math.min(waitMs, MAX_PEER_MS);
    const elsewhere = this.all.filter((cursor) => cursor.elsewhere);
    if (elsewhere.some((cursor) => cursor.deliveredEnd > sequence)) return;
    if (elsewhere.length === 0) {
      throw new SilverbackError(
        'UNCONFIRMED',
        'stored in this node only: acknowledgement PEER needs a copy of the shard in a second failure zone, and there is none',
      );
    }
    await new Promise<void>((resolve, reject) => {
      const waiter = {
        sequence,
        resolve: () => {
          timer.cancel();
          resolve();
        },
      };
      const timer = this.#env.timers.after(boundMs, () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        const names = elsewhere.map(({ destination }) => keyOf(destination)).join(', ');
        const message = `stored in this node only: after ${boundMs / 1_000} s no copy in a second failure zone has it (${names})`;
        reject(new SilverbackError('UNCONFIRMED', message));
      });
      this.#waiters.push(waiter);
    });
  }

  /** For `Cursor` only. */
  delivered(end: number): void {
    const waiters = this.#waiters;
    if (waiters.length === 0) return;
    this.#waiters = waiters.filter((waiter) => waiter.sequence >= end);
    for (const waiter of waiters) if (waiter.sequence < end) waiter.resolve();
  }

  /** For `Cursor` only. */
  startOver(cursor: Cursor): void {
    this.#report(`${keyOf(cursor.destination)} has lost its log, and gets this one from its oldest record on`);
    cursor.position = BEGINNING;
    cursor.deliveredEnd = BEGINNING.sequence;
    // At the least: what entered the cluster there, and came here, is no record of this log.
    cursor.lostRecordCount = 1;
    this.#catchUp(cursor);
    this.changed();
  }

  /** For `Cursor` only. */
  changed(): void {
    this.#changed = true;
  }

  /** For `Cursor` only. */
  readFor(cursor: Cursor): Reader {
    this.#catchUp(cursor);
    return this.#log.read(cursor.position);
  }

  /** Writes the positions down, if any moved. An older file may be back after a power cut. */
  async save(): Promise<void> {
    if (this.#changed) await this.#write();
  }

  /** Like `save`, and not each time that it is called. */
  async saveSometimes(): Promise<void> {
    if (this.#env.clock.monotonicMs() - this.#savedMs >= SAVE_MS) await this.save();
  }

  /** Like `floor`, and nothing makes it less again: without this, a cursor could come back before what the log let go. */
  async keptFloor(): Promise<number> {
    if (this.#cursors.size === 0) return Number.POSITIVE_INFINITY;
    const floor = this.floor();
    await this.#write();
    await this.#env.disk.syncDirectory(this.#directory);
    return floor;
  }

  async #write(): Promise<void> {
    this.#changed = false;
    this.#savedMs = this.#env.clock.monotonicMs();
    const stored: Stored[] = this.all.map(({ destination, position, lostRecordCount, caughtUpMs, receiver }) => ({
      ...destination,
      ...position,
      lostRecordCount,
      caughtUpMs,
      receiver,
    }));
    await writeJson(this.#env.disk, this.#file, stored);
  }

  async #load(): Promise<void> {
    const content = await readJson(this.#env.disk, this.#file);
    if (content === undefined) return;
    if (content === DAMAGED) {
      const path = `${this.#directory}/cursors`;
      this.#report(`${path} is damaged: the other copies are sent the log again from its oldest record on`);
      return;
    }
    // Those of before `caughtUpMs` have none.
    const known = content as (Omit<Stored, 'caughtUpMs'> & Partial<Stored>)[];
    for (const { region, node, incarnation, sequence, lostRecordCount, caughtUpMs, receiver } of known) {
      const position = { incarnation: incarnation as Incarnation, sequence };
      const rest = { lostRecordCount, caughtUpMs: caughtUpMs ?? this.#env.clock.nowMs(), receiver };
      const cursor = new Cursor(this, { region, node }, position, rest);
      this.#cursors.set(keyOf(cursor.destination), cursor);
      this.#catchUp(cursor);
    }
  }

  /** Puts the cursor where a reader of it would start, and says what lies between. */
  #catchUp(cursor: Cursor): void {
    const from = cursor.position;
    const start = this.#log.clamp(from);
    if (start.incarnation === from.incarnation && start.sequence === from.sequence) return;
    cursor.position = start;
    cursor.deliveredEnd = Math.min(cursor.deliveredEnd, start.sequence);
    this.changed();
    // Behind: records are shipped again.
    const between = this.#log.countBetween(from, start.sequence);
    if (between === 0) return;
    cursor.lostRecordCount += between;
    this.#report(
      `the log let records ${from.sequence} up to ${start.sequence} go before ${keyOf(cursor.destination)} had them: that copy lacks them until it is repaired`,
    );
  }
}

function keyOf({ region, node }: Destination): string {
  return `${region}/${node}`;
}
