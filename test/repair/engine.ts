/** What copies repair with, in one place, so that bugs can be planted in it. */
import { Repair } from '../../node/repair/repair.ts';
import { serveCompare, serveFetch } from '../../node/repair/serve.ts';

export const engine = { Repair, serveCompare, serveFetch };
