/**
 * Values of the meta store: JSON objects that begin with the version of their form, `format`. Those of before there was one
 * say nothing, and are of version 1.
 */
import { checkVersion } from '../versions.ts';
import type { Entry } from './store.ts';

/** Version 1, where it suffices: other processes may be older than this one. */
export function encodeValue(value: object, format = 1): string {
  return JSON.stringify({ format, ...value });
}

/** @throws VERSION naming the key */
export function decodeValue<T extends object>({ key, value }: Pick<Entry, 'key' | 'value'>): T {
  const { format = 1, ...read } = JSON.parse(value) as T & { readonly format?: number };
  checkVersion('meta value', format, `${key} in the meta store`);
  return read as unknown as T;
}
