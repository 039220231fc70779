/** Counts samples as Prometheus's query statistics do: a sample counts at each step that looks at it. */

export class SampleCounter {
  total = 0;
  /** By step of the query; undefined when nobody asked. */
  readonly perStep: Float64Array | undefined;

  constructor(steps: number, perStep: boolean) {
    this.perStep = perStep ? new Float64Array(steps) : undefined;
  }

  /** `count` samples looked at in step `step`. */
  add(step: number, count: number): void {
    this.total += count;
    if (this.perStep) this.perStep[step] = (this.perStep[step] as number) + count;
  }

  /** What was counted since the last call. */
  take(): number {
    const { total } = this;
    this.total = 0;
    return total;
  }

  /** `count` samples looked at in each of the first `steps` steps. */
  addToEach(steps: number, count: number): void {
    if (this.perStep === undefined) this.total += steps * count;
    else for (let i = 0; i < steps; i++) this.add(i, count);
  }
}
