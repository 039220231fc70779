/**
 * The real programs that tests run against. What is on the PATH is used as it is. What is missing is taken out of its
 * Debian package into a cache folder, without installing it: nothing starts, no port is bound, no root is needed, and
 * nothing is left on the machine outside node_modules. One that needs the libraries of other packages is installed. One
 * that Debian lacks is built with Go, where there is Go, in Go's own caches.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../coordinator/local/build.js';

/**
 * One row per part: the program, the package that holds it, the variable that tells a test where it is, what is not
 * tested without it. `installed`: unpacking is not enough, it is installed, which takes root. `source`: built from there. `library`: no
 * program, but what is put before one, somewhere below usr/lib.
 */
const PARTS = [
  {
    program: 'prometheus',
    package: 'prometheus',
    variable: 'SILVERBACK_TEST_PROMETHEUS',
    proves: 'test/real: a real Prometheus remote-writes into the cluster',
  },
  {
    program: 'prometheus-node-exporter',
    package: 'prometheus-node-exporter',
    variable: 'SILVERBACK_TEST_NODE_EXPORTER',
    proves: 'test/real: a real node_exporter is scraped',
  },
  {
    program: 'etcd',
    package: 'etcd-server',
    variable: 'SILVERBACK_TEST_ETCD',
    proves: 'test/meta, test/local: a real etcd keeps the meta store',
  },
  {
    program: 'chromium',
    package: 'chromium',
    variable: 'SILVERBACK_TEST_CHROMIUM',
    proves: 'test/web, test/real: the web page in a real browser',
    installed: true,
  },
  {
    program: 'toxiproxy-server',
    source: 'github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0',
    variable: 'SILVERBACK_TEST_TOXIPROXY',
    proves: 'test/chaos: real processes under network faults',
  },
  {
    program: 'faketime/libfaketime.so.1',
    package: 'libfaketime',
    variable: 'SILVERBACK_TEST_FAKETIME',
    proves: 'chaos: clocks that jump',
    library: true,
  },
];

const CACHE = join(ROOT, 'node_modules/.cache/silverback-parts');

function run(command, args, cwd, env = process.env) {
  const result = spawnSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const ok = result.error === undefined && result.status === 0;
  return { ok, output: result.error?.message ?? `${result.stdout}${result.stderr}`.trim() };
}

function onPath(program) {
  for (const folder of (process.env.PATH ?? '').split(':')) {
    if (folder !== '' && existsSync(join(folder, program))) return join(folder, program);
  }
  return undefined;
}

/** Downloads the package and unpacks it; returns what went wrong, or undefined. */
function unpack(part, folder) {
  mkdirSync(folder, { recursive: true });
  let download = run('apt-get', ['download', part.package], folder);
  // A fresh container has no package lists.
  if (!download.ok && process.getuid?.() === 0 && run('apt-get', ['update'], folder).ok) {
    download = run('apt-get', ['download', part.package], folder);
  }
  if (!download.ok) return `apt-get download ${part.package}: ${download.output.split('\n').at(-1)}`;
  const file = readdirSync(folder).find((name) => name.endsWith('.deb'));
  if (file === undefined) return `apt-get download ${part.package} left no package`;
  const unpacked = run('dpkg-deb', ['-x', file, '.'], folder);
  return unpacked.ok ? undefined : `dpkg-deb -x ${file}: ${unpacked.output}`;
}

/** Installs the package with what it needs; returns what went wrong, or undefined. */
function install(part) {
  if (process.getuid?.() !== 0) return `installing ${part.package} takes root`;
  const command = ['install', '-y', '--no-install-recommends', part.package];
  let installed = run('apt-get', command, ROOT);
  // A fresh container has no package lists.
  if (!installed.ok && run('apt-get', ['update'], ROOT).ok) installed = run('apt-get', command, ROOT);
  return installed.ok ? undefined : `apt-get install ${part.package}: ${installed.output.split('\n').at(-1)}`;
}

/** Builds the program where an unpacked one would lie; returns what went wrong, or undefined. */
function compile(part, folder) {
  if (onPath('go') === undefined) return 'building it takes Go';
  const bin = join(folder, 'usr/bin');
  mkdirSync(bin, { recursive: true });
  const built = run('go', ['install', part.source], folder, { ...process.env, GOBIN: bin });
  if (!built.ok) return `go install ${part.source}: ${built.output.split('\n').at(-1)}`;
  // Go names a program after its folder.
  renameSync(join(bin, 'server'), join(bin, part.program));
  return undefined;
}

/** Where an unpacked part lies: programs in usr/bin, libraries in a folder of the machine's kind below usr/lib. */
function placeOf(part, folder) {
  if (!part.library) return join(folder, 'usr/bin', part.program);
  const above = join(folder, 'usr/lib');
  const kinds = existsSync(above) ? readdirSync(above) : [];
  return kinds.map((kind) => join(above, kind, part.program)).find(existsSync) ?? join(above, part.program);
}

/** What is wrong with a part that is there, or undefined. */
function problemOf(part, path) {
  if (!part.library) return run(path, ['--version']).ok ? undefined : `${path} --version fails`;
  const works = run(process.execPath, ['--version'], ROOT, { ...process.env, LD_PRELOAD: path });
  return works.ok && !works.output.includes('LD_PRELOAD') ? undefined : `${path} cannot be loaded: ${works.output}`;
}

function obtain(part, folder) {
  if (part.source !== undefined) return compile(part, folder);
  return part.installed ? install(part) : unpack(part, folder);
}

/**
 * @returns {{ skipped: string[], environment: Record<string, string> }} what cannot be tested here and why,
 * and the variables through which tests find the programs
 */
export function fetchParts() {
  const skipped = [];
  const environment = {};
  for (const part of PARTS) {
    const folder = join(CACHE, part.program);
    let problem;
    if (onPath(part.program) === undefined && !existsSync(placeOf(part, folder))) {
      const how = part.installed ? 'installed' : 'unpacked into node_modules/.cache';
      const what = part.source === undefined ? `${part.package} (Debian package, ${how})` : `${part.source} (with Go)`;
      console.log(`fetching ${what} ...`);
      rmSync(folder, { recursive: true, force: true });
      problem = obtain(part, folder);
    }
    const program = onPath(part.program) ?? placeOf(part, folder);
    problem ??= problemOf(part, program);
    if (problem === undefined) environment[part.variable] = program;
    else skipped.push(`${part.proves}: no ${part.program} here (${problem})`);
  }
  for (const line of skipped) console.log(`SKIPPED: ${line}`);
  return { skipped, environment };
}
