// The floors of ARCHITECTURE.md ("The house") as rules. Imports only go down.
const forbid = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to });

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    forbid('no-circular', 'Two modules that need each other are one module.', {}, { circular: true }),
    forbid('no-unresolvable', 'An import that resolves to nothing.', {}, { couldNotResolve: true }),
    forbid(
      'declared',
      'Every package used is in package.json.',
      {},
      { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    ),
    forbid(
      'no-dev-dependency',
      'What runs in production may not need a development package.',
      { path: '^(core|node|coordinator|client)/', pathNot: '^coordinator/local/start\\.js$' },
      { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    ),
    forbid(
      'core-is-the-ground',
      'core imports nothing above it.',
      { path: '^core/' },
      { path: '^(node|coordinator|client|chaos|test|bench)/' },
    ),
    forbid(
      'node-stands-alone',
      'Nodes meet the others in proto/ and core/.',
      { path: '^node/' },
      { path: '^(coordinator|client|chaos|test|bench)/' },
    ),
    forbid(
      'client-stands-alone',
      'The SDK meets the others in proto/ and core/.',
      { path: '^client/' },
      { path: '^(node|coordinator|chaos|test|bench)/' },
    ),
    forbid(
      'coordinator-uses-client',
      'The coordinator uses core and client only.',
      { path: '^coordinator/' },
      { path: '^(node|chaos|test|bench)/' },
    ),
    forbid(
      'promql-is-pure',
      'The engine knows core and its view of data, nothing else.',
      { path: '^coordinator/promql/' },
      { path: '^(client/|coordinator/(?!promql/|query/queryable\\.ts$))' },
    ),
    forbid(
      'modules-below-servers',
      'Query, ingest, remote read and cluster are floor 2: they know no server.',
      { path: '^coordinator/(query|ingest|remote|cluster)/' },
      { path: '^coordinator/(http|local)/' },
    ),
    forbid(
      'local-starts-processes',
      'What npm start runs knows processes, not the parts inside them.',
      { path: '^coordinator/local/' },
      { path: '^coordinator/(?!local/)' },
    ),
    forbid(
      'cli-is-a-client',
      'The command line asks as everybody does; of the coordinator it knows the shape of the answers.',
      { path: '^coordinator/cli/' },
      { path: '^coordinator/(?!cli/|local/(ready|build)\\.js$|cluster/(report|digests|moves|plan)\\.ts$)' },
    ),
    forbid(
      'browser-stands-alone',
      'What a browser loads imports its own modules and packages.',
      { path: '^coordinator/web/browser/' },
      { pathNot: '^(coordinator/web/browser/|node_modules/)' },
    ),
    forbid('shard-below-server', 'The engine knows no server.', { path: '^node/shard/' }, { path: '^node/(?!shard/)' }),
    forbid(
      'env-is-a-door',
      'Only roots choose the real world; the SDK is one, for programs that are not ours.',
      { path: '^(core|node|coordinator|client)/', pathNot: '(^|/)main\\.ts$|^client/client\\.ts$' },
      { path: '^core/env/node\\.ts$' },
    ),
    forbid('main-is-a-root', 'Nobody imports a main.', {}, { path: '(^|/)main\\.ts$' }),
    forbid(
      'tests-stay-outside',
      'Only test, bench and chaos know one another.',
      { path: '^(core|node|coordinator|client)/' },
      { path: '^(test|bench|chaos)/' },
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist/|data/|core/kernel/assembly/|\\.)' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    detectProcessBuiltinModuleCalls: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};
