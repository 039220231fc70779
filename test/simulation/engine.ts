/** What the simulated cluster runs, in one place, so that bugs can be planted in it. */
import { openEmbeddedMeta } from '../../core/meta/embedded.ts';
import { register } from '../../core/meta/member.ts';
import { keepPlacement } from '../../core/meta/placer.ts';
import { openView } from '../../core/meta/view.ts';
import { Custody } from '../../node/custody.ts';
import { Node } from '../../node/node.ts';
import { Repair } from '../../node/repair/repair.ts';
import { serveCompare, serveFetch } from '../../node/repair/serve.ts';
import { Replication } from '../../node/replication/replication.ts';
import { serveReplication } from '../../node/replication/sink.ts';

export const engine = {
  ...{ openEmbeddedMeta, register, keepPlacement, openView },
  ...{ Custody, Node, Repair, serveCompare, serveFetch, Replication, serveReplication },
};
