import { describe, expect, test } from 'vitest';
import { type Edit, plant } from '../sim/mutant.ts';
import { SimCluster, type Tilt } from './cluster.ts';
import { engine } from './engine.ts';

const SEED_COUNT = 40;
const BY_HAND_COUNT = 20;
const TIMEOUT = { timeout: 600_000 };

test(`${SEED_COUNT} random histories of a cluster keep every promise`, TIMEOUT, async () => {
  for (let seed = 0; seed < SEED_COUNT; seed++) await SimCluster.run(seed);
});

test(
  `${BY_HAND_COUNT} histories in which shards are moved by hand, and moves held, keep them, too`,
  TIMEOUT,
  async () => {
    const tilt = { byHand: true, operatorShare: 0.08 } as const;
    for (let seed = 0; seed < BY_HAND_COUNT; seed++) await SimCluster.run(seed, engine, tilt);
  },
);

/** What these seeds found, each once; what they need may have moved to other seeds since. */
const FOUND: Record<string, number> = {
  'what lies on the disk of a node that starts does not undo the placement': 60,
  'a copy that began empty is filled to the end, whatever restarts in between': 315,
};

describe('found once:', () => {
  for (const [name, seed] of Object.entries(FOUND))
    test(name, TIMEOUT, () => SimCluster.run(seed).then(() => undefined));
});

const PLACEMENT = ['core/meta/placer.ts', 'core/meta/decide.ts'];
const REPAIR = ['repair', 'serve', 'heal'].map((name) => `node/repair/${name}.ts`);

interface Bug {
  readonly files: readonly string[];
  readonly edits: readonly Edit[];
  readonly seen: RegExp;
  readonly tilt?: Tilt;
}

/** Each must be noticed within as many seeds. */
const BUGS: Record<string, Bug> = {
  'a takeover forgets the old tail': {
    files: PLACEMENT,
    edits: [
      {
        file: 'decide.ts',
        replace: "this.#askAgain(shard, copy);\n        places.turn(copy, 'leaving');",
        by: 'places.remove(copy);',
      },
    ],
    seen: /lacks what was acknowledged/,
  },
  'repair brings back what was deleted': {
    files: REPAIR,
    edits: [
      {
        file: 'heal.ts',
        replace: 'if (deletions.length > 0) sequence = (await replica.apply(deletions)) || sequence;',
        by: 'if (deletions.length > 0) sequence = 0;',
      },
    ],
    tilt: { deletionShare: 0.15 },
    seen: /lacks deletions/,
  },
};

describe('planted bugs are noticed:', () => {
  for (const [name, { files, edits, seen, tilt }] of Object.entries(BUGS)) {
    test(name, TIMEOUT, async () => {
      const { engine: mutant } = await plant<{ engine: typeof engine }>(['test/simulation/engine.ts', ...files], edits);
      await expect(
        (async () => {
          for (let seed = 0; seed < SEED_COUNT; seed++) await SimCluster.run(seed, mutant, tilt);
        })(),
      ).rejects.toThrow(seen);
    });
  }
});
