/** What every meta store takes, so that what one takes the others take too. */
import { SilverbackError } from '../errors.ts';
import type { Change } from './store.ts';

const KEY_BYTES_MOST = 1_024;
export const VALUE_BYTES_MOST = 1 << 20;
const LEASE_TTL_MOST_MS = 86_400_000;

/** @throws SilverbackError TOO_LARGE */
export function checkSize(change: Change): void {
  const key = 'put' in change ? change.put : change.remove;
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes < 1 || keyBytes > KEY_BYTES_MOST) {
    throw new SilverbackError('TOO_LARGE', `meta store: a key of ${keyBytes} bytes, expected 1 to ${KEY_BYTES_MOST}`);
  }
  if (!('put' in change)) return;
  const valueBytes = Buffer.byteLength(change.value);
  if (valueBytes > VALUE_BYTES_MOST) {
    throw new SilverbackError(
      'TOO_LARGE',
      `meta store: ${key}: ${valueBytes} bytes, at most ${VALUE_BYTES_MOST} are kept`,
    );
  }
}

/** @throws SilverbackError INVALID_ARGUMENT */
export function checkTtl(ttlMs: number): void {
  if (ttlMs >= 1 && ttlMs <= LEASE_TTL_MOST_MS) return;
  throw new SilverbackError('INVALID_ARGUMENT', `lease: ttl of ${ttlMs} ms, expected 1 to ${LEASE_TTL_MOST_MS}`);
}
