/**
 * The nodes that records in this node's logs came from: an index for each, from 1 on; 0 is this node itself. Indexes stand
 * in log records for ever, so the table only grows.
 *
 * `origins` in the data directory: magic "SBORIGN" and version 1, then JSON: names as `region/node`, index 1 first.
 */
import type { Env } from '../../core/env/env.ts';
import { SilverbackError } from '../../core/errors.ts';
import { hasMagic } from '../../core/versions.ts';

const MAGIC = 'SBORIGN\x01';
/** An origin is one byte in a log record. */
const MAX_INDEX = 255;

export class Origins {
  readonly #env: Env;
  readonly #path: string;
  readonly #directory: string;
  #names: readonly string[];
  #turn: Promise<unknown> = Promise.resolve();

  static async load(env: Env, directory: string): Promise<Origins> {
    const path = `${directory}/origins`;
    if (!(await env.disk.exists(path))) return new Origins(env, directory, []);
    const text = Buffer.from(await env.disk.readFile(path)).toString();
    if (!hasMagic('origins', text, MAGIC.slice(0, -1), path)) {
      throw new SilverbackError('CORRUPT', `${path} is no table of origins`);
    }
    try {
      return new Origins(env, directory, JSON.parse(text.slice(MAGIC.length)) as string[]);
    } catch (cause) {
      throw new SilverbackError('CORRUPT', `${path} is damaged`, { cause });
    }
  }

  private constructor(env: Env, directory: string, names: readonly string[]) {
    this.#env = env;
    this.#directory = directory;
    this.#path = `${directory}/origins`;
    this.#names = names;
  }

  /** The index of a node, durable once this resolves. Past 255 nodes the last index stands for all others. */
  index(name: string): Promise<number> {
    const result = this.#turn.then(() => this.#indexOf(name));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #indexOf(name: string): Promise<number> {
    const at = this.#names.indexOf(name);
    if (at >= 0) return at + 1;
    if (this.#names.length >= MAX_INDEX) return MAX_INDEX;
    const names = [...this.#names, name];
    const { disk } = this.#env;
    const file = await disk.open(`${this.#path}.new`, 'append');
    try {
      await file.truncate(0);
      await file.write([Buffer.from(MAGIC + JSON.stringify(names))], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(`${this.#path}.new`, this.#path);
    await disk.syncDirectory(this.#directory);
    this.#names = names;
    return names.length;
  }
}
