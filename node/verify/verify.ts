/**
 * Checks every file of a node that is stopped, as recovery would read it, and changes nothing: checksums, structure, that
 * sequences have no hole, that the samples of a block add up to its digests.
 */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { ShardKernel } from '../../core/kernel/shard.ts';
import { lockedBy } from '../../core/lock.ts';
import { unpack } from '../../core/lz4.ts';
import { readIdentity } from '../directory.ts';
import { parseBlockName, SealedBlock } from '../shard/blocks.ts';
import { verifyCheckpoint } from '../shard/checkpoint.ts';
import { Frame } from '../shard/reader.ts';
import { verifyBlock } from '../shard/seal.ts';
import {
  FrameFlag,
  parseSegmentHeader,
  parseSegmentName,
  Scanner,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from '../shard/segment.ts';
import { Slicer } from '../shard/slicer.ts';

export interface Finding {
  /** `damage`: something is lost or cannot be read. `note`: dealt with already, or what an interrupted write leaves. */
  readonly severity: 'damage' | 'note';
  readonly file: string;
  readonly message: string;
}

export interface Totals {
  nodes: number;
  shards: number;
  segments: number;
  records: number;
  checkpoints: number;
  blocks: number;
  blockSamples: number;
  bytes: number;
}

export interface VerifyOptions {
  /** Undefined: all of them. */
  readonly shard: number | undefined;
  readonly found: (finding: Finding) => void;
  readonly progress: (done: number, total: number, file: string) => void;
}

interface Files {
  readonly shard: number;
  readonly directory: string;
  readonly segments: readonly string[];
  readonly checkpoints: readonly string[];
  readonly blocks: readonly string[];
  /** Of damage that was found when the node ran. */
  readonly setAside: readonly string[];
}

interface SegmentEnd {
  readonly header: SegmentHeader;
  /** One past its last record; NaN: not known, because damage was covered there. */
  readonly endSequence: number;
}

/** As many as the kernel's table takes. */
const MAX_SERIES_COUNT = 16_777_216;
const MAX_KERNEL_BYTES = 2 ** 32 - 65_536;

/**
 * `directory` is a node's, or holds several.
 * @throws NOT_FOUND, or CONFLICT while a process uses it
 */
export async function verifyDirectory(env: Env, directory: string, options: VerifyOptions): Promise<Totals> {
  const nodes = await nodesIn(env, directory);
  const files: Files[] = [];
  for (const node of nodes) {
    const pid = await lockedBy(env, node);
    if (pid !== undefined) {
      const instead = 'stop it first, or verify without --data-dir, which compares copies while they serve';
      throw new SilverbackError('CONFLICT', `${node} is in use by process ${pid}: ${instead}`);
    }
    await new Check(env, options.found).of(`${node}/identity`, async () => {
      if ((await readIdentity(env.disk, node)) === undefined) throw new SilverbackError('CORRUPT', 'there is none');
    });
    files.push(...(await filesOf(env, node, options.shard)));
  }
  if (files.length === 0) {
    const what = options.shard === undefined ? 'shards' : `shard ${options.shard}`;
    throw new SilverbackError('NOT_FOUND', `${directory} holds no ${what}`);
  }
  const verifier = new Verifier(env, options, files);
  for (const one of files) await verifier.shard(one);
  return { ...verifier.totals, nodes: nodes.length, shards: files.length };
}

async function nodesIn({ disk }: Env, directory: string): Promise<string[]> {
  if (await disk.exists(`${directory}/shards`)) return [directory];
  const names = (await disk.exists(directory)) ? await disk.list(directory) : [];
  const nodes: string[] = [];
  for (const name of names) {
    // A file among them is no directory with shards.
    const isNode = await disk.exists(`${directory}/${name}/shards`).catch(() => false);
    if (isNode) nodes.push(`${directory}/${name}`);
  }
  if (nodes.length > 0) return nodes;
  throw new SilverbackError('NOT_FOUND', `${directory} is no node's data directory, and holds none`);
}

async function filesOf({ disk }: Env, node: string, only: number | undefined): Promise<Files[]> {
  const shards = (await disk.list(`${node}/shards`)).filter((name) => /^\d+$/.test(name)).map(Number);
  const wanted = shards.filter((shard) => only === undefined || shard === only).sort((a, b) => a - b);
  return Promise.all(
    wanted.map(async (shard) => {
      const directory = `${node}/shards/${shard}`;
      const list = async (folder: string): Promise<string[]> =>
        (await disk.list(`${directory}/${folder}`)).map((name) => `${directory}/${folder}/${name}`);
      const [log, checkpoints, blocks] = await Promise.all([list('log'), list('checkpoints'), list('blocks')]);
      const aside = (await disk.exists(`${directory}/blocks/quarantine`)) ? await list('blocks/quarantine') : [];
      return {
        shard,
        directory,
        segments: log.filter((path) => parseSegmentName(baseOf(path)) !== undefined),
        checkpoints: checkpoints.filter((path) => path.endsWith('.ckpt')),
        blocks: blocks.filter((path) => parseBlockName(baseOf(path)) !== undefined),
        setAside: [...[...log, ...checkpoints].filter((path) => path.endsWith('.quarantine')), ...aside],
      };
    }),
  );
}

/** Runs checks; what they throw becomes a finding. */
class Check {
  readonly #env: Env;
  readonly #found: (finding: Finding) => void;

  constructor(env: Env, found: (finding: Finding) => void) {
    this.#env = env;
    this.#found = found;
  }

  /** False: it failed. */
  async of(file: string, task: () => Promise<void>): Promise<boolean> {
    try {
      await task();
      return true;
    } catch (error) {
      const system = (error as NodeJS.ErrnoException).code;
      if (!(error instanceof SilverbackError) && typeof system !== 'string') throw error;
      // The readers' own messages begin with the file.
      const message = (error as Error).message.replace(`${file}: `, '');
      this.#found({ severity: 'damage', file, message });
      return false;
    } finally {
      await this.#env.timers.yield();
    }
  }
}

class Verifier {
  readonly totals = { segments: 0, records: 0, checkpoints: 0, blocks: 0, blockSamples: 0, bytes: 0 };
  readonly #env: Env;
  readonly #options: VerifyOptions;
  readonly #check: Check;
  readonly #total: number;
  #done = 0;

  constructor(env: Env, options: VerifyOptions, files: readonly Files[]) {
    this.#env = env;
    this.#options = options;
    this.#check = new Check(env, options.found);
    this.#total = files.reduce((sum, one) => sum + one.segments.length + one.checkpoints.length + one.blocks.length, 0);
  }

  async shard(files: Files): Promise<void> {
    for (const path of files.setAside) {
      this.#options.found({ severity: 'note', file: path, message: 'damage that was found before, and set aside' });
    }
    const position = await this.#checkpoints(files);
    await this.#log(files, position);
    await this.#blocks(files);
  }

  /** The position of the newest sound checkpoint. */
  async #checkpoints({ shard, checkpoints }: Files): Promise<number | undefined> {
    let newest: number | undefined;
    for (const path of checkpoints) {
      this.#next(path);
      await this.#check.of(path, async () => {
        const { position, byteCount } = await verifyCheckpoint(this.#env, path, shard);
        this.totals.checkpoints++;
        this.totals.bytes += byteCount;
        newest = position.sequence;
      });
    }
    return newest;
  }

  /** Recovery needs every record from `position` on, or all of them. */
  async #log({ shard, segments }: Files, position: number | undefined): Promise<void> {
    let before: SegmentEnd | undefined;
    for (const [i, path] of segments.entries()) {
      this.#next(path);
      await this.#check.of(path, async () => {
        const segment = await this.#segment(path, shard, i === segments.length - 1);
        const last = before;
        before = segment;
        const { firstSequence } = segment.header;
        if (i === 0 && position !== undefined && firstSequence > position) {
          const what = `the log begins at record ${firstSequence}, the checkpoint needs it from ${position} on`;
          throw new SilverbackError('CORRUPT', what);
        }
        const expected = last && endBefore(segment.header, last.header);
        if (last !== undefined && expected !== undefined && last.endSequence < expected) {
          throw new SilverbackError(
            'CORRUPT',
            `records from ${last.endSequence} up to ${expected} are missing before it`,
          );
        }
      });
    }
  }

  async #segment(path: string, shard: number, isLast: boolean): Promise<SegmentEnd> {
    const file = await this.#env.disk.open(path, 'read');
    try {
      const size = await file.size();
      const header = parseSegmentHeader(await file.read(0, SEGMENT_HEADER_BYTES), path);
      if (header === undefined) throw new SilverbackError('CORRUPT', 'its header is damaged');
      if (header.shard !== shard) throw new SilverbackError('CORRUPT', `it belongs to shard ${header.shard}`);
      if (header.firstSequence !== parseSegmentName(baseOf(path))) {
        throw new SilverbackError(
          'CORRUPT',
          `it begins with record ${header.firstSequence}, which is not what its name says`,
        );
      }
      const scanner = new Scanner(file, header.incarnation);
      const frame = new Frame();
      let endSequence = header.firstSequence;
      for (let found = await scanner.next(size); found !== undefined; found = await scanner.next(size)) {
        const { offset, byteCount } = found;
        if (found.kind === 'damage') {
          const isTail = found.torn && isLast;
          const what = isTail ? 'an unfinished write at its end' : 'bytes that are no record';
          const severity = isTail ? 'note' : 'damage';
          this.#options.found({ severity, file: path, message: `${what}: ${byteCount} at offset ${offset}` });
          continue;
        }
        const { flags, firstSequence, recordCount, rawBytes } = found.header;
        if ((flags & FrameFlag.VOID) !== 0) {
          const message = `damage that was found before, and covered: ${byteCount} bytes at offset ${offset}`;
          this.#options.found({ severity: 'note', file: path, message });
          endSequence = Number.NaN;
          continue;
        }
        if (recordCount > 0 && firstSequence > endSequence) {
          const message = `records from ${endSequence} up to ${firstSequence} are missing at offset ${offset}`;
          this.#options.found({ severity: 'damage', file: path, message });
        }
        const body = (flags & FrameFlag.LZ4) !== 0 ? unpack(found.body, rawBytes) : found.body;
        frame.reset(found.header, body, 0, false, 0);
        while (frame.next()) this.totals.records++;
        endSequence = firstSequence + recordCount;
      }
      this.totals.segments++;
      this.totals.bytes += size;
      return { header, endSequence };
    } finally {
      await file.close();
    }
  }

  async #blocks({ shard, blocks }: Files): Promise<void> {
    if (blocks.length === 0) return;
    const kernel = ShardKernel.create({ maxSeriesCount: MAX_SERIES_COUNT, maxMemoryBytes: MAX_KERNEL_BYTES });
    const slicer = new Slicer(this.#env);
    for (const path of blocks) {
      this.#next(path);
      await this.#check.of(path, async () => {
        const { windowStartMs, generation } = parseBlockName(baseOf(path)) as {
          windowStartMs: number;
          generation: number;
        };
        const intern = (identity: Uint8Array) => kernel.intern(identity).id;
        const block = await SealedBlock.open(this.#env, { path, generation }, { shard, windowStartMs }, intern, slicer);
        await block.bringIn();
        await verifyBlock(kernel, block, slicer);
        block.evict();
        this.totals.blocks++;
        this.totals.blockSamples += block.sampleCount;
        this.totals.bytes += block.fileBytes;
      });
    }
  }

  #next(file: string): void {
    this.#options.progress(this.#done++, this.#total, file);
  }
}

/** Where the segment before one has to end. After an unclean end sequences skip, and the table of past lives says where it was. */
function endBefore(header: SegmentHeader, before: SegmentHeader): number | undefined {
  if (header.incarnation === before.incarnation) return header.firstSequence;
  return header.lives.find((life) => life.incarnation === before.incarnation)?.endSequence;
}

function baseOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
