/** The rules of placement, one by one; region.test.ts has them all at once. */
import { describe, expect, test } from 'vitest';
import { beginning, type Decision, decide, type Memory } from '../../core/meta/decide.ts';
import { withCordon, withMoves, withoutNode } from '../../core/meta/orders.ts';
import type { CopyReports, RegionPlacement } from '../../core/meta/region.ts';

const TTL_MS = 10_000;
const GRACE_MS = 60_000;
const OPTIONS = {
  clusterId: 'c',
  shardCount: 4,
  region: 'r',
  expectedNodes: 2,
  copies: 1,
  leaseTtlMs: TTL_MS,
  graceMs: GRACE_MS,
};

/** A region under a placer, with a clock of its own. */
class Table {
  readonly options: typeof OPTIONS;
  readonly living = new Map<string, { zone: string; address: string }>();
  readonly reports = new Map<string, CopyReports>();
  placement: RegionPlacement | undefined;
  nowMs = 0;
  memory: Memory;
  last: Decision | undefined;
  readonly reasons: string[] = [];

  constructor(names: readonly string[], options: Partial<typeof OPTIONS> = {}) {
    this.options = { ...OPTIONS, expectedNodes: names.length, ...options };
    this.memory = beginning(this.options, 0);
    for (const name of names) this.join(name);
    this.pass(0);
    this.pass(2 * TTL_MS);
  }

  join(name: string): void {
    this.living.set(name, { zone: `zone-${name}`, address: `${name}:1` });
  }

  die(name: string): void {
    this.living.delete(name);
    this.reports.delete(name);
  }

  report(name: string, shard: number, what: { filled?: boolean; drained?: boolean }): void {
    const epoch = this.placement?.shards[shard]?.find(({ node }) => node === name)?.epoch ?? 0;
    const report = { filled: false, drained: false, ...what, epoch };
    this.reports.set(name, { ...this.reports.get(name), [String(shard)]: report });
  }

  /** Time goes by, with a look now and then. */
  pass(ms: number): this {
    const untilMs = this.nowMs + ms;
    do {
      this.nowMs = Math.min(untilMs, this.nowMs + 1_000);
      const members = [...this.living].map(([name, where]) => ({ name, region: 'r', ...where }));
      const { nowMs, reports, placement: current } = this;
      for (let rounds = 0; rounds < 3; rounds++) {
        this.last = decide(this.options, { members, reports, current: this.placement ?? current, nowMs }, this.memory);
        this.memory = this.last.memory;
        if (this.last.placement === undefined) break;
        this.placement = this.last.placement;
        this.reasons.push(...this.last.reasons);
      }
    } while (this.nowMs < untilMs);
    return this;
  }

  /** `node:state`, with a plus where the past is to be brought, of each copy of each shard. */
  get shards(): string[] {
    return (this.placement?.shards ?? []).map((copies) =>
      copies.map(({ node, state, fill }) => `${node}:${state}${fill ? '+' : ''}`).join(' '),
    );
  }
}

describe('decide', () => {
  test('waits for the expected nodes, and then changes nothing without a reason', () => {
    const table = new Table(['a', 'b'], { expectedNodes: 3 });
    expect(table.placement).toBeUndefined();
    table.join('c');
    table.pass(0);
    expect(table.shards).toEqual(['a:active', 'a:active', 'b:active', 'c:active']);
    const { placement } = table;
    table.pass(10 * TTL_MS);
    expect(table.placement).toBe(placement);
    table.living.set('b', { zone: 'zone-b', address: 'b:2' });
    table.pass(0);
    expect(table.placement).toEqual({
      ...placement,
      nodes: { ...placement?.nodes, b: { zone: 'zone-b', address: 'b:2' } },
    });
  });

  test('a short absence moves writes, and no data: the node that returns gives and takes nothing else', () => {
    const table = new Table(['a', 'b']);
    table.die('a');
    table.pass(1_000);
    expect(table.shards[0]).toBe('a:active');
    table.pass(TTL_MS);
    expect(table.shards).toEqual(['a:leaving b:joining', 'b:active', 'a:leaving b:joining', 'b:active']);
    table.pass(GRACE_MS / 2);
    table.join('a');
    table.pass(3_000);
    expect(table.shards[0]).toBe('a:leaving b:joining');
    for (const shard of [0, 2]) table.report('a', shard, { filled: true });
    table.pass(0);
    expect(table.shards).toEqual(['a:active b:leaving', 'b:active', 'a:active b:leaving', 'b:active']);
    for (const shard of [0, 2]) table.report('b', shard, { drained: true });
    table.pass(0);
    expect(table.shards).toEqual(['a:active', 'b:active', 'a:active', 'b:active']);
    expect(table.reasons).toContain('shards 0, 2: a is gone');
  });

  test('after the grace the past is brought; a node that comes back too late delivers and is released', () => {
    const table = new Table(['a', 'b', 'c']);
    table.die('a');
    table.pass(TTL_MS + GRACE_MS);
    expect(table.shards).toEqual(['a:leaving b:joining+', 'a:leaving c:joining+', 'b:active', 'c:active']);
    table.report('b', 0, { filled: true });
    table.pass(0);
    expect(table.shards[0]).toBe('a:leaving b:active');
    table.join('a');
    table.report('a', 0, { filled: true });
    table.pass(GRACE_MS);
    expect(table.shards[0]).toBe('a:leaving b:active');
    table.report('a', 0, { filled: true, drained: true });
    table.pass(0);
    expect(table.shards[0]).toBe('b:active');
    // Shard 1 was not filled yet: its old copy is the one that holds the past.
    table.report('a', 1, { filled: true });
    table.pass(0);
    expect(table.shards[1]).toBe('a:active c:leaving');
  });

  test('a takeover does not forget the old tail', () => {
    const table = new Table(['a', 'b', 'c'], { copies: 2 });
    const before = table.shards;
    table.die('a');
    table.pass(TTL_MS + GRACE_MS);
    for (const [shard, copies] of (table.placement as RegionPlacement).shards.entries()) {
      for (const { node, state } of copies) if (state === 'joining') table.report(node, shard, { filled: true });
    }
    table.pass(100 * GRACE_MS);
    // Everything is in place again, and still nobody knows what the log of the node that is gone holds.
    for (const [shard, text] of before.entries()) {
      if (text.includes('a:')) expect(table.shards[shard]).toContain('a:leaving');
    }
    for (const text of table.shards) expect(text.match(/active/g)).toHaveLength(2);
    expect(table.placement?.nodes['a']).toEqual({ zone: 'zone-a', address: 'a:1' });
  });

  test('where another copy is, that one takes the writes; a further one comes after the grace', () => {
    const table = new Table(['a', 'b', 'c'], { copies: 2 });
    const before = table.shards;
    table.die('a');
    table.pass(TTL_MS + GRACE_MS / 2);
    expect(table.shards).toEqual(before.map((text) => text.replace('a:active', 'a:leaving')));
    table.pass(GRACE_MS);
    for (const text of table.shards) {
      if (text.includes('a:')) expect(text).toMatch(/joining\+/);
      else expect(text).not.toMatch(/joining/);
    }
  });

  test('a report about an earlier copy says nothing about this one', () => {
    const table = new Table(['a', 'b']);
    table.die('a');
    table.pass(2 * TTL_MS);
    table.report('b', 0, { filled: true });
    const stale = table.reports.get('b') as CopyReports;
    table.join('a');
    table.report('a', 0, { filled: true });
    table.reports.delete('b');
    table.pass(0);
    expect(table.shards[0]).toBe('a:active b:leaving');
    const epochs = (table.placement as RegionPlacement).shards[0]?.map(({ epoch }) => epoch) as number[];
    expect(new Set(epochs).size).toBe(2);
    table.reports.set('b', { '0': { ...(stale['0'] as CopyReports['0']), drained: true } });
    table.pass(GRACE_MS);
    expect(table.shards[0]).toBe('a:active b:leaving');
  });

  test('a node whose disk was lost is not taken for one that holds the past', () => {
    const table = new Table(['a', 'b']);
    table.die('a');
    table.pass(2 * TTL_MS);
    table.join('a');
    table.report('a', 0, { filled: false, drained: false });
    table.pass(2 * GRACE_MS);
    expect(table.shards[0]).toBe('a:leaving b:joining+');
  });

  test('more than a third at once: nothing is moved, and it is said; with the nodes back it goes on', () => {
    const table = new Table(['a', 'b', 'c', 'd', 'e', 'f'], { shardCount: 12 });
    const { placement } = table;
    for (const name of ['a', 'b', 'c']) table.die(name);
    table.pass(100 * GRACE_MS);
    expect(table.placement).toBe(placement);
    expect(table.last?.alarm).toBe(
      'takeover is stopped: 3 of 6 nodes are gone (a, b, c), more than a third at once; it goes on when they are back or declared lost',
    );
    table.join('a');
    table.pass(3_000);
    expect(table.last?.alarm).toBe('');
    expect(table.shards.filter((text) => /joining/.test(text))).toHaveLength(4);
  });

  test('nodes that vanish one soon after another count as at once', () => {
    const table = new Table(['a', 'b', 'c', 'd', 'e', 'f'], { shardCount: 12 });
    for (const name of ['a', 'b', 'c']) {
      table.die(name);
      table.pass(TTL_MS);
    }
    table.pass(TTL_MS);
    expect(table.last?.alarm).toContain('3 of 6 nodes are gone');
    expect(table.shards.filter((text) => text.includes('c:active'))).toHaveLength(2);
  });

  test('a placer that was just elected, or saw its store come back, concludes nothing from absences', () => {
    const table = new Table(['a', 'b', 'c']);
    table.memory = beginning(OPTIONS, table.nowMs);
    table.die('a');
    const { placement } = table;
    table.pass(2 * TTL_MS - 1_000);
    expect(table.placement).toBe(placement);
    table.pass(1_000);
    expect(table.shards[0]).toMatch(/a:leaving .:joining/);
  });

  test('a node declared lost is gone for good: nobody waits for it, and others take its shards', () => {
    const table = new Table(['a', 'b', 'c']);
    table.die('a');
    table.pass(TTL_MS + GRACE_MS);
    expect(withoutNode(table.placement as RegionPlacement, 'x')).toBeUndefined();
    table.placement = withoutNode(table.placement as RegionPlacement, 'a');
    expect(table.shards).toEqual(['b:joining+', 'c:joining+', 'b:active', 'c:active']);
    // Also one whose shards nobody had taken yet.
    table.placement = withoutNode(table.placement as RegionPlacement, 'b');
    table.die('b');
    table.pass(0);
    expect(table.shards).toEqual(['c:joining+', 'c:joining+', 'c:joining+', 'c:active']);
    expect(Object.keys(table.placement?.nodes ?? {})).toEqual(['c']);
  });

  test('more copies are joined, fewer are let go once they are delivered', () => {
    const table = new Table(['a', 'b', 'c']);
    table.options.copies = 2;
    table.pass(0);
    for (const text of table.shards) expect(text).toMatch(/^.:active .:joining\+$/);
    const counts = ['a', 'b', 'c'].map((name) => table.shards.filter((text) => text.includes(`${name}:`)).length);
    expect(counts.sort()).toEqual([2, 3, 3]);
    for (const [shard, copies] of (table.placement as RegionPlacement).shards.entries()) {
      table.report(copies[1]?.node as string, shard, { filled: true });
    }
    table.pass(0);
    table.options.copies = 1;
    table.pass(0);
    for (const text of table.shards) expect(text).toMatch(/^.:active .:leaving$/);
  });

  test('a node that joins gets its share, two at a time, each when it is filled', () => {
    const table = new Table(['a', 'b'], { shardCount: 12 });
    const before = table.shards;
    table.join('c');
    table.pass(GRACE_MS - 1_000);
    expect(table.shards).toEqual(before);
    table.pass(2_000);
    let moved = 0;
    for (let rounds = 0; rounds < 4; rounds++) {
      const joining = table.shards.flatMap((text, shard) => (text.includes('c:joining+') ? [shard] : []));
      if (joining.length === 0) break;
      expect(joining.length).toBeLessThanOrEqual(2);
      moved += joining.length;
      // The copy that it comes from takes the writes until then, and does not count as one too many.
      for (const shard of joining) expect(table.shards[shard]).toMatch(/^[ab]:active c:joining\+$/);
      for (const shard of joining) table.report('c', shard, { filled: true });
      table.pass(0);
      for (const shard of joining) {
        const source = before[shard]?.[0] as string;
        expect(table.shards[shard]).toBe(`${source}:leaving c:active`);
        table.report(source, shard, { drained: true });
      }
      table.pass(0);
    }
    expect(moved).toBe(4);
    expect(table.shards.filter((text) => text === 'c:active')).toHaveLength(4);
    const { placement } = table;
    table.pass(10 * GRACE_MS);
    expect(table.placement).toBe(placement);
  });

  test('of nodes that join one after the other all get their share at once: nothing moves twice', () => {
    const table = new Table(['a', 'b'], { shardCount: 16 });
    const before = table.shards;
    for (const name of ['c', 'd', 'e', 'f']) {
      table.join(name);
      table.pass(GRACE_MS - 1_000);
      expect(table.shards).toEqual(before);
    }
    table.pass(2_000);
    settle(table);
    expect(table.shards.map((text) => text.slice(0, 1)).filter((name) => 'cdef'.includes(name))).toHaveLength(10);
    const begun = table.reasons.filter((reason) => reason.includes('moves from'));
    const count = begun.reduce(
      (sum, reason) => sum + (/^shards? ([^:]*):/.exec(reason)?.[1]?.split(',').length ?? 0),
      0,
    );
    expect(count).toBe(10);
  });

  test('moves are held, called off, and not begun while a node is away', () => {
    const table = new Table(['a', 'b', 'c'], { shardCount: 12 });
    table.die('c');
    table.join('d');
    table.pass(GRACE_MS);
    expect(table.reasons.join()).not.toContain('moves from');
    table.join('c');
    for (const shard of table.shards.keys()) table.report('c', shard, { filled: true });
    table.pass(2 * GRACE_MS);
    const shard = table.shards.findIndex((text) => text.includes('d:joining+') && !text.includes('leaving'));
    expect(shard).toBeGreaterThanOrEqual(0);
    const held = withMoves(table.placement as RegionPlacement, 'paused') as RegionPlacement;
    expect(withMoves(held, 'paused')).toBeUndefined();
    table.placement = held;
    table.report('d', shard, { filled: true });
    table.pass(GRACE_MS);
    expect(table.placement).toBe(held);
    table.placement = withMoves(held, 'off');
    table.pass(0);
    expect(table.shards[shard]).toMatch(/^.:active d:leaving$/);
  });

  /** What is filled says so, what leaves is delivered, and time goes by. */
  const settle = (table: Table): void => {
    for (let rounds = 0; rounds < 20; rounds++) {
      for (const [shard, copies] of (table.placement as RegionPlacement).shards.entries()) {
        for (const { node, state } of copies) {
          if (state === 'joining') table.report(node, shard, { filled: true });
          if (state === 'leaving') table.report(node, shard, { filled: true, drained: true });
        }
      }
      table.pass(0);
    }
  };
  const cordon = (table: Table, ...rest: ['cordoned' | 'draining' | undefined, ...string[]]): void => {
    const [how, ...names] = rest;
    for (const name of names) table.placement = withCordon(table.placement as RegionPlacement, name, how);
    table.pass(0);
  };
  const countOn = (table: Table, name: string) => table.shards.filter((text) => text.includes(`${name}:`)).length;

  test('a cordoned node gets nothing, by moves or in place of another, and keeps what it has', () => {
    const table = new Table(['a', 'b', 'c'], { shardCount: 12 });
    expect(withCordon(table.placement as RegionPlacement, 'a', undefined)).toBeUndefined();
    cordon(table, 'cordoned', 'a');
    const before = table.shards;
    table.join('d');
    cordon(table, 'cordoned', 'd');
    table.pass(2 * GRACE_MS);
    settle(table);
    expect(table.shards).toEqual(before);
    table.die('b');
    table.pass(TTL_MS + GRACE_MS);
    settle(table);
    expect([countOn(table, 'a'), countOn(table, 'd')]).toEqual([4, 0]);
    expect(table.shards.filter((text) => text.includes('b:leaving c:active'))).toHaveLength(4);
  });

  test('a move to a node that is cordoned is called off', () => {
    const table = new Table(['a', 'b'], { shardCount: 12 });
    table.join('c');
    table.pass(2 * GRACE_MS);
    expect(table.shards.join()).toContain('c:joining+');
    cordon(table, 'cordoned', 'c');
    expect(table.shards.join()).not.toContain('c:joining');
    settle(table);
    expect(countOn(table, 'c')).toBe(0);
    cordon(table, undefined, 'c');
    settle(table);
    expect(countOn(table, 'c')).toBe(4);
  });

  test.each([1, 2])('a node that is drained is emptied, not into one that is cordoned; with %i copies', (copies) => {
    const table = new Table(['a', 'b', 'c', 'd', 'e'], { shardCount: 12, copies });
    cordon(table, 'cordoned', 'b');
    const kept = countOn(table, 'b');
    cordon(table, 'draining', 'a');
    expect(table.shards.filter((text) => text.includes('joining+'))).not.toHaveLength(0);
    settle(table);
    expect(countOn(table, 'a')).toBe(0);
    expect(countOn(table, 'b')).toBeLessThanOrEqual(kept);
    for (const text of table.shards)
      expect(text.split(' ').filter((one) => one.endsWith(':active'))).toHaveLength(copies);
    const { placement } = table;
    table.pass(10 * GRACE_MS);
    expect(table.placement).toBe(placement);
    cordon(table, undefined, 'a', 'b');
    settle(table);
    expect(countOn(table, 'a')).toBeGreaterThan(0);
  });

  test('a copy that is given back gets an epoch that no report of the one before counts for', () => {
    const table = new Table(['a', 'b'], { shardCount: 1 });
    const [from, to] = table.shards[0]?.startsWith('a') ? ['a', 'b'] : ['b', 'a'];
    cordon(table, 'draining', from!);
    table.report(to!, 0, { filled: true });
    table.pass(0);
    expect(table.shards).toEqual([`${from}:leaving ${to}:active`]);
    // What the node says of the copy that it loses, and still says while it does not know that it has another.
    table.report(from!, 0, { filled: true, drained: true });
    table.pass(0);
    expect(table.shards).toEqual([`${to}:active`]);
    cordon(table, undefined, from!);
    cordon(table, 'draining', to!);
    table.pass(2 * GRACE_MS);
    expect(table.shards).toEqual([`${to}:active ${from}:joining+`]);
    // So it is where an operator has declared the node of the highest epoch lost.
    const { placement } = table;
    const epoch = placement?.shards[0]?.[1]?.epoch ?? 0;
    expect(withoutNode(placement as RegionPlacement, from!)?.spent).toEqual({ 0: epoch });
  });

  test('with nowhere to go, what is on a node that is drained stays', () => {
    const table = new Table(['a', 'b'], { copies: 2 });
    const before = table.shards;
    cordon(table, 'draining', 'a');
    settle(table);
    expect(table.shards).toEqual(before);
  });

  test('copies of a shard lie in different zones', () => {
    const table = new Table(['a', 'b', 'c', 'd'], { copies: 2, expectedNodes: 9 });
    for (const [i, name] of ['a', 'b', 'c', 'd'].entries()) {
      table.living.set(name, { zone: i < 2 ? 'x' : 'y', address: `${name}:1` });
    }
    table.options.expectedNodes = 4;
    table.pass(0);
    const zonesOf = () =>
      (table.placement as RegionPlacement).shards.map((copies) =>
        copies.filter(({ state }) => state !== 'leaving').map(({ node }) => table.placement?.nodes[node]?.zone),
      );
    for (const zones of zonesOf()) expect(new Set(zones).size).toBe(2);
    table.die('a');
    table.pass(TTL_MS + GRACE_MS);
    for (const zones of zonesOf()) expect(new Set(zones).size).toBe(2);
  });
});
