/**
 * `npm test`: fetches the real parts the tests run against, builds, and runs vitest.
 * Arguments go to vitest: `npm test -- test/meta`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build, isBuilt, ROOT } from '../../coordinator/local/build.js';
import { fetchParts } from './parts.js';

const { skipped, environment } = fetchParts();
try {
  if (!isBuilt()) build();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

const vitest = spawnSync(
  process.execPath,
  [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--reporter=default', ...process.argv.slice(2)],
  { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...environment } },
);
for (const line of skipped) console.log(`SKIPPED: ${line}`);
process.exit(vitest.status ?? 1);
