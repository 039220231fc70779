/**
 * The ingest kernel: a compressed remote-write body in, columns by shard out. Its door, with the
 * meaning of every number, is core/kernel/ingest.ts. One instance serves one coordinator thread.
 */
import {
  DONE,
  exemplarCount,
  histogramCount,
  metadataCount,
  openBody,
  prepareBody,
  rawStart,
  readSlice,
  refusalCount,
  refusalStart,
  refusedSamples,
} from './ingest/body';
import { SLICE, directoryStart, outputBytes, outputStart, prepareColumns, scatter } from './ingest/columns';
import { identify, identityStart, prepareLabels } from './ingest/labels';
import { declared } from './ingest/snappy';
import { forgetNoted, noteCount, notesStart, prepareNotes } from './ingest/notes';
import { SLACK, arenaBytes, failure, failureAt, lay } from './ingest/state';
import { prepareSymbols, symbolsCount, symbolsStart } from './ingest/symbols';
import { known, prepareTable, rawLabels, recordLength, recordOf } from './ingest/table';

let input: usize = 0;

/** Lays the memory out. Once, before anything else. */
export function prepare(
  shardBits: u32,
  bodyBytes: u32,
  rawBytes: u32,
  maxLabels: u32,
  nameBytes: u32,
  valueBytes: u32,
  seedLow: u32,
  seedHigh: u32,
): void {
  input = lay(<usize>bodyBytes + SLACK);
  prepareBody(rawBytes, shardBits);
  prepareColumns(<u32>1 << shardBits);
  prepareLabels(maxLabels, nameBytes, valueBytes);
  prepareSymbols();
  prepareNotes();
  prepareTable(<u32>1 << shardBits, (<u64>seedHigh << 32) | <u64>seedLow);
}

/** Where the host puts a body. */
export function inputAddress(): usize {
  return input;
}

/** Takes the `length` bytes at `inputAddress`, of remote write `version` 1 or 2. False: see `failureCode`. */
export function begin(length: u32, version: u32): bool {
  return openBody(input, length, version);
}

/** Reads a slice: 0 the body is done, 1 there is more, 2 failed. Its columns are valid until the next call. */
export function read(): i32 {
  return readSlice();
}

/** Lays out what `read` gave; returns the number of directory entries. */
export function columns(): u32 {
  return scatter();
}
export function directoryAddress(): usize {
  return directoryStart();
}
export function outputAddress(): usize {
  return outputStart();
}
export function outputSize(): usize {
  return outputBytes();
}
export function sliceSamples(): u32 {
  return SLICE;
}

export function failureCode(): u32 {
  return failure;
}
/** Address of the byte at fault. */
export function failureAddress(): usize {
  return failureAt;
}
export function rawAddress(): usize {
  return rawStart();
}
/** What the body's preamble says it decompresses to. */
export function declaredBytes(): usize {
  return declared();
}

/** Refused series of this slice, described from `refusalAddress` on. */
export function refusedSeries(): u32 {
  return refusalCount;
}
export function refusalAddress(): usize {
  return refusalStart();
}
/** Totals of this body so far. */
export function refusedSampleCount(): u32 {
  return refusedSamples;
}
export function exemplars(): u32 {
  return exemplarCount;
}
export function histograms(): u32 {
  return histogramCount;
}
export function metadata(): u32 {
  return metadataCount;
}

/** Exemplars and metadata of this slice, described from `notesAddress` on. */
export function notes(): u32 {
  return noteCount;
}
export function notesAddress(): usize {
  return notesStart();
}
/** Metadata is noted again, whatever was noted before. */
export function forgetMetadata(): void {
  forgetNoted();
}

/** The symbols of a 2.0 body: u32 address, u32 length each. */
export function symbolsAddress(): usize {
  return symbolsStart();
}
export function symbolCount(): u32 {
  return symbolsCount();
}

/** Identity bytes of a reference, at `identityAddress`; their length, 0 if the reference was never given out. */
export function identity(shard: u32, ref: u32): usize {
  const record = recordOf(shard, ref);
  if (record == 0) return 0;
  return identify(rawLabels(record), recordLength(record));
}
export function identityAddress(): usize {
  return identityStart();
}

export function seriesCount(): u32 {
  return known();
}
export function tableBytes(): usize {
  return arenaBytes();
}
