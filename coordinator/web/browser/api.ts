/** The Prometheus HTTP API, as far as the page needs it. */
import type { Answer, Coverage, Result } from './answer.ts';

/** The server refused or failed; `kind` is the API's `errorType`, or `network` when there was no answer at all. */
export class ApiError extends Error {
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.name = 'ApiError';
    this.kind = kind;
  }
}

interface Envelope {
  readonly status: 'success' | 'error';
  readonly data?: unknown;
  readonly errorType?: string;
  readonly error?: string;
  readonly warnings?: readonly string[];
  readonly infos?: readonly string[];
}

/** Longer ones go as a form: servers and proxies bound the length of an address. */
const LONGEST_ADDRESS = 4000;

async function ask(path: string, parameters: URLSearchParams, signal?: AbortSignal): Promise<Envelope> {
  const text = parameters.toString();
  const address = text === '' ? path : `${path}?${text}`;
  const options: RequestInit = { headers: { accept: 'application/json' } };
  if (signal !== undefined) options.signal = signal;
  let response: Response;
  try {
    response =
      address.length <= LONGEST_ADDRESS
        ? await fetch(address, options)
        : await fetch(path, { ...options, method: 'POST', body: parameters });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', 'The coordinator does not answer. Is it running? The page tries again by itself.');
  }
  let envelope: Envelope;
  try {
    envelope = (await response.json()) as Envelope;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', `HTTP ${response.status} ${response.statusText}: the answer is not JSON`);
  }
  if (envelope.status !== 'success') {
    throw new ApiError(envelope.errorType ?? 'error', envelope.error ?? `HTTP ${response.status}`);
  }
  return envelope;
}

async function query(path: string, parameters: URLSearchParams, signal: AbortSignal): Promise<Answer> {
  const startedMs = performance.now();
  const envelope = await ask(path, parameters, signal);
  const data = envelope.data as Result & { coverage?: Coverage };
  return {
    result: data,
    warnings: envelope.warnings ?? [],
    infos: envelope.infos ?? [],
    coverage: data.coverage,
    tookMs: performance.now() - startedMs,
  };
}

const seconds = (ms: number) => String(ms / 1000);

/** The value of `expression` at one moment. Rejects with an ApiError, or an AbortError when `signal` was aborted. */
export function queryAt(expression: string, timeMs: number, signal: AbortSignal): Promise<Answer> {
  return query('/api/v1/query', new URLSearchParams({ query: expression, time: seconds(timeMs) }), signal);
}

/** The values of `expression` from `startMs` to `endMs`, both inclusive, every `stepMs`. */
export function queryRange(
  expression: string,
  range: { readonly startMs: number; readonly endMs: number; readonly stepMs: number },
  signal: AbortSignal,
): Promise<Answer> {
  const { startMs, endMs, stepMs } = range;
  const parameters = { query: expression, start: seconds(startMs), end: seconds(endMs), step: seconds(stepMs) };
  return query('/api/v1/query_range', new URLSearchParams(parameters), signal);
}

/** Names of the labels of the series of `metric`, or of all series. */
export async function labelNames(metric?: string): Promise<string[]> {
  const { data } = await ask('/api/v1/labels', selectorOf(metric));
  return data as string[];
}

/** Values of a label among the series of `metric`, or of all series. */
export async function labelValues(label: string, metric?: string): Promise<string[]> {
  const { data } = await ask(`/api/v1/label/${encodeURIComponent(label)}/values`, selectorOf(metric));
  return data as string[];
}

function selectorOf(metric: string | undefined): URLSearchParams {
  return new URLSearchParams(metric === undefined ? {} : { 'match[]': `{__name__=${JSON.stringify(metric)}}` });
}

/** What `/-/ready` says: its text is the reason when the coordinator is not ready. */
export async function readiness(): Promise<{ readonly ready: boolean; readonly text: string }> {
  try {
    const response = await fetch('/-/ready', { cache: 'no-store' });
    return { ready: response.ok, text: (await response.text()).trim() };
  } catch {
    return { ready: false, text: 'the coordinator does not answer' };
  }
}
