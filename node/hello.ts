/** The greeting that opens every stream to a node. */
import { SilverbackError } from '../core/errors.ts';
import { agree, type Hello, type Language, type Spoken } from '../core/versions.ts';

/** Callers that are remembered for having been refused. */
const MAX_REFUSED = 32;
/** A caller that has not come again for so long is gone, or speaks otherwise. */
const REFUSED_MS = 10 * 60_000;

/** Whom this node has no version in common with. */
export class Refused {
  readonly #monotonicMs: () => number;
  readonly #callers = new Map<string, { readonly words: string; readonly atMs: number }>();
  /** Since the process started. */
  count = 0;

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  add(caller: string, words: string): void {
    this.count++;
    this.#callers.delete(caller);
    const [oldest] = this.#callers.keys();
    if (this.#callers.size >= MAX_REFUSED && oldest !== undefined) this.#callers.delete(oldest);
    this.#callers.set(caller, { words, atMs: this.#monotonicMs() });
  }

  /** One that came in again and was understood. */
  forget(caller: string): void {
    this.#callers.delete(caller);
  }

  /** Of late, in words. */
  get words(): string[] {
    const sinceMs = this.#monotonicMs() - REFUSED_MS;
    return [...this.#callers.values()].filter(({ atMs }) => atMs >= sinceMs).map(({ words }) => words);
  }
}

/** What a greeting is held against. */
export interface Greeted {
  readonly clusterId: string;
  readonly name: string;
  readonly spoken: Spoken;
  readonly refused: Refused;
}

/**
 * The versions of these languages, beside the protocol's, that the stream is in. Throws what ends it: VERSION, INVALID_ARGUMENT (no
 * greeting, another cluster's).
 */
export function greet<L extends Language = never>(
  hello: Hello | null,
  node: Greeted,
  languages: readonly L[] = [],
): Readonly<Record<L | 'protocol', number>> {
  if (hello === null) {
    throw new SilverbackError('INVALID_ARGUMENT', 'the first message of a stream must carry hello');
  }
  const { clusterId, caller, version, speaks } = hello;
  // Older than the saying: its one version.
  const theirs = speaks.length > 0 ? speaks : [{ format: 'protocol', lowest: version, highest: version }];
  const who = { us: `node ${node.name}`, them: caller === '' ? 'the caller' : caller };
  let agreed: Readonly<Record<L | 'protocol', number>>;
  try {
    agreed = agree(node.spoken, theirs, ['protocol', ...languages], who);
  } catch (error) {
    node.refused.add(caller, (error as Error).message);
    throw error;
  }
  if (clusterId !== '' && node.clusterId !== '' && clusterId !== node.clusterId) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `node ${node.name} belongs to cluster ${node.clusterId}, the client wants ${clusterId}`,
    );
  }
  node.refused.forget(caller);
  return agreed;
}
