/** Sorting in slices: many elements are sorted for longer than an event loop may be held. */

/** Who knows when it is somebody else's turn: a Slicer of a node, a query's Budget. */
export interface Turns {
  /** Whether it is. Cheap enough to ask for every element. */
  due(): boolean;
  pause(): Promise<void>;
}

/** Elements that are sorted without asking. */
const RUN_LENGTH = 128;

/** A stable merge sort. Returns `elements` themselves where one run holds them, and a new array otherwise. */
export async function sortSlices<T>(elements: T[], compare: (a: T, b: T) => number, turns: Turns): Promise<T[]> {
  if (elements.length <= RUN_LENGTH) return elements.sort(compare);
  let from: T[] = [];
  for (let start = 0; start < elements.length; start += RUN_LENGTH) {
    for (const element of elements.slice(start, start + RUN_LENGTH).sort(compare)) {
      from.push(element);
      if (turns.due()) await turns.pause();
    }
  }
  for (let width = RUN_LENGTH; width < from.length; width *= 2) {
    const to: T[] = [];
    for (let start = 0; start < from.length; start += 2 * width) {
      const middle = Math.min(start + width, from.length);
      const end = Math.min(middle + width, from.length);
      for (let a = start, b = middle; a < middle || b < end; ) {
        const first = from[a] as T;
        const second = from[b] as T;
        if (a < middle && (b >= end || compare(first, second) <= 0)) {
          to.push(first);
          a++;
        } else {
          to.push(second);
          b++;
        }
        if (turns.due()) await turns.pause();
      }
    }
    from = to;
  }
  return from;
}
