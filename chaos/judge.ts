/**
 * What was acknowledged when, what every region answered, and the judgement afterwards. Five rules:
 *
 *   lost        an acknowledged sample is not readable in some region once everything is whole again
 *   foreign     an answer holds a sample, a value or a series that nobody wrote
 *   incomplete  an answer called itself complete and lacks a sample that was acknowledged, in any region, before its frontier
 *   diverged    once everything is whole again, two regions have other digests
 *   unhealed    once everything is whole again, an answer still does not call itself complete, or a copy is still on its way
 *
 * The frontier of an answer is not in it, but bounded by what it says (ARCHITECTURE.md, "The path of a copy"): without an
 * `unconfirmed` part it is at most `boundMs` before the question; else it is `lateMs` after where that part begins.
 *
 * Times are those of the judge's own process, when an acknowledgement came in and before a question went out. Both make it lenient,
 * never unjust.
 */
import { type History, Ranges, type Span } from './history.ts';

export interface JudgeOptions {
  readonly history: History;
  readonly regions: readonly string[];
  /** Of each series. */
  readonly shardOf: readonly number[];
  /** A copy that has not heard of another copy's for this long is not complete. */
  readonly boundMs: number;
  /** What is unconfirmed begins this long before the frontier. */
  readonly lateMs: number;
}

interface Acknowledgement {
  readonly span: Span;
  readonly atMs: number;
}

/** A part of what was asked, inclusive, as the answer itself judged it. */
export interface Stretch {
  readonly shard: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: 'complete' | 'unconfirmed' | 'missing';
  readonly reason: string;
  /** Whose samples these are. */
  readonly copy?: string;
}

/** What PromQL counted in an answer that called itself complete as a whole. */
export interface Count {
  readonly region: string;
  readonly askedMs: number;
  readonly fromTick: number;
  /** Exclusive. */
  readonly toTick: number;
  /** Samples between these ticks, by series. */
  readonly counts: ReadonlyMap<number, number>;
}

export interface Answer {
  readonly region: string;
  readonly askedMs: number;
  /** Ticks that it holds, by series. */
  readonly found: ReadonlyMap<number, Ranges>;
  /** What no answer may hold, in words. */
  readonly wrong: readonly string[];
  readonly coverage: readonly Stretch[];
}

/** Of one region: by shard and window, as text. */
export type Digests = ReadonlyMap<string, string>;

export interface Violation {
  readonly rule: 'lost' | 'foreign' | 'incomplete' | 'diverged' | 'unhealed';
  readonly words: string;
}

const NAMED = 5;

/** Takes everything down while it happens, and judges at the end, or several times: then what was judged is forgotten. */
export class Judge {
  readonly #options: JudgeOptions;
  readonly #acknowledged: Acknowledgement[] = [];
  readonly #answers: Answer[] = [];
  readonly #counts: Count[] = [];
  /** Asked after healing, of everything. */
  readonly #last: Answer[] = [];
  readonly #digests = new Map<string, Digests>();
  readonly #unsettled: string[] = [];
  /** Acknowledged before the frontiers that were looked at; by series. */
  readonly #known: readonly Ranges[];
  /** The last acknowledgement before what is judged next. */
  #concludedMs = Number.NEGATIVE_INFINITY;

  constructor(options: JudgeOptions) {
    this.#options = options;
    this.#known = Array.from({ length: options.history.seriesCount }, () => new Ranges());
  }

  /** In the order of time. */
  acknowledged(span: Span, atMs: number): void {
    this.#options.history.acknowledge(span);
    this.#acknowledged.push({ span, atMs });
  }

  answered(answer: Answer): void {
    this.#answers.push(answer);
  }

  counted(count: Count): void {
    this.#counts.push(count);
  }

  get answerCount(): number {
    return this.#answers.length;
  }

  get countCount(): number {
    return this.#counts.length;
  }

  /** Answers of which at least a part of every shard called itself complete. */
  get completeCount(): number {
    return this.#answers.filter(({ coverage }) => coverage.every(({ state }) => state === 'complete')).length;
  }

  /** The region is whole again; this is all that it has. */
  healed(answer: Answer, digests: Digests): void {
    this.#last.push(answer);
    this.#digests.set(answer.region, digests);
  }

  /** What should have come to its end by now has not, in words. */
  unsettled(words: readonly string[]): void {
    this.#unsettled.push(...words);
  }

  /** Of all since the last time. */
  conclude(): Violation[] {
    const violations = [
      ...this.#lost(),
      ...this.#foreign(),
      // Before what it looks at is known.
      ...this.#miscounted(),
      ...this.#incomplete(),
      ...this.#diverged(),
      ...this.#unhealed(),
    ];
    this.#concludedMs = this.#acknowledged.at(-1)?.atMs ?? this.#concludedMs;
    for (const { span } of this.#acknowledged.splice(0)) this.#know(span);
    this.#answers.length = 0;
    this.#counts.length = 0;
    this.#last.length = 0;
    this.#digests.clear();
    this.#unsettled.length = 0;
    return violations;
  }

  #lost(): Violation[] {
    const { history, regions } = this.#options;
    const violations: Violation[] = [];
    for (const region of regions) {
      const answers = this.#last.filter((answer) => answer.region === region);
      if (answers.length === 0) violations.push({ rule: 'lost', words: `${region} gave no answer after healing` });
      for (const { found } of answers) {
        const lost = new Map<number, Ranges>();
        for (const [series, acknowledged] of history.acknowledged.entries()) {
          const missing = acknowledged.without(found.get(series) ?? NOTHING);
          if (missing.size > 0) lost.set(series, missing);
        }
        if (lost.size > 0) violations.push({ rule: 'lost', words: `${region} lacks ${inWords(lost)}` });
      }
    }
    return violations;
  }

  #foreign(): Violation[] {
    return [...this.#answers, ...this.#last].flatMap(({ region, askedMs, wrong }) =>
      wrong.length === 0 ? [] : [{ rule: 'foreign', words: `${region}, asked at ${askedMs}: ${wrong.join('; ')}` }],
    );
  }

  /** Goes through parts of answers in the order of their frontiers, beside the acknowledgements in the order of time. */
  #incomplete(): Violation[] {
    const { history, shardOf } = this.#options;
    const claims = [...this.#answers, ...this.#last]
      .flatMap((answer) => this.#claims(answer))
      .filter(({ frontierMs }) => frontierMs > this.#concludedMs);
    claims.sort((a, b) => a.frontierMs - b.frontierMs);
    const violations: Violation[] = [];
    let next = 0;
    for (const { answer, part, frontierMs } of claims) {
      for (; (this.#acknowledged[next]?.atMs ?? Number.POSITIVE_INFINITY) < frontierMs; next++) {
        this.#know((this.#acknowledged[next] as Acknowledgement).span);
      }
      const fromTick = Math.ceil((part.fromMs - history.originMs) / history.stepMs);
      const toTick = Math.floor((part.toMs - history.originMs) / history.stepMs) + 1;
      const lacking = new Map<number, Ranges>();
      for (const [series, acknowledged] of this.#known.entries()) {
        if (shardOf[series] !== part.shard) continue;
        const missing = acknowledged.without(answer.found.get(series) ?? NOTHING, fromTick, toTick);
        if (missing.size > 0) lacking.set(series, missing);
      }
      if (lacking.size === 0) continue;
      const { region, askedMs, coverage } = answer;
      const copy = coverage.find(({ shard }) => shard === part.shard)?.copy ?? 'nobody';
      const age = `acknowledged more than ${((askedMs - frontierMs) / 1_000).toFixed(1)} s before`;
      const words = `${region}, asked at ${askedMs}, called ${part.fromMs}..${part.toMs} of shard ${part.shard} from ${copy} complete without ${inWords(lacking)}, ${age}`;
      violations.push({ rule: 'incomplete', words });
    }
    return violations;
  }

  /** As `incomplete` and `foreign`, of what was counted: at least what was acknowledged before the frontier, at most what was ever sent. */
  #miscounted(): Violation[] {
    const { history, boundMs } = this.#options;
    const known = this.#known.map((ranges) => ranges.without(NOTHING));
    const counts = this.#counts
      .map((count) => ({ ...count, frontierMs: count.askedMs - boundMs }))
      .filter(({ frontierMs }) => frontierMs > this.#concludedMs)
      .sort((a, b) => a.frontierMs - b.frontierMs);
    const violations: Violation[] = [];
    let next = 0;
    for (const { region, askedMs, fromTick, toTick, counts: found, frontierMs } of counts) {
      for (; (this.#acknowledged[next]?.atMs ?? Number.POSITIVE_INFINITY) < frontierMs; next++) {
        const { span } = this.#acknowledged[next] as Acknowledgement;
        for (let i = span.fromSeries; i < span.toSeries; i++) known[i]?.add(span.fromTick, span.toTick);
      }
      for (const [series, acknowledged] of known.entries()) {
        const count = found.get(series) ?? 0;
        const least = acknowledged.without(NOTHING, fromTick, toTick).size;
        const most = (history.sent[series] as Ranges).without(NOTHING, fromTick, toTick).size;
        const where = `${region}, asked at ${askedMs}, counted ${count} samples of series ${series}, ticks ${fromTick}..${toTick - 1}`;
        if (count < least)
          violations.push({ rule: 'incomplete', words: `${where}: ${least} were acknowledged before` });
        if (count > most) violations.push({ rule: 'foreign', words: `${where}: only ${most} were ever sent` });
      }
    }
    return violations;
  }

  #know({ fromSeries, toSeries, fromTick, toTick }: Span): void {
    for (let i = fromSeries; i < toSeries; i++) this.#known[i]?.add(fromTick, toTick);
  }

  /** The complete parts of an answer, each with the frontier that it claims. */
  #claims(answer: Answer): { answer: Answer; part: Stretch; frontierMs: number }[] {
    const { boundMs, lateMs } = this.#options;
    return answer.coverage.flatMap((part) => {
      if (part.state !== 'complete') return [];
      let frontierMs = answer.askedMs - boundMs;
      for (const { shard, state, fromMs } of answer.coverage) {
        if (shard === part.shard && state === 'unconfirmed') frontierMs = Math.min(frontierMs, fromMs + lateMs);
      }
      return [{ answer, part, frontierMs }];
    });
  }

  #unhealed(): Violation[] {
    const unsettled = this.#unsettled.map((words): Violation => ({ rule: 'unhealed', words }));
    const incomplete = this.#last.flatMap(({ region, coverage }) => {
      const gaps = coverage.filter(({ state }) => state !== 'complete');
      if (gaps.length === 0) return [];
      const named = gaps.slice(0, NAMED).map(({ shard, state, reason }) => `shard ${shard} is ${state}: ${reason}`);
      return [{ rule: 'unhealed', words: `${region}: ${named.join('; ')}` } as const];
    });
    return [...unsettled, ...incomplete];
  }

  #diverged(): Violation[] {
    const [first, ...others] = [...this.#digests];
    if (first === undefined) return [];
    const violations: Violation[] = [];
    for (const [region, digests] of others) {
      const keys = new Set([...first[1].keys(), ...digests.keys()]);
      const differing = [...keys].filter((key) => first[1].get(key) !== digests.get(key)).sort();
      if (differing.length === 0) continue;
      const words = `${first[0]} and ${region} differ in ${differing.length} windows: ${differing.slice(0, NAMED).join('; ')}`;
      violations.push({ rule: 'diverged', words });
    }
    return violations;
  }
}

const NOTHING = new Ranges();

function inWords(lacking: ReadonlyMap<number, Ranges>): string {
  let count = 0;
  for (const ranges of lacking.values()) count += ranges.size;
  const named = [...lacking].slice(0, NAMED).map(([series, ranges]) => {
    const ticks = [...ranges].slice(0, NAMED).map(([from, to]) => `${from}..${to - 1}`);
    return `series ${series} ticks ${ticks.join(',')}`;
  });
  return `${count} samples of ${lacking.size} series (${named.join('; ')})`;
}
