/** Functions of counters' and gauges' change. */
import { countChanges, countResets, extrapolated, instantaneous } from '../../../core/promql/rate.ts';
import type { WindowFunction } from './row.ts';

const matrix = { kind: 'window', returns: 'vector', args: ['matrix'], constantTime: true } as const;

export const RATE: readonly WindowFunction[] = [
  { ...matrix, name: 'rate', counter: true, kernel: extrapolated(true, true) },
  { ...matrix, name: 'increase', counter: true, kernel: extrapolated(true, false) },
  { ...matrix, name: 'delta', kernel: extrapolated(false, false) },
  { ...matrix, name: 'irate', kernel: instantaneous(true) },
  { ...matrix, name: 'idelta', kernel: instantaneous(false) },
  { ...matrix, name: 'resets', kernel: countResets },
  { ...matrix, name: 'changes', kernel: countChanges },
];
