import { describe, expect, test } from 'vitest';
import { Log } from '../../node/shard/log.ts';
import { type Edit, plant } from '../sim/mutant.ts';
import { runHistory } from './history.ts';

const SEED_COUNT = 3000;
const FILES = ['log', 'reader', 'recover', 'segment'].map((name) => `node/shard/${name}.ts`);

test(`${SEED_COUNT} random histories keep every promise`, async () => {
  for (let seed = 0; seed < SEED_COUNT; seed++) await runHistory(seed, Log.open);
});

/** Each must be noticed within the same seeds. */
const BUGS: Record<string, Edit & { readonly seen: RegExp }> = {
  'acknowledge before the write': {
    file: 'log.ts',
    replace: 'await segment.file!.write(parts, segment.byteCount);',
    by: 'for (const group of groups) group.waiting?.resolve(); await segment.file!.write(parts, segment.byteCount);',
    seen: /lost/,
  },
  'report synced without an fsync': {
    file: 'log.ts',
    replace: 'for (const segment of segments) await segment.file!.sync();',
    by: '',
    seen: /lost/,
  },
  'report synced without syncing the directory of a new segment': {
    file: 'log.ts',
    replace: 'if (withDirectory) await this.env.disk.syncDirectory(this.directory);',
    by: '',
    seen: /lost/,
  },
  'reuse a sequence number after a lost tail': {
    file: 'recover.ts',
    replace: 'nextSequence: found + SEQUENCE_SKIP,',
    by: 'nextSequence: found + 1,',
    seen: /given to .* and again/,
  },
  'leave the clean mark of the former life': {
    file: 'log.ts',
    replace: 'await segment.file.truncate(SEGMENT_HEADER_BYTES);\n    await segment.file.sync();',
    by: '',
    seen: /given to .* and again|kept the incarnation/,
  },
  'tell of records that are in the page cache only': {
    file: 'recover.ts',
    replace: 'await file.sync();\n      segments.unshift',
    by: 'segments.unshift',
    seen: /lost/,
  },
  'free a segment too early': {
    file: 'log.ts',
    replace: 'if (file.endSequence > sequence ||',
    by: 'if (file.header.firstSequence > sequence ||',
    seen: /lost/,
  },
  'roll inside append': {
    file: 'log.ts',
    replace: 'const group = this.groupFor(size);',
    by: 'if (this.pending > 500) this.startSegment(); const group = this.groupFor(size);',
    seen: /does not define before/,
  },
  'write what belongs to the next segment, too': {
    file: 'log.ts',
    replace: 'group.segment !== (groups[0] ?? group).segment',
    by: 'false',
    seen: /./,
  },
  'put more into a group that is packed': {
    file: 'log.ts',
    replace: 'this.takenCount = groups.push(group);',
    by: 'this.takenCount = Math.min(1, groups.push(group));',
    seen: /./,
  },
  'give a buffer back before it is written': {
    file: 'log.ts',
    replace: 'await segment.file!.write(parts, segment.byteCount);',
    by: 'for (const group of groups) group.free(); await segment.file!.write(parts, segment.byteCount);',
    seen: /./,
  },
};

describe('planted bugs are noticed:', () => {
  for (const [name, { seen, ...edit }] of Object.entries(BUGS)) {
    test(name, async () => {
      const mutant = await plant<{ Log: typeof Log }>(FILES, [edit]);
      await expect(
        (async () => {
          for (let seed = 0; seed < SEED_COUNT; seed++) await runHistory(seed, mutant.Log.open);
        })(),
      ).rejects.toThrow(seen);
    });
  }
});
