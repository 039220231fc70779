import { describe, expect, test } from 'vitest';
import type { Shard } from '../../node/shard/shard.ts';
import { type Edit, plant } from '../sim/mutant.ts';
import { simulate, type Tilt } from './simulation.ts';

const SEED_COUNT = 2000;
const TIMEOUT = { timeout: 600_000 };

test(`${SEED_COUNT} random histories keep every promise`, TIMEOUT, async () => {
  for (let seed = 0; seed < SEED_COUNT; seed++) await simulate(seed);
});

const FILES = [
  ...['shard', 'blocks', 'budget', 'catalogue', 'checkpoint', 'definitions', 'deletions', 'log', 'options', 'order'],
  ...['gaps', 'keeper', 'opening', 'pages', 'postings', 'problems', 'retention', 'sealer', 'stats'],
  ...['reader', 'recover', 'restore', 'seal', 'segment', 'select', 'sender', 'slicer'],
].map((name) => `node/shard/${name}.ts`);

/** Each must be noticed within the same seeds. */
const BUGS: Record<string, { readonly edits: readonly Edit[]; readonly seen: RegExp; readonly tilt?: Tilt }> = {
  'acknowledge before the log': {
    edits: [
      {
        file: 'sender.ts',
        replace:
          "if (ack === 'FSYNC') await this.#log.synced(sequence);\n      else await this.#log.written(sequence);",
        by: '',
      },
    ],
    seen: /lost/,
  },
  'reuse a sequence number after a lost tail': {
    edits: [
      {
        file: 'recover.ts',
        replace: 'lives: [...header.lives, ended].slice(-MAX_LIVES),\n    nextSequence: found + SEQUENCE_SKIP,',
        by: 'lives: [...header.lives, ended].slice(-MAX_LIVES),\n    nextSequence: endSequence + 1,',
      },
      {
        file: 'log.ts',
        replace: 'else end = this.lives.find((life) => life.incarnation === from.incarnation)?.endSequence;',
        by: 'else end = this.nextSequence;',
      },
      // A checkpoint that never stands for more than the log has on disk hides it: here nothing else knows of sequences.
      {
        file: 'keeper.ts',
        replace: 'if (this.#log.syncedSequence < position.sequence) await this.#log.synced(position.sequence - 1);',
        by: '',
      },
    ],
    tilt: { fsyncShare: 0, syncDelayMs: 10_000, checkpointIntervalMs: 1 },
    seen: /lost/,
  },
  'drop a late sample': {
    edits: [{ file: 'seal.ts', replace: 'const chunk = merged ?? sealed;', by: 'const chunk = sealed ?? merged;' }],
    seen: /lacks|lost|differ/,
  },
  'count a duplicate twice': {
    edits: [
      {
        file: 'seal.ts',
        replace:
          'slicer.spend(50);\n      if (slicer.due()) await slicer.pause();\n    }\n  }\n  for (const id of affected',
        by: 'if (chunk !== undefined) kernel.addDigest(id, windowStartMs, chunk);\n    }\n  }\n  for (const id of affected',
      },
    ],
    seen: /digests of window \d+ differ/,
  },
  'free a segment too early': {
    edits: [
      {
        file: 'keeper.ts',
        replace: 'const { release, byteCount } = await writer.commit();',
        by: 'await this.#log.release(position.sequence); const { release, byteCount } = await writer.commit();',
      },
    ],
    tilt: { fsyncShare: 0.9, syncDelayMs: 1, checkpointIntervalMs: 1 },
    seen: /lost/,
  },
  'count a record to a checkpoint that does not hold it': {
    edits: [
      {
        file: 'keeper.ts',
        replace: 'const position = this.#log.tail();',
        by: 'const position = { ...this.#log.tail(), sequence: this.#log.tail().sequence + 1 };',
      },
    ],
    seen: /lost|was not handed out/,
  },
  'release runs before their block is durable': {
    edits: [{ file: 'blocks.ts', replace: 'await file.sync();', by: '' }],
    seen: /lost|unsound/,
  },
  'release runs before their block has its name': {
    edits: [{ file: 'blocks.ts', replace: 'await disk.syncDirectory(this.#directory);\n    } catch', by: '} catch' }],
    seen: /lost/,
  },
  'replay the log without what a segment defines': {
    edits: [{ file: 'restore.ts', replace: 'segment = frame.segment;', by: '' }],
    seen: /lost|lack their series/,
  },
  'forget the open runs of a window that has a block': {
    edits: [
      {
        file: 'select.ts',
        replace: 'if (merged !== undefined || dead !== undefined) chunk = merged;',
        by: 'if (sealed === undefined || dead !== undefined) chunk = merged;',
      },
    ],
    seen: /lacks|lost|has/,
  },
  'leave the deletions out of a checkpoint': {
    edits: [{ file: 'pages.ts', replace: 'for (const deletion of deletions) {', by: 'for (const deletion of []) {' }],
    tilt: { checkpointIntervalMs: 1, deletionShare: 0.2 },
    seen: /a deletion was lost|lack/,
  },
  'show a sample that came after its deletion': {
    edits: [
      {
        file: 'select.ts',
        replace: 'if (dead !== undefined && !isOpen && !touches(sealed, startMs, dead)) dead = undefined;',
        by: 'if (dead !== undefined && !touches(sealed, startMs, dead)) dead = undefined;',
      },
    ],
    seen: /a deleted sample is shown/,
  },
  'seal what is deleted': {
    edits: [
      {
        file: 'seal.ts',
        replace: 'const alive = kernel.seal(id, windowStartMs, sealed, dead)?.slice();',
        by: 'const alive = (kernel.seal(id, windowStartMs, sealed) ?? sealed)?.slice();',
      },
    ],
    seen: /differ|other windows have blocks/,
  },
  'count what is deleted': {
    edits: [
      {
        file: 'seal.ts',
        replace:
          'kernel.addDigest(id, windowStartMs, chunk, deletions.within(id, windowStartMs));\n      slicer.spend(50);',
        by: 'kernel.addDigest(id, windowStartMs, chunk);\n      slicer.spend(50);',
      },
    ],
    seen: /digests of window \d+ differ/,
  },
};

describe('planted bugs are noticed:', () => {
  for (const [name, { edits, seen, tilt }] of Object.entries(BUGS)) {
    test(name, TIMEOUT, async () => {
      const mutant = await plant<{ Shard: typeof Shard }>(FILES, edits);
      const open: typeof Shard.open = (env, directory, options) => mutant.Shard.open(env, directory, options);
      await expect(
        (async () => {
          for (let seed = 0; seed < SEED_COUNT; seed++) await simulate(seed, open, tilt);
        })(),
      ).rejects.toThrow(seen);
    });
  }
});
