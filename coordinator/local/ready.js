/**
 * Makes a bare clone able to run: checks Node, installs packages and builds where that is needed. Plain JavaScript,
 * because it runs before there is anything else.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { build, isBuilt, ROOT } from './build.js';

function fail(message) {
  console.error(message);
  process.exit(1);
}

function isAtLeast(version, least) {
  const [a, b] = [version, least].map((text) => text.split('.').map(Number));
  for (let i = 0; i < 3; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) > (b[i] ?? 0);
  return true;
}

/** True when what npm installed last is not older than the lock file. */
function isInstalled() {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs;
}

/** @param {(line: string) => void} say told what takes its time. Ends the process where it cannot be done. */
export function makeReady(say) {
  const least = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).engines.node.replace('>=', '');
  if (!isAtLeast(process.versions.node, least))
    fail(`Silverback needs Node ${least} or later; this is ${process.version}.`);

  if (!isInstalled()) {
    say('installing packages (npm ci) ...');
    // The compiler is a development package, and is needed whatever NODE_ENV says.
    const options = { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] };
    const install = spawnSync('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], options);
    if (install.status !== 0) fail('npm ci failed: the packages could not be installed.');
  }
  if (!isBuilt()) {
    say('building ...');
    try {
      build();
    } catch (error) {
      fail(error.message);
    }
  }
}
