/** The best of what is offered, as `topk` and `bottomk` choose: a heap with the next to go on top. */
export class Heap<Item> {
  readonly items: Item[] = [];
  readonly #values: number[] = [];
  readonly #sign: 1 | -1;
  readonly #compare: (a: Item, b: Item) => number;

  /** `sign` 1: the largest values are best. `compare`: of equal ones the lesser stays. */
  constructor(sign: 1 | -1, compare: (a: Item, b: Item) => number) {
    this.#sign = sign;
    this.#compare = compare;
  }

  clear(): void {
    this.items.length = 0;
    this.#values.length = 0;
  }

  /** Of the item at this place. */
  value(at: number): number {
    return this.#values[at] as number;
  }

  /** Order of going: negative when `a` has to go before `b`. NaN goes before everything. */
  #order(x: number, a: Item, y: number, b: Item): number {
    if (x < y) return -this.#sign;
    if (x > y) return this.#sign;
    return Number(Number.isNaN(y)) - Number(Number.isNaN(x)) || this.#compare(b, a);
  }

  /** Takes an item in; with `limit` in it already, only in the place of a worse one. */
  offer(item: Item, value: number, limit: number): void {
    if (this.admits(item, value, limit)) this.put(item, value, limit);
  }

  admits(item: Item, value: number, limit: number): boolean {
    if (this.items.length < limit) return true;
    const worst = this.#values[0] as number;
    // Nearly all that is offered ends here.
    if (this.#sign === 1 ? value < worst : value > worst) return false;
    return this.#order(worst, this.items[0] as Item, value, item) < 0;
  }

  /** What is admitted. */
  put(item: Item, value: number, limit: number): void {
    if (this.items.length < limit) {
      this.items.push(item);
      this.#values.push(value);
      this.#up(this.items.length - 1);
      return;
    }
    this.items[0] = item;
    this.#values[0] = value;
    this.#down();
  }

  /** Whether the item at `i` has to go before the one at `j`. */
  #before(i: number, j: number): boolean {
    return (
      this.#order(this.#values[i] as number, this.items[i] as Item, this.#values[j] as number, this.items[j] as Item) <
      0
    );
  }

  #up(from: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #down(): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.items.length) return;
      if (child + 1 < this.items.length && this.#before(child + 1, child)) child++;
      if (!this.#before(child, at)) return;
      this.#swap(at, child);
      at = child;
    }
  }

  #swap(i: number, j: number): void {
    const item = this.items[i] as Item;
    const value = this.#values[i] as number;
    this.items[i] = this.items[j] as Item;
    this.#values[i] = this.#values[j] as number;
    this.items[j] = item;
    this.#values[j] = value;
  }

  /** Best first, NaN last. */
  sorted(): Item[] {
    const order = this.items.map((_, i) => i).sort((i, j) => (this.#before(i, j) ? 1 : -1));
    return order.map((i) => this.items[i] as Item);
  }
}
