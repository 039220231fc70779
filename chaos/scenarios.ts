/**
 * What is done to a world, by name: each scenario makes a plan from a seed, and a plan is a list of strikes: faults, which heal by
 * themselves, and beside them what operators and too many clients do.
 */
import type { Seeded } from '../test/sim/random.ts';
import type { FloodOf } from './flood.ts';
import { inWords, type Operation } from './operator.ts';
import { COORDINATOR, REGIONS, type Region } from './places.ts';
import type { Fault } from './proxies.ts';
import type { World } from './world.ts';

export type Act =
  | { readonly kind: 'link'; readonly links: readonly string[]; readonly fault: Fault }
  /** SIGKILL; a start heals it. */
  | { readonly kind: 'kill'; readonly names: readonly string[] }
  /** SIGTERM; a start heals it. */
  | { readonly kind: 'stop'; readonly names: readonly string[] }
  /** SIGSTOP; SIGCONT heals it. */
  | { readonly kind: 'freeze'; readonly names: readonly string[] }
  /** Their wall clocks jump, and back again. */
  | { readonly kind: 'clock'; readonly names: readonly string[]; readonly offsetMs: number }
  /** Their disks are full. */
  | { readonly kind: 'disk'; readonly names: readonly string[] }
  /** The meta store is gone. */
  | { readonly kind: 'store' }
  /** Packets from one region to the other are dropped. */
  | { readonly kind: 'drop'; readonly from: Region; readonly to: Region }
  /** Goes on to its end, whatever else heals. */
  | { readonly kind: 'operate'; readonly operation: Operation }
  | { readonly kind: 'flood'; readonly region: Region; readonly of: FloodOf };

export interface Strike {
  readonly atMs: number;
  readonly forMs: number;
  readonly act: Act;
}

/** What not every machine can do: jump clocks (libfaketime), fill disks (root), drop packets (namespaces). */
export type Need = 'clock' | 'disk' | 'drop';

/** What a plan needs to know of a world. */
export type Ground = Pick<World, 'nodes' | 'nodesOf' | 'hostsOf' | 'links' | 'shardCount'>;

/** `spanMs`: how long the whole takes, about. */
export type Scenario = (random: Seeded, ground: Ground, spanMs: number) => Strike[];

const [EAST, WEST] = REGIONS;
const SDKS = REGIONS.map((region) => `sdk-${region}`);

/** Begins in the first quarter of the span and lasts for half of it. */
function once(random: Seeded, spanMs: number, act: Act): Strike {
  return { atMs: random.int(0, spanMs / 4), forMs: random.int(spanMs / 2, spanMs * 0.75), act };
}

/** Both ways of asking: connections that east made and those that west made. */
function between(ground: Ground): string[] {
  const [east, west] = [ground.hostsOf(EAST), ground.hostsOf(WEST)];
  return [...ground.links(east, west), ...ground.links(west, east)];
}

/** Nothing gets from one region to the other; the other way everything does. */
function oneWay(random: Seeded, ground: Ground, spanMs: number): Strike[] {
  const [from, to] = random.chance(0.5) ? [EAST, WEST] : [WEST, EAST];
  const [near, far] = [ground.hostsOf(from), ground.hostsOf(to)];
  const requests: Act = {
    kind: 'link',
    links: ground.links(near, far),
    fault: { kind: 'one-way', direction: 'upstream' },
  };
  const answers: Act = {
    kind: 'link',
    links: ground.links(far, near),
    fault: { kind: 'one-way', direction: 'downstream' },
  };
  const { atMs, forMs } = once(random, spanMs, requests);
  return [requests, answers].map((act) => ({ atMs, forMs, act }));
}

function someOf<T>(random: Seeded, all: readonly T[]): T[] {
  const some = all.filter(() => random.chance(0.4));
  return some.length === 0 ? [random.pick(all)] : some;
}

function anyFault(random: Seeded, spanMs: number): Fault {
  return random.pick<() => Fault>([
    () => ({ kind: 'cut' }),
    () => ({ kind: 'one-way', direction: random.pick(['upstream', 'downstream'] as const) }),
    () => ({ kind: 'half-open' }),
    () => slow(random),
    // All of it comes at once when it heals.
    () => ({ kind: 'latency', latencyMs: spanMs * 2, jitterMs: 0 }),
    () => ({ kind: 'bandwidth', kilobytesPerSecond: random.int(2, 100) }),
    () => ({ kind: 'slow-close', delayMs: random.int(100, 3_000) }),
    () => ({ kind: 'reset', afterMs: random.int(0, 2_000) }),
  ])();
}

function slow(random: Seeded): Fault {
  const latencyMs = random.int(50, 1_500);
  return { kind: 'latency', latencyMs, jitterMs: random.int(0, latencyMs) };
}

function link(links: readonly string[], fault: Fault): Act {
  return { kind: 'link', links, fault };
}

function everyHost(ground: Ground): string[] {
  return REGIONS.flatMap((region) => ground.hostsOf(region));
}

/** From three to seven of everything, at any time, on top of one another, and in some regions an operation or a flood. */
function mixed(random: Seeded, ground: Ground, spanMs: number): Strike[] {
  const strikes = faults(random, ground, spanMs, random.int(3, 8));
  for (const region of REGIONS) {
    if (random.chance(0.4)) strikes.push(anyOperation(random, ground, spanMs, region));
    if (random.chance(0.2)) strikes.push(flood(random, spanMs, region));
  }
  return strikes;
}

/** So many faults, anywhere, at any time. */
function faults(random: Seeded, ground: Ground, spanMs: number, count: number): Strike[] {
  const hosts = everyHost(ground);
  const everything = [...hosts, COORDINATOR, ...SDKS];
  const everyLink = ground.links(everything, [...everything, 'meta']);
  return Array.from({ length: count }, (): Strike => {
    const atMs = random.int(0, spanMs * 0.75);
    const forMs = random.int(200, Math.max(201, spanMs - atMs));
    const act = random.pick<() => Act>([
      () => link(between(ground), anyFault(random, spanMs)),
      () => link(someOf(random, between(ground)), anyFault(random, spanMs)),
      () => link(someOf(random, everyLink), anyFault(random, spanMs)),
      () => ({ kind: 'kill', names: someOf(random, ground.nodes) }),
      () => ({ kind: 'freeze', names: someOf(random, ground.nodes) }),
      () => ({
        kind: random.pick(['kill', 'stop', 'freeze'] as const),
        names: [random.pick([...hosts, COORDINATOR])],
      }),
    ])();
    return { atMs, forMs, act };
  });
}

function operate(random: Seeded, spanMs: number, operation: Operation): Strike {
  return once(random, spanMs, { kind: 'operate', operation });
}

/** Operations of one region follow one another, so a plan has one for each. */
function anyOperation(random: Seeded, ground: Ground, spanMs: number, region: Region): Strike {
  const [, , spare = ''] = ground.hostsOf(region);
  const name = random.pick(ground.nodesOf(region));
  const operation = random.pick<Operation>([
    { what: 'cordon', region, name, mode: 'on' },
    { what: 'cordon', region, name, mode: 'drain' },
    { what: 'replace', region, name },
    { what: 'join', region, name: spare },
    { what: 'roll', region, names: ground.nodesOf(region) },
    { what: 'hold', region, mode: random.pick(['paused', 'off'] as const) },
    moveByHand(random, ground, region),
  ]);
  return operate(random, spanMs, operation);
}

function moveByHand(random: Seeded, ground: Ground, region: Region): Operation {
  const shard = random.int(0, ground.shardCount);
  return { what: 'move', region, shard, to: random.pick(ground.nodesOf(region)) };
}

function flood(random: Seeded, spanMs: number, region: Region): Strike {
  return once(random, spanMs, { kind: 'flood', region, of: random.pick(['series', 'samples'] as const) });
}

/** Nothing at all, a cut between the regions, or one or two faults anywhere. */
function maybeFaults(random: Seeded, ground: Ground, spanMs: number): Strike[] {
  return random.pick<() => Strike[]>([
    () => [],
    () => [once(random, spanMs, link(between(ground), { kind: random.pick(['cut', 'half-open'] as const) }))],
    () => faults(random, ground, spanMs, random.int(1, 3)),
  ])();
}

/** An operation in one region or in both, alone or with faults. */
function operations(
  random: Seeded,
  ground: Ground,
  spanMs: number,
  choose: (region: Region, names: readonly string[], spare: string) => Operation,
): Strike[] {
  const regions = random.chance(0.3) ? REGIONS : [random.pick(REGIONS)];
  const strikes = regions.map((region) => {
    const [, , spare = ''] = ground.hostsOf(region);
    return operate(random, spanMs, choose(region, ground.nodesOf(region), spare));
  });
  return [...strikes, ...maybeFaults(random, ground, spanMs)];
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  /** The regions lose one another. */
  partition: (random, ground, spanMs) => [once(random, spanMs, link(between(ground), { kind: 'cut' }))],
  'one-way': oneWay,
  'half-open': (random, ground, spanMs) => [once(random, spanMs, link(between(ground), { kind: 'half-open' }))],
  latency: (random, ground, spanMs) => [once(random, spanMs, link(between(ground), slow(random)))],
  /** Nothing arrives for a long time, and then all of it, in order. */
  delay: (random, ground, spanMs) => [
    once(random, spanMs, link(between(ground), { kind: 'latency', latencyMs: spanMs * 2, jitterMs: 0 })),
  ],
  bandwidth: (random, ground, spanMs) => [
    once(random, spanMs, link(between(ground), { kind: 'bandwidth', kilobytesPerSecond: random.int(2, 30) })),
  ],
  reset: (random, ground, spanMs) => [
    once(random, spanMs, link(between(ground), { kind: 'reset', afterMs: random.int(0, 2_000) })),
  ],
  'slow-close': (random, ground, spanMs) => [
    once(random, spanMs, link(between(ground), { kind: 'slow-close', delayMs: random.int(500, 5_000) })),
    { atMs: spanMs / 2, forMs: 500, act: { kind: 'kill', names: [random.pick(ground.nodes)] } },
  ],
  /** A region's clients lose its nodes, and write to the other region. */
  clients: (random, ground, spanMs) => {
    const region = random.pick(REGIONS);
    const links = ground.links([`sdk-${region}`], ground.hostsOf(region));
    return [once(random, spanMs, link(links, anyFault(random, spanMs)))];
  },
  /** The meta store, and with it the coordinator where that one keeps it. */
  'meta-loss': (random, ground, spanMs) => [
    once(random, spanMs, link(ground.links([...everyHost(ground), COORDINATOR], ['meta']), anyFault(random, spanMs))),
    { atMs: spanMs / 4, forMs: spanMs / 4, act: { kind: 'store' } },
  ],
  kill: (random, ground, spanMs) => [
    once(random, spanMs, { kind: 'kill', names: someOf(random, ground.nodes) }),
    { atMs: spanMs * 0.8, forMs: 200, act: { kind: 'kill', names: ground.nodes } },
  ],
  freeze: (random, ground, spanMs) => [once(random, spanMs, { kind: 'freeze', names: someOf(random, ground.nodes) })],
  /** A region dies while the other cannot be reached, so that what it took last is nowhere else. */
  'cut-and-kill': (random, ground, spanMs) => {
    const cut = once(random, spanMs, link(between(ground), { kind: 'cut' }));
    const kill: Act = { kind: 'kill', names: ground.nodesOf(random.pick(REGIONS)) };
    return [cut, { atMs: cut.atMs + cut.forMs / 2, forMs: random.int(100, cut.forMs), act: kill }];
  },
  mixed,
  /** A node is drained and may have copies again: they move away and back while the regions lose one another. */
  drain: (random, ground, spanMs) => {
    const region = random.pick(REGIONS);
    const name = random.pick(ground.nodesOf(region));
    const drained = operate(random, spanMs, { what: 'cordon', region, name, mode: 'drain' });
    const kind = random.pick(['cut', 'half-open'] as const);
    return [drained, once(random, spanMs, link(between(ground), { kind }))];
  },
  /** A node is taken away with its disk once it is called safe, and is new. */
  replace: (random, ground, spanMs) =>
    operations(random, ground, spanMs, (region, names) => ({ what: 'replace', region, name: random.pick(names) })),
  /** A new node comes, copies move to it, some of these moves are held, and it goes again. */
  join: (random, ground, spanMs) => {
    const strikes = operations(random, ground, spanMs, (region, _, spare) => ({ what: 'join', region, name: spare }));
    if (random.chance(0.5)) return strikes;
    const mode = random.pick(['paused', 'off'] as const);
    return [...strikes, operate(random, spanMs, { what: 'hold', region: random.pick(REGIONS), mode })];
  },
  /** Copies are moved by hand, some of these moves are held or called off, and then every node gets its share again. */
  move: (random, ground, spanMs) => {
    const strikes = operations(random, ground, spanMs, (region) => moveByHand(random, ground, region));
    if (random.chance(0.6)) return strikes;
    const mode = random.pick(['paused', 'off'] as const);
    return [...strikes, operate(random, spanMs, { what: 'hold', region: random.pick(REGIONS), mode })];
  },
  cordon: (random, ground, spanMs) => [
    ...operations(random, ground, spanMs, (region, names) => {
      return { what: 'cordon', region, name: random.pick(names), mode: 'on' };
    }),
    once(random, spanMs, { kind: 'kill', names: [random.pick(ground.nodes)] }),
  ],
  /** All processes are restarted in turn, as when they are upgraded. */
  upgrade: (random, ground, spanMs) => {
    const names = random.chance(0.5) ? [...ground.nodes, COORDINATOR] : [COORDINATOR, ...ground.nodes];
    const roll = operate(random, spanMs, { what: 'roll', region: random.pick(REGIONS), names });
    return [roll, ...maybeFaults(random, ground, spanMs)];
  },
  /** Some anything that operators do, in both regions, with faults. */
  operators: (random, ground, spanMs) => [
    ...REGIONS.map((region) => anyOperation(random, ground, spanMs, region)),
    ...faults(random, ground, spanMs, random.int(1, 4)),
  ],
  /** More series or samples than are taken. */
  overload: (random, ground, spanMs) => {
    const regions = random.chance(0.4) ? REGIONS : [random.pick(REGIONS)];
    const floods = regions.map((region) => flood(random, spanMs, region));
    return [...floods, ...maybeFaults(random, ground, spanMs)];
  },
  /**
   * A node dies, with what nobody else has of it when the regions are cut off from one another, for so long that its region's
   * others hold its shards. It comes back with that.
   */
  takeover: (random, ground, spanMs) => {
    const [east, west] = [random.pick(ground.nodesOf(EAST)), random.pick(ground.nodesOf(WEST))];
    const names = random.pick([[east], [west], [east, west]]);
    const atMs = random.int(spanMs * 0.15, spanMs * 0.25);
    const killed: Strike = { atMs, forMs: spanMs * 0.7, act: { kind: 'kill', names } };
    const cutMs = random.pick([0, spanMs * 0.25, spanMs * 0.7, spanMs * 0.85]);
    const cut: Strike = { atMs: atMs / 2, forMs: cutMs, act: link(between(ground), { kind: 'cut' }) };
    return cutMs === 0 ? [killed] : [cut, killed];
  },
  /** Wall clocks jump, by little and by hours, ahead and back, while the regions do not hear of one another. */
  clock: (random, ground, spanMs) => {
    const offsetMs = random.pick([-500_000, -5_000, 5_000, 500_000, 3_600_000, 7_200_000]);
    // Of one region: with both ahead, nobody is left to tell what time it is.
    const jump: Act = { kind: 'clock', names: someOf(random, ground.nodesOf(random.pick(REGIONS))), offsetMs };
    const cut = link(between(ground), { kind: random.pick(['cut', 'half-open'] as const) });
    return [once(random, spanMs, jump), once(random, spanMs, cut)];
  },
  /** Disks are full, and one of their nodes dies with it. */
  'full-disk': (random, ground, spanMs) => {
    const names = someOf(random, ground.nodes);
    const full = once(random, spanMs, { kind: 'disk', names });
    const kill: Act = { kind: 'kill', names: [random.pick(names)] };
    return random.chance(0.5) ? [full] : [full, { atMs: full.atMs + full.forMs / 2, forMs: 500, act: kill }];
  },
  /** Packets are lost, in one direction or both; connections stand. */
  drop: (random, _, spanMs) => {
    const pairs = [
      [EAST, WEST],
      [WEST, EAST],
    ] as const;
    const dropped = random.chance(0.5) ? pairs : [random.pick(pairs)];
    const { atMs, forMs } = once(random, spanMs, { kind: 'store' });
    return dropped.map(([from, to]): Strike => ({ atMs, forMs, act: { kind: 'drop', from, to } }));
  },
  /** ... and nodes die meanwhile, so that others wait for answers that never come. */
  'drop-and-kill': (random, ground, spanMs) => {
    const { atMs, forMs } = once(random, spanMs, { kind: 'store' });
    const kill: Act = { kind: 'kill', names: someOf(random, ground.nodes) };
    return [
      { atMs, forMs, act: { kind: 'drop', from: EAST, to: WEST } },
      { atMs, forMs, act: { kind: 'drop', from: WEST, to: EAST } },
      { atMs: atMs + forMs / 2, forMs: random.int(100, forMs / 4), act: kill },
    ];
  },
};

/** Those that not every machine can run. */
export const NEEDS: Readonly<Record<string, Need>> = {
  clock: 'clock',
  'full-disk': 'disk',
  drop: 'drop',
  'drop-and-kill': 'drop',
};

/** In words, for people who want to know what was done. */
export function describe({ atMs, forMs, act }: Strike): string {
  const when = `at ${(atMs / 1_000).toFixed(1)} s for ${(forMs / 1_000).toFixed(1)} s`;
  if (act.kind === 'store') return `the meta store is lost ${when}`;
  if (act.kind === 'drop') return `packets from ${act.from} to ${act.to} are dropped ${when}`;
  if (act.kind === 'operate') return `${inWords(act.operation)} ${when}`;
  if (act.kind === 'flood') return `flood of ${act.of} in ${act.region} ${when}`;
  if (act.kind === 'clock') return `clock of ${act.names.join(', ')} ${act.offsetMs / 1_000} s off ${when}`;
  if (act.kind !== 'link') return `${act.kind} ${act.names.join(', ')} ${when}`;
  const { kind, ...how } = act.fault;
  const details = Object.entries(how).map(([name, value]) => `${name} ${value}`);
  return `${[kind, ...details].join(' ')} on ${act.links.length} links (${act.links.slice(0, 3).join(', ')} ...) ${when}`;
}

/** What happens, in one word, to count it. */
export function eventOf({ act }: Strike): string {
  if (act.kind === 'link') return act.fault.kind;
  if (act.kind === 'flood') return `flood of ${act.of}`;
  if (act.kind !== 'operate') return act.kind;
  const { operation } = act;
  return operation.what === 'cordon' && operation.mode === 'drain' ? 'drain' : operation.what;
}
