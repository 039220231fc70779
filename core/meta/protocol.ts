/** proto/meta.proto as TypeScript sees it, and its messages from and to the store's own types. */
import { fileURLToPath } from 'node:url';
import { loadSync } from '@grpc/proto-loader';
import type { Method } from '../protocol.ts';
import type { Change, Condition, Entry, Event, LeaseId } from './store.ts';

interface WireChange {
  readonly key: string;
  readonly remove: boolean;
  readonly value: string;
  readonly lease: string;
}

interface WireEntry {
  readonly key: string;
  readonly value: string;
  readonly revision: number;
  readonly lease: string;
}

interface WireEvent {
  readonly key: string;
  readonly entry: WireEntry | null;
  readonly revision: number;
}

interface LeaseMessage {
  readonly lease: string;
}

type Done = Readonly<Record<string, never>>;

interface MetaMethods {
  readonly Commit: Method<
    { readonly conditions: readonly Condition[]; readonly changes: readonly WireChange[] },
    { readonly revision: number }
  >;
  readonly Get: Method<{ readonly key: string }, { readonly entry: WireEntry | null }>;
  readonly Range: Method<
    { readonly prefix: string },
    { readonly revision: number; readonly entries: readonly WireEntry[] }
  >;
  readonly Watch: Method<
    { readonly prefix: string; readonly fromRevision: number },
    { readonly revision: number; readonly events: readonly WireEvent[] }
  >;
  readonly GrantLease: Method<{ readonly ttlMs: number }, LeaseMessage>;
  readonly RenewLease: Method<LeaseMessage, Done>;
  readonly RevokeLease: Method<LeaseMessage, Done>;
}

// The sources lie in core/meta/, the compiled program in dist/core/meta/; the proto lies in proto/ for both.
const definition = loadSync('meta.proto', {
  includeDirs: ['../../proto/', '../../../proto/'].map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
  longs: Number,
  enums: String,
  defaults: true,
});

// The loader types every message as `object`; this line is where the proto gets its types.
export const metaMethods = definition['silverback.meta.v1.Meta'] as unknown as MetaMethods;

export function toWireChange(change: Change): WireChange {
  if (!('put' in change)) return { key: change.remove, remove: true, value: '', lease: '' };
  return { key: change.put, remove: false, value: change.value, lease: change.lease ?? '' };
}

export function fromWireChange({ key, remove, value, lease }: WireChange): Change {
  if (remove) return { remove: key };
  return lease === '' ? { put: key, value } : { put: key, value, lease: lease as LeaseId };
}

export function toWireEntry(entry: Entry): WireEntry {
  return { ...entry, lease: entry.lease ?? '' };
}

export function fromWireEntry({ key, value, revision, lease }: WireEntry): Entry {
  return { key, value, revision, lease: lease === '' ? undefined : (lease as LeaseId) };
}

export function toWireEvent({ key, entry, revision }: Event): WireEvent {
  return { key, entry: entry === undefined ? null : toWireEntry(entry), revision };
}

export function fromWireEvent({ key, entry, revision }: WireEvent): Event {
  return { key, entry: entry === null ? undefined : fromWireEntry(entry), revision };
}
