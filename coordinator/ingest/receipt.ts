/**
 * From what became of the parts of a remote-write body to the one answer its sender gets.
 *
 * A sender drops a body at 4xx (but 429) and sends it again at 429 and 5xx. So: as long as any part can
 * succeed on a later try, the answer asks for one, whatever else is wrong with the body; samples that
 * are stored already are stored again, which changes nothing. Only when all that remains can never succeed
 * the answer is 400, and names the series and the rule. New series for which there is no room are of that kind, as with
 * Mimir's limit for a tenant: room comes when old series go, in hours, and a sender that repeats a body until then
 * holds back the samples of all its other series.
 */
import type { ColumnBatch, WriteOutcome } from '../../client/writer.ts';
import { type ErrorCode, isRetryable, SilverbackError } from '../../core/errors.ts';
import type { RefusedSeries } from '../../core/kernel/ingest.ts';

export interface Receipt {
  /** HTTP status: 204, 400, 429, 500 or 503. */
  readonly status: number;
  /** Empty with 204. */
  readonly message: string;
  /** With 429 and 503. */
  readonly retryAfterMs: number | undefined;
  /** Samples that are stored, whatever the status. */
  readonly writtenSampleCount: number;
  /** Samples that are not, and of which the sender is told not to send them again. */
  readonly refusedSampleCount: number;
  readonly writtenExemplarCount: number;
  readonly refusedExemplarCount: number;
}

/** The batches of one slice and their outcome. */
export interface SliceOutcome {
  readonly batches: readonly ColumnBatch[];
  readonly outcome: WriteOutcome;
}

/** Problems that are spelled out in an answer; the others are counted. */
const NAMED = 10;
const DEFAULT_RETRY_MS = 1000;

/** Problems of one kind, the first of them in words. */
class Tally {
  sampleCount = 0;
  problemCount = 0;
  readonly named: string[] = [];

  add(message: string, sampleCount: number): void {
    this.sampleCount += sampleCount;
    this.problemCount++;
    if (this.named.length < NAMED && !this.named.includes(message)) this.named.push(message);
  }

  toString(): string {
    const more = this.problemCount - this.named.length;
    return `${this.named.join('; ')}${more > 0 ? `; and ${more} more like these` : ''}`;
  }
}

/** `refusedExemplars`: messages about exemplars that were not sent on. */
export function settle(
  slices: readonly SliceOutcome[],
  refused: readonly RefusedSeries[],
  refusedExemplars: readonly string[] = [],
): Receipt {
  const later = new Tally();
  const never = new Tally();
  const full = new Tally();
  const exemplars = new Tally();
  let retryAfterMs = 0;
  let status = 0;
  let broken = false;
  let writtenSampleCount = 0;
  let writtenExemplarCount = 0;
  const judge = (code: ErrorCode, message: string, sampleCount: number, ownRetryMs: number): void => {
    if (code === 'SERIES_LIMIT') {
      full.add(message, sampleCount);
      return;
    }
    if (!isRetryable(code)) {
      never.add(message, sampleCount);
      broken ||= code === 'INTERNAL';
      return;
    }
    later.add(message, sampleCount);
    retryAfterMs = Math.max(retryAfterMs, ownRetryMs);
    status = Math.max(status, new SilverbackError(code, message).httpStatus);
  };
  for (const { message, sampleCount } of refused) never.add(message, sampleCount);
  for (const message of refusedExemplars) exemplars.add(message, 1);
  for (const { batches, outcome } of slices) {
    writtenSampleCount += outcome.acknowledgedCount;
    outcome.results.forEach((result, i) => {
      if (result.code !== 'OK') {
        const samples = ((batches[i] as ColumnBatch).timestamps.length >> 3) - result.acknowledgedCount;
        judge(result.code, `shard ${result.shard}: ${result.message}`, samples, result.retryAfterMs);
      }
      writtenExemplarCount += result.exemplarCount;
      for (const { message } of result.refusedExemplars) exemplars.add(message, 1);
      for (const one of result.rejections) judge(one.code, one.message, one.sampleCount, one.retryAfterMs);
    });
  }
  const refusals = [
    ...(never.problemCount === 0 ? [] : [`${never.sampleCount} samples can never be stored: ${never}`]),
    ...(full.problemCount === 0 ? [] : [`${full.sampleCount} samples of new series are refused: ${full}`]),
    ...(exemplars.problemCount === 0 ? [] : [`${exemplars.sampleCount} exemplars can never be stored: ${exemplars}`]),
  ];
  const refusedSampleCount = never.sampleCount + full.sampleCount;
  const refusedExemplarCount = exemplars.sampleCount;
  const counts = { writtenSampleCount, refusedSampleCount, writtenExemplarCount, refusedExemplarCount };
  if (later.problemCount > 0) {
    const what = later.sampleCount === 0 ? 'exemplars or metadata' : `${later.sampleCount} samples`;
    return {
      status: status === 429 ? 429 : 503,
      message: [`${what} are not stored, send them again: ${later}`, ...refusals].join('; '),
      retryAfterMs: retryAfterMs || DEFAULT_RETRY_MS,
      ...counts,
    };
  }
  if (refusals.length > 0) {
    return { status: broken ? 500 : 400, message: refusals.join('; '), retryAfterMs: undefined, ...counts };
  }
  return { status: 204, message: '', retryAfterMs: undefined, ...counts };
}
