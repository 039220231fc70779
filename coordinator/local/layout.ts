/**
 * Which regions and nodes a local cluster has, kept in its data directory, so that a start without flags does what the one
 * before did.
 *
 * `layout.json` in the data directory: `{"version": 1, "regions": ["east", "west"], "nodes": 2}`, nodes being those of each
 * region. Directories made before there was one tell by the names of their nodes.
 */
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { SilverbackError } from '../../core/errors.ts';
import { checkVersion, newest } from '../../core/versions.ts';

export interface Layout {
  /** Their names; the coordinator is in the first one. */
  readonly regions: readonly string[];
  /** Of each region. */
  readonly nodeCount: number;
}

const FILE = 'layout.json';
/** A region that is alone needs no name; its nodes are called `node-1` and so on. */
const ONLY = 'local';
const NAMES = ['east', 'west', 'north', 'south'];

const schema = z.object({
  version: z.int(),
  regions: z.array(z.string().min(1)).min(1),
  nodes: z.int().min(1),
});

export function regionNames(count: number): string[] {
  if (count === 1) return [ONLY];
  return Array.from({ length: count }, (_, i) => NAMES[i] ?? `region-${i + 1}`);
}

export function nodesOf({ regions, nodeCount }: Layout): { readonly name: string; readonly region: string }[] {
  return regions.flatMap((region) =>
    Array.from({ length: nodeCount }, (_, i) => ({
      name: `${region === ONLY ? 'node' : region}-${i + 1}`,
      region,
    })),
  );
}

/** `one region`, or `2 regions (east, west)`. */
export function inWords(regions: readonly string[]): string {
  return regions.length === 1 ? 'one region' : `${regions.length} regions (${regions.join(', ')})`;
}

/**
 * The layout that the directory was made with; undefined: it is new.
 * @throws SilverbackError CORRUPT when it is not to be read, VERSION
 */
export function readLayout(dataDir: string): Layout | undefined {
  const path = join(dataDir, FILE);
  if (!existsSync(path)) return guess(dataDir);
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    content = undefined;
  }
  const { version } = z.object({ version: z.int() }).safeParse(content).data ?? {};
  if (version !== undefined) checkVersion('layout', version, path);
  const { success, data } = schema.safeParse(content);
  if (success) return { regions: data.regions, nodeCount: data.nodes };
  const sample = JSON.stringify({ version: newest('layout'), regions: regionNames(2), nodes: 2 });
  throw new SilverbackError('CORRUPT', `${path}: expected something like ${sample}, the regions and the nodes of each`);
}

/** Replaces it as a whole. */
export function writeLayout(dataDir: string, { regions, nodeCount }: Layout): void {
  const path = join(dataDir, FILE);
  writeFileSync(`${path}.new`, `${JSON.stringify({ version: newest('layout'), regions, nodes: nodeCount })}\n`);
  renameSync(`${path}.new`, path);
}

/** By the names of the nodes' directories. */
function guess(dataDir: string): Layout | undefined {
  const names = existsSync(dataDir) ? readdirSync(dataDir) : [];
  for (const regions of [regionNames(1), regionNames(2)]) {
    const prefix = regions[0] === ONLY ? 'node' : regions[0];
    const count = names.filter((name) => new RegExp(`^${prefix}-\\d+$`).test(name)).length;
    if (count > 0) return { regions, nodeCount: count };
  }
  return undefined;
}
