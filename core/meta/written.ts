/**
 * How a region's placement is written into the meta store, and read again. The large parts of a large one are packed: columns
 * of small numbers, deflated. The copies of 16,384 shards on 1,000 nodes are 2 MB as they are, and a tenth of that packed.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { SilverbackError } from '../errors.ts';
import { VALUE_BYTES_MOST } from './bounds.ts';
import type { RegionCopy, RegionPlacement } from './region.ts';
import type { Entry } from './store.ts';
import { decodeValue, encodeValue } from './values.ts';

type Large = Pick<RegionPlacement, 'nodes' | 'shards' | 'asked'>;

/** What few copies have. */
type Rest = Omit<RegionCopy, 'node' | 'epoch' | 'state' | 'fill' | 'from'>;

/** What is deflated, as JSON. Of copies: all of the first shard, then all of the second, and so on. */
interface Columns {
  /** By number: every node that anything below names. */
  readonly names: readonly string[];
  /** Per name; null where `nodes` does not have it. */
  readonly zones: readonly (string | null)[];
  readonly addresses: readonly (string | null)[];
  /** Copies per shard. */
  readonly counts: readonly number[];
  /** Per copy: the node. */
  readonly holders: readonly number[];
  readonly epochs: readonly number[];
  /** Index into `KINDS`. */
  readonly kinds: readonly number[];
  /** 0, or 1 + the node that it moves from. */
  readonly froms: readonly number[];
  /** Of copies, by number, that have anything else. Absent: none has. */
  readonly rests?: readonly (readonly [copy: number, rest: Rest])[];
  readonly asked?: RegionPlacement['asked'];
}

const KINDS: readonly Pick<RegionCopy, 'state' | 'fill'>[] = [
  { state: 'active' },
  { state: 'joining' },
  { state: 'joining', fill: true },
  { state: 'leaving' },
];
/** Of inflated columns: far above what the largest cluster needs. */
const INFLATED_MOST_BYTES = 64 << 20;

function pack({ nodes, shards, asked }: Large): string {
  const numbers = new Map<string, number>();
  const numberOf = (name: string): number => {
    const known = numbers.get(name) ?? numbers.size;
    numbers.set(name, known);
    return known;
  };
  for (const name of Object.keys(nodes)) numberOf(name);
  const copies = shards.flat();
  const columns = {
    counts: shards.map(({ length }) => length),
    holders: copies.map(({ node }) => numberOf(node)),
    epochs: copies.map(({ epoch }) => epoch),
    kinds: copies.map(({ state, fill }) => KINDS.findIndex((kind) => kind.state === state && kind.fill === fill)),
    froms: copies.map(({ from }) => (from === undefined ? 0 : 1 + numberOf(from))),
  };
  const names = [...numbers.keys()];
  const rests = copies.flatMap(({ node: _, epoch, state, fill, from, ...rest }, i) =>
    Object.keys(rest).length === 0 ? [] : [[i, rest] as const],
  );
  const all: Columns = {
    names,
    zones: names.map((name) => nodes[name]?.zone ?? null),
    addresses: names.map((name) => nodes[name]?.address ?? null),
    ...columns,
    ...(rests.length > 0 && { rests }),
    ...(asked !== undefined && { asked }),
  };
  return deflateRawSync(JSON.stringify(all)).toString('base64');
}

function unpack(packed: string): Large {
  const inflated = inflateRawSync(Buffer.from(packed, 'base64'), { maxOutputLength: INFLATED_MOST_BYTES });
  const columns = JSON.parse(inflated.toString()) as Columns;
  const { names, zones, addresses, counts, holders, epochs, kinds, froms, asked } = columns;
  const rests = new Map(columns.rests);
  const nodes: Record<string, { zone: string; address: string }> = {};
  for (const [i, name] of names.entries()) {
    const [zone, address] = [zones[i], addresses[i]];
    if (typeof zone === 'string' && typeof address === 'string') nodes[name] = { zone, address };
  }
  let at = 0;
  const copy = (): RegionCopy => {
    const i = at++;
    const from = froms[i]! > 0 ? { from: names[froms[i]! - 1]! } : {};
    return { node: names[holders[i]!]!, epoch: epochs[i]!, ...KINDS[kinds[i]!]!, ...from, ...rests.get(i) };
  };
  const shards = counts.map((count) => Array.from({ length: count }, copy));
  return { nodes, shards, ...(asked !== undefined && { asked }) };
}

/** The version of a value that is packed: who does not know of that would find nothing placed. */
const PACKED = 2;
/** A placement of more copies is packed; a smaller one is there for people to read. */
const PLAIN_COPIES_MOST = 2_048;

type Written = Omit<RegionPlacement, 'nodes' | 'shards'> & Partial<Pick<RegionPlacement, 'nodes' | 'shards'>>;

/**
 * The value for a placement.
 * @throws SilverbackError TOO_LARGE
 */
export function writePlacement(placement: RegionPlacement): string {
  const { nodes, shards, asked, ...rest } = placement;
  const copyCount = shards.reduce((sum, own) => sum + own.length, 0);
  if (copyCount <= PLAIN_COPIES_MOST) return encodeValue(placement);
  const packed = pack({ nodes, shards, ...(asked !== undefined && { asked }) });
  const value = encodeValue({ ...rest, packed }, PACKED);
  if (value.length <= VALUE_BYTES_MOST) return value;
  const what = `region ${rest.region}: ${copyCount} copies of ${shards.length} shards on ${Object.keys(nodes).length} nodes`;
  const message = `${what} take ${value.length} bytes in the meta store, at most ${VALUE_BYTES_MOST} are kept: fewer shards or copies`;
  throw new SilverbackError('TOO_LARGE', message);
}

/** Entries do not change, and a large placement takes milliseconds. */
const read = new WeakMap<Entry, RegionPlacement>();

export function readPlacement(entry: Entry): RegionPlacement {
  const known = read.get(entry);
  if (known !== undefined) return known;
  const { packed, ...rest } = decodeValue<Written & { readonly packed?: string }>(entry);
  const { nodes = {}, shards = [], ...more } = packed === undefined ? rest : unpack(packed);
  // Placements of the first version do not say it.
  const moves = rest.moves ?? 'on';
  const copies = rest.copies ?? shards.reduce((most, own) => Math.max(most, own.length), 1);
  const placement = { ...rest, ...more, moves, copies, nodes, shards };
  read.set(entry, placement);
  return placement;
}
