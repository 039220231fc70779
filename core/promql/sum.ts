/**
 * Compensated summation (Neumaier's variant of Kahan's), step by step as Prometheus does it
 * (`util/kahansum`), so that results agree to the last bit.
 */

/** Sum of `values[from..to)` in order. */
export function kahanSum(values: Float64Array, from: number, to: number): number {
  let sum = 0;
  let c = 0;
  for (let i = from; i < to; i++) {
    const v = values[i] as number;
    const t = sum + v;
    if (t === Infinity || t === -Infinity) c = 0;
    else if (Math.abs(sum) >= Math.abs(v)) c += sum - t + v;
    else c += v - t + sum;
    sum = t;
  }
  return sum === Infinity || sum === -Infinity ? sum : sum + c;
}

/** Mean of `values[from..to)`, at least one: of the compensated sum, or incremental once the sum would overflow. */
export function kahanMean(values: Float64Array, from: number, to: number): number {
  let sum = values[from] as number;
  let c = 0;
  let i = from + 1;
  for (; i < to; i++) {
    const v = values[i] as number;
    const t = sum + v;
    if (t === Infinity || t === -Infinity) break;
    if (Math.abs(sum) >= Math.abs(v)) c += sum - t + v;
    else c += v - t + sum;
    sum = t;
  }
  const counted = i - from;
  if (i === to) return sum / counted + c / counted;
  const acc = new Kahan(sum / counted, c / counted);
  for (; i < to; i++) {
    const n = i - from + 1;
    const q = (n - 1) / n;
    acc.sum *= q;
    acc.c *= q;
    acc.add((values[i] as number) / n);
  }
  return acc.sum + acc.c;
}

/** A running compensated sum. */
export class Kahan {
  sum: number;
  c: number;

  constructor(sum = 0, c = 0) {
    this.sum = sum;
    this.c = c;
  }

  add(v: number): void {
    const { sum } = this;
    const t = sum + v;
    if (t === Infinity || t === -Infinity) this.c = 0;
    else if (Math.abs(sum) >= Math.abs(v)) this.c += sum - t + v;
    else this.c += v - t + sum;
    this.sum = t;
  }
}
