/**
 * What a slice of a body held beside samples: exemplars and metadata are only noted, where they lie in the decompressed
 * body and whose they are. They are few, so the host reads them; with the notes full, the slice ends.
 *
 * A note (20 bytes): u32 kind, u32 shard, u32 reference (both 0 for metadata of 1.0, which names its metric),
 *     u32 address, u32 length of the message.
 *
 * Senders of 2.0 repeat a metric's metadata with every series, those of 1.0 once a minute: what was noted before, by a hash
 * in a direct-mapped table, is not noted again until the host forgets. Nor is that of a series even looked at again.
 */
import { lay } from './state';
import { lookedAt, reference, setLookedAt, shardOf } from './table';

export const NOTES: u32 = 4096;
const NOTE_BYTES: usize = 20;

const EXEMPLAR: u32 = 1;
const METADATA: u32 = 2;

/** 8 bytes each. */
const NOTED: u32 = 1 << 16;

let notes: usize = 0;
let noted: usize = 0;
export let noteCount: u32 = 0;
/** How often the host forgot, from 1 on, with 16 bits. */
let forgotten: u32 = 1;

export function prepareNotes(): void {
  notes = lay(<usize>NOTES * NOTE_BYTES);
  noted = lay(<usize>NOTED << 3);
}

export function notesStart(): usize {
  return notes;
}

/** Keeps the first `count`. */
export function dropNotes(count: u32): void {
  noteCount = count;
}

export function forgetNoted(): void {
  forgotten = forgotten == 0xffff ? 1 : forgotten + 1;
  memory.fill(noted, 0, <usize>NOTED << 3);
}

/** There must be room: `noteCount` below NOTES. */
export function noteExemplar(record: usize, at: usize, length: usize): void {
  put(EXEMPLAR, record, at, length);
}

/** Is the metadata of a series to be looked at? From then on it is not. */
export function lookAt(record: usize): bool {
  if (lookedAt(record) == forgotten) return false;
  setLookedAt(record, forgotten);
  return true;
}

/** As above. `record` 0: of 1.0. `hash`: of all that it says. */
export function noteMetadata(record: usize, at: usize, length: usize, hash: u64): void {
  const entry = noted + (<usize>(<u32>hash & (NOTED - 1)) << 3);
  if (load<u64>(entry) == hash) return;
  store<u64>(entry, hash);
  put(METADATA, record, at, length);
}

function put(kind: u32, record: usize, at: usize, length: usize): void {
  const entry = notes + <usize>noteCount * NOTE_BYTES;
  noteCount++;
  store<u32>(entry, kind);
  store<u32>(entry, record == 0 ? 0 : shardOf(record), 4);
  store<u32>(entry, record == 0 ? 0 : reference(record), 8);
  store<u32>(entry, <u32>at, 12);
  store<u32>(entry, <u32>length, 16);
}
