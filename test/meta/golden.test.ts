/** Files of the meta store as version 1 wrote them. They must be read for ever: never write them anew, add a version beside. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import type { LeaseId } from '../../core/meta/store.ts';
import { Sim } from '../sim/sim.ts';

const golden = (name: string): Uint8Array => readFileSync(join(import.meta.dirname, '../golden', name));

test('version 1 of snapshot and log', async () => {
  const sim = new Sim(1);
  sim.disk.replace('/meta/snapshot-1', golden('meta-snapshot-1.bin'));
  sim.disk.replace('/meta/log-1', golden('meta-log-1.bin'));
  const store = await sim.settle(openEmbeddedMeta(sim.boot(), '/meta'));
  const lease = 'b0c45ebbe087be6b' as LeaseId;
  expect(await sim.settle(store.range(''))).toEqual({
    revision: 4,
    entries: [
      { key: 'a', value: '2', revision: 3, lease: undefined },
      { key: 'nodes/ü', value: '{"x":1}', revision: 2, lease },
    ],
  });
  await sim.settle(store.renewLease(lease));
});
