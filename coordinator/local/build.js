/**
 * Builds dist/ when it is older than the sources: the wasm kernel, the compiled TypeScript, and beside them
 * what is read at run time (proto files, wasm), at the same relative places as in the sources.
 * Plain JavaScript, because it runs before anything is compiled.
 *
 *   node coordinator/local/build.js [--if-stale]
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const STAMP = join(ROOT, 'dist/.built');
const SOURCES = ['core', 'node', 'coordinator', 'client', 'chaos', 'bench', 'proto'];
/** Files that the program reads at run time. */
const AS_THEY_ARE = /\.(proto|wasm|html|css|svg)$/;
const SETTINGS = ['package.json', 'package-lock.json', 'tsconfig.json', '.tsconfig.build.json'];

/** @returns {Generator<string>} every file below `folder`, as absolute paths */
function* filesBelow(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else yield path;
  }
}

/** True when every source is older than the last successful build. Wasm files are results, not sources. */
export function isBuilt() {
  if (!existsSync(STAMP)) return false;
  const builtMs = statSync(STAMP).mtimeMs;
  for (const file of SETTINGS) if (statSync(join(ROOT, file)).mtimeMs > builtMs) return false;
  for (const folder of SOURCES) {
    for (const file of filesBelow(join(ROOT, folder))) {
      if (/\.(ts|js|json|proto|html|css|svg)$/.test(file) && statSync(file).mtimeMs > builtMs) return false;
    }
  }
  return true;
}

/** Runs one step; its output is shown only when it fails. Throws with the step's own words. */
function step(name, command, args) {
  const result = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (result.error !== undefined) throw new Error(`${name}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${name} failed:\n${result.stdout}${result.stderr}`);
}

/** True when the wasm files are younger than all they are made from: compiling them takes most of a build. */
function hasKernel() {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const made = scripts['build:kernel'].match(/\S+\.wasm/g).map((file) => join(ROOT, file));
  const from = [...filesBelow(join(ROOT, 'core/kernel/assembly')), ...SETTINGS.map((file) => join(ROOT, file))];
  const newestMs = Math.max(...from.map((file) => statSync(file).mtimeMs));
  return made.every((file) => existsSync(file) && statSync(file).mtimeMs > newestMs);
}

export function build() {
  // A source saved while the build runs must count as newer, so the stamp carries the time of the start.
  const startedAt = new Date();
  if (!hasKernel()) step('kernel', 'npm', ['run', '--silent', 'build:kernel']);
  for (const project of ['.tsconfig.build.json', 'coordinator/web/browser/tsconfig.json']) {
    step('typescript', process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', project]);
  }
  for (const folder of SOURCES) {
    for (const file of filesBelow(join(ROOT, folder))) {
      if (AS_THEY_ARE.test(file)) cpSync(file, join(ROOT, 'dist', file.slice(ROOT.length + 1)));
    }
  }
  writeFileSync(STAMP, `${startedAt.toISOString()}\n`);
  utimesSync(STAMP, startedAt, startedAt);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (!process.argv.includes('--if-stale') || !isBuilt()) build();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
