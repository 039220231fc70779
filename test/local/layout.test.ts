import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nodesOf, readLayout, regionNames, writeLayout } from '../../coordinator/local/layout.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'silverback-layout-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('what was written is read again, whatever became of the nodes', () => {
  expect(readLayout(directory)).toBeUndefined();
  expect(readLayout(join(directory, 'none'))).toBeUndefined();
  const layout = { regions: regionNames(5), nodeCount: 3 };
  writeLayout(directory, layout);
  mkdirSync(join(directory, 'node-1'));
  expect(readLayout(directory)).toEqual(layout);
  expect(layout.regions).toEqual(['east', 'west', 'north', 'south', 'region-5']);
});

test('a directory without a layout tells by its nodes', () => {
  for (const name of ['coordinator', 'logs', 'node-1', 'node-2', 'node-3']) mkdirSync(join(directory, name));
  expect(readLayout(directory)).toEqual({ regions: ['local'], nodeCount: 3 });
  for (const name of ['node-1', 'node-2', 'node-3']) rmSync(join(directory, name), { recursive: true });
  for (const name of ['east-1', 'east-2', 'west-1', 'west-2']) mkdirSync(join(directory, name));
  expect(readLayout(directory)).toEqual({ regions: ['east', 'west'], nodeCount: 2 });
});

test('a damaged one is named', () => {
  for (const text of ['{', '{"regions":["a"],"nodes":1}', '{"version":1,"regions":[],"nodes":1}']) {
    writeFileSync(join(directory, 'layout.json'), text);
    expect(() => readLayout(directory)).toThrow(`${join(directory, 'layout.json')}: expected something like {`);
  }
});

test('nodes are named after their region, a single one after nothing', () => {
  const names = (count: number) => nodesOf({ regions: regionNames(count), nodeCount: 2 }).map(({ name }) => name);
  expect(names(1)).toEqual(['node-1', 'node-2']);
  expect(names(2)).toEqual(['east-1', 'east-2', 'west-1', 'west-2']);
});
