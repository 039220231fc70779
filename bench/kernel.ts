/**
 * What the storage kernel spends: append, decode, aggregate, seal in ns a sample, and bytes of everything.
 *
 *     npm run bench -- kernel [--quick]
 *
 * `--quick` leaves out the runs with a million series. Times are CPU time of the calls alone, medians of 5 where a run is
 * short.
 */
import { compressSync } from 'lz4-napi';
import { type BatchColumns, startOfBatch } from '../core/kernel/batch.ts';
import { type RefTable, type SeriesId, ShardKernel } from '../core/kernel/shard.ts';
import { encodeIdentity, makeLabels } from '../core/labels.ts';
import { KINDS, Mix, STEP_MS, WINDOW_TICKS } from './mix.ts';

const WINDOW_START_MS = 1_699_999_200_000;
const ROUNDS = 5;
const ANY_AGE = { minMs: 0, maxMs: Number.POSITIVE_INFINITY };
const LOG_GROUP_BYTES = 256 * 1024;

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] as number;
}

/** CPU time of this process: what others do on the machine does not count. */
function nowNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

interface Filled {
  readonly kernel: ShardKernel;
  readonly refs: RefTable;
  readonly ids: SeriesId[];
}

function filled(seriesCount: number): Filled {
  const kernel = ShardKernel.create({ maxSeriesCount: seriesCount, maxMemoryBytes: 2 ** 32 });
  const refs = kernel.createRefs();
  const ids: SeriesId[] = [];
  for (let i = 0; i < seriesCount; i++) {
    const { id } = kernel.intern(
      encodeIdentity(makeLabels({ __name__: 'bench', instance: `host-${i % 997}`, n: `${i}` })),
    );
    kernel.defineRef(refs, i, id);
    ids.push(id);
  }
  return { kernel, refs, ids };
}

/** Columns for `series` (all, or a part) at given ticks each, reused from tick to tick. */
class Columns {
  readonly refs: Uint32Array;
  readonly counts: Uint32Array;
  readonly timestamps: BigInt64Array;
  readonly values: Float64Array;
  /** Timestamps as pairs of u32, which is faster to write than as BigInt. */
  readonly #halves: Uint32Array;
  readonly batch: BatchColumns;

  constructor(seriesCount: number, perSeries: number) {
    this.refs = Uint32Array.from({ length: seriesCount }, (_, i) => i);
    this.counts = new Uint32Array(perSeries === 1 ? 0 : seriesCount).fill(perSeries);
    this.timestamps = new BigInt64Array(seriesCount * perSeries);
    this.values = new Float64Array(seriesCount * perSeries);
    this.#halves = new Uint32Array(this.timestamps.buffer);
    this.batch = {
      refs: new Uint8Array(this.refs.buffer),
      counts: new Uint8Array(this.counts.buffer),
      timestamps: new Uint8Array(this.timestamps.buffer),
      values: new Uint8Array(this.values.buffer),
    };
  }

  set(index: number, timestampMs: number, value: number): void {
    this.#halves[index * 2] = timestampMs % 2 ** 32;
    this.#halves[index * 2 + 1] = Math.floor(timestampMs / 2 ** 32);
    this.values[index] = value;
  }

  fill(mix: Mix, tickOf: (series: number, step: number) => number, perSeries: number, first: number): void {
    let index = 0;
    for (let series = 0; series < this.refs.length; series++) {
      for (let step = 0; step < perSeries; step++) {
        const tick = tickOf(series, first + step);
        this.set(index++, WINDOW_START_MS + mix.offsetMs(series, tick), mix.value(series, tick));
      }
    }
  }
}

interface LogSize {
  samples: number;
  rawBytes: number;
  lz4Bytes: number;
}

/** Appends a batch; ns of the calls. Records go to `log` in groups, as the log compresses them. */
function append({ kernel, refs }: Filled, columns: Columns, group?: Uint8Array[], log?: LogSize): number {
  let spent = 0;
  for (const cursor = startOfBatch(); !cursor.done; ) {
    const before = nowNs();
    const slice = kernel.append(refs, columns.batch, ANY_AGE, cursor);
    spent += nowNs() - before;
    if (slice.rejections.length > 0) throw new Error(`rejected: ${JSON.stringify(slice.rejections[0])}`);
    if (group === undefined || log === undefined) continue;
    group.push(slice.record.slice());
    log.samples += slice.acceptedCount;
    log.rawBytes += slice.record.length;
    if (group.reduce((sum, record) => sum + record.length, 0) >= LOG_GROUP_BYTES) flush(group, log);
  }
  return spent;
}

function flush(group: Uint8Array[], log: LogSize): void {
  if (group.length > 0) log.lz4Bytes += compressSync(Buffer.concat(group)).length;
  group.length = 0;
}

/** Makes the kernel allocate the buffers it works in, which are not what a series costs. */
function warmScratch({ kernel, refs }: Filled): void {
  const columns = new Columns(1, 1);
  columns.refs[0] = 2 ** 31;
  kernel.append(refs, columns.batch, ANY_AGE, startOfBatch());
}

const inOrder = (_series: number, step: number): number => step;

/** Fills a window; ns a sample. */
function fillWindow(into: Filled, mix: Mix, perSeries: number, ticks: number, tickOf = inOrder, log?: LogSize): number {
  const columns = new Columns(into.ids.length, perSeries);
  const group: Uint8Array[] = [];
  let spent = 0;
  for (let tick = 0; tick < ticks; tick += perSeries) {
    columns.fill(mix, tickOf, perSeries, tick);
    spent += append(into, columns, group, log);
  }
  if (log !== undefined) flush(group, log);
  return spent / (into.ids.length * ticks);
}

function report(name: string, figure: string): void {
  console.log(`${name.padEnd(64)} ${figure}`);
}

function benchAppend(mixName: string, mix: Mix): void {
  for (const perSeries of [1, 20]) {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) times.push(fillWindow(filled(10_000), mix, perSeries, WINDOW_TICKS));
    report(
      `append, 10k series, ${perSeries} a series and batch, ${mixName}`,
      `${median(times).toFixed(1)} ns a sample`,
    );
    const log = { samples: 0, rawBytes: 0, lz4Bytes: 0 };
    fillWindow(filled(10_000), mix, perSeries, 120, inOrder, log);
    report(
      `log record, ${perSeries} a series and batch, ${mixName}`,
      `${(log.rawBytes / log.samples).toFixed(2)} bytes a sample, with LZ4 ${(log.lz4Bytes / log.samples).toFixed(2)}`,
    );
  }
}

function benchChunks(mixName: string, mix: Mix): void {
  const seriesCount = 5_000;
  const into = filled(seriesCount);
  warmScratch(into);
  const empty = into.kernel.usedBytes;
  fillWindow(into, mix, 20, WINDOW_TICKS);
  const { kernel, ids } = into;
  report(
    `open run at a full window, ${mixName}`,
    `${((kernel.usedBytes - empty) / seriesCount).toFixed(0)} bytes a series`,
  );
  const open = ids.map((id) =>
    (kernel.chunk(id, WINDOW_START_MS, undefined, 0, Number.POSITIVE_INFINITY) as Uint8Array).slice(),
  );
  let sealed: Uint8Array[] = [];
  const samples = seriesCount * WINDOW_TICKS;
  const times = (task: () => void): string => {
    const rounds = Array.from({ length: ROUNDS }, () => {
      const before = nowNs();
      task();
      return (nowNs() - before) / samples;
    });
    return `${median(rounds).toFixed(2)} ns a sample`;
  };
  const sealing = times(() => {
    sealed = ids.map((id) => (kernel.seal(id, WINDOW_START_MS, undefined) as Uint8Array).slice());
  });
  report(`seal (with digest), ${mixName}`, sealing);
  for (const [name, chunks] of [
    ['XOR', open],
    ['sealed', sealed],
  ] as const) {
    const bytesOf = (keep: (i: number) => boolean): string => {
      const kept = chunks.filter((_, i) => keep(i));
      return (kept.reduce((sum, chunk) => sum + chunk.length, 0) / (kept.length * WINDOW_TICKS)).toFixed(3);
    };
    const byKind = KINDS.map((kind, k) => `${kind} ${bytesOf((i) => mix.kind(i) === k)}`).join(', ');
    report(`${name} chunks, ${mixName}`, `${bytesOf(() => true)} bytes a sample (${byKind})`);
    const decoding = times(() => {
      for (const chunk of chunks) kernel.chunks.decode([chunk]);
    });
    report(`decode ${name}, ${mixName}`, decoding);
    const aggregating = times(() => {
      for (const chunk of chunks) kernel.chunks.aggregate(chunk);
    });
    report(`aggregate ${name}, ${mixName}`, aggregating);
  }
}

/** Orders of arrival within a window; `ticks` is even. */
function orders(ticks: number): readonly (readonly [name: string, tickOf: (series: number, step: number) => number])[] {
  // Any odd stride that shares no factor with the number of ticks visits each tick once.
  const stride = ticks % 7 === 0 ? 11 : 7 * Math.floor(ticks / 18) + (ticks % 2) + 1;
  const shuffled = strideFor(ticks, stride);
  return [
    ['in order', inOrder],
    // Every tenth pair of neighbours of a series arrives the wrong way round, twice a tenth of the pairs: 10 % late.
    ['10 % late by a step', (series, step) => ((series + (step >> 1)) % 5 === 0 ? (step ^ 1) % ticks : step)],
    ['every one out of order', (series, step) => (step * shuffled + series) % ticks],
    ['two ordered streams interleaved', (_, step) => (step & 1 ? step >> 1 : (ticks >> 1) + (step >> 1))],
  ];
}

/** The first stride from `from` on that has no factor in common with `ticks`. */
function strideFor(ticks: number, from: number): number {
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
  let stride = from;
  while (gcd(stride, ticks) !== 1) stride++;
  return stride;
}

function benchOrders(seriesCount: number, ticks: number): void {
  let base = 0;
  for (const [name, tickOf] of orders(ticks)) {
    const into = filled(seriesCount);
    warmScratch(into);
    const empty = into.kernel.usedBytes;
    const time = fillWindow(into, new Mix({ ticks }), 1, ticks, tickOf);
    base ||= time;
    const bytes = (into.kernel.usedBytes - empty) / (seriesCount * ticks);
    report(
      `append, ${seriesCount / 1000}k series, ${ticks} ticks, ${name}`,
      `${time.toFixed(1)} ns a sample (${(time / base).toFixed(2)} x), ${bytes.toFixed(1)} bytes a sample`,
    );
  }
}

export async function run(args: string[]): Promise<void> {
  const plain = new Mix();
  const jitter = new Mix({ jitterMs: 5 });
  console.log(`mix of ${WINDOW_TICKS} samples every ${STEP_MS / 1000} s`);
  benchAppend('plain', plain);
  benchAppend('jitter', jitter);
  benchChunks('plain', plain);
  benchChunks('jitter', jitter);
  benchOrders(100_000, WINDOW_TICKS);
  if (!args.includes('--quick')) benchOrders(1_000_000, 120);
}
