/**
 * `npm run bench -- NAME [options]`: runs one bench of this folder. Each is a module with `run(args)`;
 * bench/README.md keeps the figures.
 */
const BENCHES: Readonly<Record<string, () => Promise<{ run(args: string[]): Promise<void> }>>> = {
  balance: () => import('./balance.ts'),
  heavy: () => import('./heavy.ts'),
  fill: () => import('./fill.ts'),
  ingest: () => import('./ingest.ts'),
  kernel: () => import('./kernel.ts'),
  log: () => import('./log.ts'),
  moves: () => import('./moves.ts'),
  overload: () => import('./overload.ts'),
  peers: () => import('./peers.ts'),
  promql: () => import('./promql.ts'),
  query: () => import('./query.ts'),
  recovery: () => import('./recovery.ts'),
  rolling: () => import('./rolling.ts'),
  regions: () => import('./regions.ts'),
  replication: () => import('./replication.ts'),
  sdk: () => import('./sdk.ts'),
  shard: () => import('./shard.ts'),
};

const [name, ...args] = process.argv.slice(2);
const bench = name === undefined ? undefined : BENCHES[name];
if (bench === undefined) {
  console.error(`usage: npm run bench -- NAME [options]; NAME is one of ${Object.keys(BENCHES).join(', ')}`);
  process.exitCode = 2;
} else {
  await (await bench()).run(args);
}
