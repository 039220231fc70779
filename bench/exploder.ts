/** A program that writes new series without end through the SDK, whatever it is answered. Arguments: a coordinator's host:port, a region. */
import { Client } from '../client/index.ts';

const [endpoint = '', region = ''] = process.argv.slice(2);
const client = new Client({ endpoints: [endpoint], region, caller: 'exploder', onDrop: () => undefined });
let next = 0;
for (;;) {
  const timestampMs = Date.now();
  const samples = Array.from({ length: 5_000 }, () => ({
    labels: { __name__: 'runaway_total', id: String(next++) },
    timestampMs,
    value: 1,
  }));
  // Refused from the limit on.
  await client.write(samples).catch(() => undefined);
}
