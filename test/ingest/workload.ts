/**
 * Bodies as an agent on a fleet of hosts sends them: 100 metrics a host (10% constant, 30% slow integers,
 * 25% two-decimal gauges, 35% counters), labels `__name__, dc, host, instance, job, region`, host by host.
 */

import { labelFields, Writer } from './message.ts';
import { compress } from './snappy.ts';

const REGIONS = ['ap-south-1', 'eu-central-1', 'eu-west-1', 'us-east-1', 'us-west-2'];
const METRICS = 100;

export interface Workload {
  readonly seriesCount: number;
  readonly ticks: number;
  /** Samples of a series in a body. */
  readonly perSeries: number;
  readonly bodySamples: number;
  readonly startMs: number;
  readonly stepMs: number;
}

function metric(m: number): string {
  const n = String(m).padStart(2, '0');
  if (m < 10) return `node_const_${n}_bytes`;
  if (m < 40) return `node_slow_${n}_count`;
  return m < 65 ? `node_noisy_${n}_percent` : `node_counter_${n}_total`;
}

function labelsOf(series: number): Uint8Array {
  const h = Math.floor(series / METRICS);
  const region = REGIONS[h % REGIONS.length] as string;
  return labelFields([
    ['__name__', metric(series % METRICS)],
    ['dc', `${region}${'abc'[Math.floor(h / REGIONS.length) % 3]}`],
    ['host', `host-${String(h).padStart(5, '0')}`],
    ['instance', `10.${(h >> 16) & 255}.${(h >> 8) & 255}.${h & 255}:9100`],
    ['job', 'node'],
    ['region', region],
  ]);
}

/** The bodies, tick block by tick block, compressed. */
export function bodies(w: Workload): Uint8Array[] {
  let seed = 42;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 4294967296;
  };
  const values = Float64Array.from({ length: w.seriesCount }, () => Math.floor(random() * 1e6));
  const next = (s: number): number => {
    const m = s % METRICS;
    if (m >= 65) values[s] = (values[s] as number) + Math.floor(random() * 2000);
    else if (m >= 40) values[s] = Math.round((20 + 60 * random()) * 100) / 100;
    else if (m >= 10 && random() < 0.1) values[s] = (values[s] as number) + 1;
    return values[s] as number;
  };
  const labels = Array.from({ length: w.seriesCount }, (_, s) => labelsOf(s));
  const perBody = Math.floor(w.bodySamples / w.perSeries);
  const out: Uint8Array[] = [];
  for (let tick = 0; tick < w.ticks; tick += w.perSeries) {
    for (let from = 0; from < w.seriesCount; from += perBody) {
      const body = new Writer();
      for (let s = from; s < Math.min(from + perBody, w.seriesCount); s++) {
        const series = labels[s] as Uint8Array;
        body
          .varint(0x0a)
          .varint(series.length + 18 * w.perSeries)
          .raw(series);
        for (let i = 0; i < w.perSeries; i++) {
          body.varint(0x12).varint(16).varint(0x09).double(next(s));
          body.varint(0x10).varint(w.startMs + (tick + i) * w.stepMs);
        }
      }
      out.push(compress(body.bytes));
    }
  }
  return out;
}
