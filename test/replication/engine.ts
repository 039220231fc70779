/** What the simulation of replication runs, in one place, so that bugs can be planted in it. */
import { Replication } from '../../node/replication/replication.ts';
import { serveReplication } from '../../node/replication/sink.ts';
import { Shard } from '../../node/shard/shard.ts';

export const engine = { Replication, serveReplication, Shard };
