/**
 * Golden files: what a format's version looks like, written once and decoded for ever. `SILVERBACK_WRITE_GOLDEN=1` writes those that
 * are not there yet; one that is there is never written again: another layout is another version, with a file of its own.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';

const DIRECTORY = new URL('../golden/', import.meta.url);

/** The golden bytes, after holding against them what the program writes now; `made` undefined: it writes no such version any more. */
export function golden(name: string, made: Uint8Array | string | undefined): Buffer {
  const path = new URL(name, DIRECTORY);
  if (!existsSync(path)) {
    const mayWrite = process.env['SILVERBACK_WRITE_GOLDEN'] === '1' && made !== undefined;
    if (!mayWrite) throw new Error(`test/golden/${name} is missing: SILVERBACK_WRITE_GOLDEN=1 writes it`);
    writeFileSync(path, made);
  }
  const bytes = readFileSync(path);
  if (made === undefined) return bytes;
  const words = `test/golden/${name}: what is written now is another layout, and so a new version (core/versions.ts)`;
  expect(printable(made), words).toBe(typeof made === 'string' ? bytes.toString() : printable(bytes));
  return bytes;
}

function printable(content: Uint8Array | string): string {
  return typeof content === 'string' ? content : Buffer.from(content).toString('hex');
}
