/** A coordinator's HTTP API, as the command line uses it. */
import { type ErrorCode, SilverbackError } from '../../core/errors.ts';

export interface Answer<T> {
  readonly data: T;
  readonly warnings: readonly string[];
}

interface Envelope<T> {
  readonly status: 'success' | 'error';
  readonly data: T;
  readonly error?: string;
  readonly warnings?: readonly string[];
}

/** The coordinator asks its nodes for 2 s at most; the rest is for a machine that is busy. */
const TIMEOUT_MS = 30_000;
/** Queries may run for two minutes. */
const QUERY_TIMEOUT_MS = 150_000;

/** By status: whose fault it is when an answer is an error; of all others, nobody's. */
const CODES: Readonly<Record<number, ErrorCode>> = { 400: 'INVALID_ARGUMENT', 404: 'NOT_FOUND', 409: 'CONFLICT' };

export class Coordinator {
  readonly url: string;

  /** `url` is an http or https one. */
  constructor(url: string) {
    this.url = url.replace(/\/+$/, '');
  }

  /** Below `/api/v1`. Rejects with a SilverbackError whose message is one line. */
  get<T>(path: string, parameters: Readonly<Record<string, string | undefined>> = {}): Promise<Answer<T>> {
    const form = formOf(parameters).toString();
    return this.#ask(`${path}${form === '' ? '' : `?${form}`}`, { method: 'GET' }, TIMEOUT_MS);
  }

  /** With a form, which may be longer than an address. */
  post<T>(path: string, parameters: Readonly<Record<string, string | undefined>>): Promise<Answer<T>> {
    return this.#ask(path, { method: 'POST', body: formOf(parameters) }, QUERY_TIMEOUT_MS);
  }

  async #ask<T>(path: string, request: RequestInit, timeoutMs: number): Promise<Answer<T>> {
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${this.url}/api/v1${path}`, { ...request, signal: AbortSignal.timeout(timeoutMs) });
      status = response.status;
      text = await response.text();
    } catch (error) {
      const why = whyOf(error, timeoutMs);
      throw new SilverbackError('UNAVAILABLE', `cannot reach the coordinator at ${this.url}: ${why}`);
    }
    if (status === 204) return { data: undefined as T, warnings: [] };
    const envelope = envelopeOf<T>(text);
    if (status === 403) {
      const hint = 'the coordinator has to be started with --enable-admin-api';
      throw new SilverbackError('UNAVAILABLE', `${envelope?.error ?? 'refused'}: ${hint}`);
    }
    if (envelope?.status === 'success') return { data: envelope.data, warnings: envelope.warnings ?? [] };
    if (envelope?.error !== undefined) throw new SilverbackError(CODES[status] ?? 'UNAVAILABLE', envelope.error);
    const message = `${this.url} answered ${status} and not as a Silverback coordinator of this version does`;
    throw new SilverbackError('UNAVAILABLE', message);
  }
}

function formOf(parameters: Readonly<Record<string, string | undefined>>): URLSearchParams {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) form.set(name, value);
  return form;
}

function envelopeOf<T>(text: string): Envelope<T> | undefined {
  try {
    const parsed = JSON.parse(text) as Partial<Envelope<T>> | null;
    return parsed?.status === 'success' || parsed?.status === 'error' ? (parsed as Envelope<T>) : undefined;
  } catch {
    return undefined;
  }
}

/** fetch says only "fetch failed", and what failed in its cause. */
function whyOf(error: unknown, timeoutMs: number): string {
  const { name, message, cause } = error as Error & { readonly cause?: NodeJS.ErrnoException };
  if (name === 'TimeoutError') return `no answer within ${timeoutMs / 1_000} s`;
  return cause?.message || cause?.code || message;
}
