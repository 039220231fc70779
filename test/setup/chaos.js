/** `npm run chaos`: fetches the real parts it runs against, builds what is stale, and runs it. Arguments go to chaos/main.ts. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build, isBuilt, ROOT } from '../../coordinator/local/build.js';
import { fetchParts } from './parts.js';

const { environment } = fetchParts();
try {
  if (!isBuilt()) build();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
const run = spawnSync(process.execPath, [join(ROOT, 'dist/chaos/main.js'), ...process.argv.slice(2)], {
  cwd: ROOT,
  stdio: 'inherit',
  env: { ...process.env, ...environment },
});
process.exit(run.status ?? 1);
