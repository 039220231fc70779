/** The flooder of the benches as a process of its own: this one would be too busy to be polite beside it. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { endOf } from '../local/cluster.ts';

const FLOODER = resolve(import.meta.dirname, '../../dist/bench/flooder.js');

interface Told {
  readonly replies: Readonly<Record<string, number>>;
  /** Of refusals, each once; N stands for a number. */
  readonly messages: readonly string[];
  readonly retryAfterMs: number;
}

/** Floods a node until it is stopped, which resolves to what the flooder was answered, or killed. */
export function flood(address: string, connections: number, samples: number): { stop(): Promise<Told>; kill(): void } {
  const child = spawn(process.execPath, [FLOODER, address, String(connections), String(samples)]);
  const ended = endOf(child);
  return {
    async stop() {
      child.stdin.end();
      const { out, err } = await ended;
      if (out === '') throw new Error(`the flooder said nothing: ${err}`);
      return JSON.parse(out) as Told;
    },
    kill: () => void child.kill('SIGKILL'),
  };
}
