/**
 * Runs scripts in the format of Prometheus's `promqltest`: `load` series, `eval` expressions, `expect` what
 * comes of them. Floats only; a script that speaks of native histograms is refused.
 *
 *     clear
 *     load 30s
 *       metric{label="x"} 1 2+3x4 _ stale NaN
 *     eval instant at 5m sum(metric)
 *       expect no_info
 *       {} 14
 *     eval range from 0 to 5m step 1m metric
 *       expect fail msg: the exact message
 */

import type { Engine, QueryResult, QueryTime } from '../../coordinator/promql/engine.ts';
import { parseDuration, parseNumber, unquote } from '../../coordinator/promql/literal.ts';
import { parse } from '../../coordinator/promql/parse.ts';
import { compareLabels, formatLabels, type Labels, makeLabels } from '../../core/labels.ts';
import { MemoryStore, writeStale } from './store.ts';

/** Relative difference of two values that count as the same. */
const EPSILON = 1e-6;

interface Expectation {
  readonly kind: 'fail' | 'warn' | 'info' | 'no_warn' | 'no_info' | 'ordered' | 'string' | 'range';
  /** A message, or with `regex` a pattern that one must match. */
  readonly text?: string;
  readonly regex?: boolean;
}

/** A value for each step; undefined where there is none. */
type Sequence = readonly (number | undefined | 'stale')[];

interface Line {
  readonly labels: Labels;
  readonly sequence: Sequence;
}

export interface Evaluation {
  /** Where the command stands, from 1. */
  readonly line: number;
  readonly query: string;
  readonly time: QueryTime;
  readonly store: MemoryStore;
  readonly expectations: readonly Expectation[];
  readonly lines: readonly Line[];
  /** A scalar's value, when the line has no labels. */
  readonly scalar: number | undefined;
}

interface Loaded {
  readonly labels: Record<string, string>;
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** Reads a script: what to evaluate, each with the data that is loaded by then. Throws at lines that it does not know. */
export function readScript(text: string): Evaluation[] {
  const evaluations: Evaluation[] = [];
  let loaded: Loaded[] = [];
  const lines = text.split('\n').map((line) => line.replace(/^\s*#.*$/, '').trimEnd());
  for (let at = 0; at < lines.length; ) {
    const command = (lines[at] as string).trim();
    const start = at++;
    if (command === '') continue;
    const body: string[] = [];
    for (; command !== 'clear' && at < lines.length && (lines[at] as string).trim() !== ''; at++)
      body.push((lines[at] as string).trim());
    try {
      if (command === 'clear') loaded = [];
      else if (command.startsWith('load ')) loaded = [...loaded, ...load(command, body)];
      else evaluations.push(evaluation(command, body, start + 1, storeOf(loaded)));
    } catch (cause) {
      throw new Error(`line ${start + 1}: ${command}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }
  return evaluations;
}

function storeOf(loaded: readonly Loaded[]): MemoryStore {
  const store = new MemoryStore();
  for (const { labels, ...columns } of loaded) store.add(labels, columns);
  return store;
}

function load(command: string, body: readonly string[]): Loaded[] {
  const stepMs = durationMs(command.slice('load '.length).trim());
  return body.map((line) => {
    const { labels, rest } = readMetric(line);
    const sequence = readSequence(rest);
    const points = sequence.flatMap((value, i) => (value === undefined ? [] : [[i * stepMs, value] as const]));
    const timestamps = Float64Array.from(points, ([time]) => time);
    const values = new Float64Array(points.length);
    points.forEach(([, value], i) => {
      if (value === 'stale') writeStale(values, i);
      else values[i] = value;
    });
    return { labels, timestamps, values };
  });
}

function evaluation(command: string, body: readonly string[], line: number, store: MemoryStore): Evaluation {
  const instant = /^eval(?:_(fail|warn|info|ordered))?\s+instant\s+(?:at\s+(\S+))?\s+(.+)$/.exec(command);
  const range = /^eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)$/.exec(command);
  const expectations: Expectation[] = [];
  const flag = (instant ?? range)?.[1];
  if (flag) expectations.push({ kind: flag as Expectation['kind'] });
  const lines: Line[] = [];
  let scalar: number | undefined;
  for (const text of body) {
    if (text.startsWith('expect ')) expectations.push(readExpectation(text.slice('expect '.length)));
    else if (text.startsWith('expected_fail_message ')) {
      expectations.push({ kind: 'fail', text: text.slice('expected_fail_message '.length).trim() });
    } else if (text.startsWith('expected_fail_regexp ')) {
      expectations.push({ kind: 'fail', text: text.slice('expected_fail_regexp '.length).trim(), regex: true });
    } else if (/^[-+]?(\d|\.\d|Inf|NaN)\S*$/i.test(text)) scalar = readNumber(text);
    else {
      const { labels, rest } = readMetric(text);
      lines.push({ labels: makeLabels(labels), sequence: readSequence(rest) });
    }
  }
  const common = { line, store, expectations, lines, scalar };
  if (instant) return { ...common, query: instant[3] as string, time: { timeMs: durationMs(instant[2] ?? '0') } };
  if (!range) throw new Error('unknown command');
  const [startMs, endMs, stepMs] = [range[2], range[3], range[4]].map((text) => durationMs(text as string));
  return {
    ...common,
    query: range[5] as string,
    time: { startMs: startMs as number, endMs: endMs as number, stepMs: stepMs as number },
  };
}

function readExpectation(text: string): Expectation {
  const found = /^(fail|warn|info|no_warn|no_info|ordered|string|range)\b\s*(?:(msg|regex):)?\s*(.*)$/.exec(text);
  if (!found) throw new Error(`unknown expectation: ${text}`);
  const kind = found[1] as Expectation['kind'];
  if (found[3] === '') return { kind };
  return { kind, text: (found[3] as string).trim(), regex: found[2] === 'regex' };
}

/** `5m`, `-1m`, or a number of seconds. */
function durationMs(text: string): number {
  const [, sign, rest] = /^(-?)(.+)$/.exec(text) as unknown as [string, string, string];
  const ms = /^[\d.]+$/.test(rest) ? Number(rest) * 1000 : parseDuration(rest);
  return sign === '-' ? -ms : ms;
}

/** The labels at the start of a line, and what follows them. */
function readMetric(line: string): { labels: Record<string, string>; rest: string } {
  const text =
    /^(?:[a-zA-Z_:][\w:]*)?(?:\s*\{(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|[^}"'`])*\})?/.exec(line)?.[0] ?? '';
  const rest = line.slice(text.length).trim();
  if (/^(?:\{\s*\})?$/.test(text)) return { labels: {}, rest };
  const expr = parse(text);
  if (expr.kind !== 'selector') throw new Error(`not a metric: ${text}`);
  return { labels: Object.fromEntries(expr.matchers.map((m) => [m.name, m.value])), rest };
}

function readNumber(text: string): number {
  const [, sign, rest] = /^([-+]?)(.+)$/.exec(text) as unknown as [string, string, string];
  return (sign === '-' ? -1 : 1) * parseNumber(rest);
}

function readSequence(text: string): Sequence {
  if (text.includes('{{')) throw new Error('native histograms are not supported');
  return text.split(/\s+/).flatMap((item): (number | undefined | 'stale')[] => {
    if (item === '') return [];
    const gap = /^_(?:x(\d+))?$/.exec(item);
    if (gap) return new Array<undefined>(gap[1] === undefined ? 1 : Number(gap[1])).fill(undefined);
    if (item === 'stale') return ['stale'];
    const number = '(?:\\d[\\d_]*\\.?\\d*(?:e[-+]?\\d+)?|\\.\\d+(?:e[-+]?\\d+)?|0x[\\da-f]+|inf|nan)';
    const found = new RegExp(`^([-+]?${number})(?:([-+])(${number}))?(?:x(\\d+))?$`, 'i').exec(item);
    if (!found) throw new Error(`not a value: ${item}`);
    const first = readNumber(found[1] as string);
    const increment = found[3] === undefined ? 0 : readNumber(`${found[2]}${found[3]}`);
    const times = found[4] === undefined ? 0 : Number(found[4]);
    return Array.from({ length: times + 1 }, (_, i) => first + i * increment);
  });
}

/** Evaluates one command and throws where the answer is not what the script says. */
export async function runEvaluation(engine: Engine, evaluation: Evaluation): Promise<void> {
  const { query, time, store, expectations } = evaluation;
  const fail = expectations.find((e) => e.kind === 'fail');
  let result: QueryResult;
  try {
    result = await engine.query(store, query, time);
  } catch (error) {
    if (!fail || !(error instanceof Error)) throw error;
    checkText(fail, [error.message], 'error');
    return;
  }
  if (fail) throw new Error('it should have failed');
  checkAnnotations(expectations, result);
  compare(evaluation, result);
  if ('timeMs' in time && isPlain(evaluation, result)) await checkInRange(engine, evaluation);
}

/** As `promqltest` does: an instant query's answer is also the middle step of a range query around it. */
async function checkInRange(engine: Engine, evaluation: Evaluation): Promise<void> {
  const { timeMs } = evaluation.time as { timeMs: number };
  const around = { startMs: timeMs - 60_000, endMs: timeMs + 60_000, stepMs: 60_000 };
  const { value } = await engine.query(evaluation.store, evaluation.query, around);
  if (value.type !== 'matrix') throw new Error('a range query answered no matrix');
  const middle = value.series.flatMap(({ labels, timestamps, values }) => {
    const at = timestamps.indexOf(timeMs);
    return at < 0 ? [] : [{ labels, sequence: [values[at] as number] }];
  });
  const expected =
    evaluation.scalar === undefined ? evaluation.lines : [{ labels: makeLabels([]), sequence: [evaluation.scalar] }];
  compareSeries(expected, middle);
}

function isPlain({ expectations, query }: Evaluation, { value }: QueryResult): boolean {
  const dependsOnRange = /\b(?:start|end|step|range)\s*\(\)/.test(query);
  return (
    (value.type === 'vector' || value.type === 'scalar') &&
    !dependsOnRange &&
    !expectations.some((e) => e.kind === 'ordered')
  );
}

function checkText(expectation: Expectation, texts: readonly string[], what: string): void {
  const { text, regex } = expectation;
  if (text === undefined) {
    if (texts.length === 0) throw new Error(`expected a ${what}`);
    return;
  }
  const found = texts.some((t) => (regex ? new RegExp(text).test(t) : t === text));
  if (!found) throw new Error(`expected the ${what} ${text}, got ${JSON.stringify(texts)}`);
}

function checkAnnotations(expectations: readonly Expectation[], { warnings, infos }: QueryResult): void {
  for (const expectation of expectations) {
    if (expectation.kind === 'warn') checkText(expectation, warnings, 'warning');
    if (expectation.kind === 'info') checkText(expectation, infos, 'info');
    if (expectation.kind === 'no_warn' && warnings.length > 0) throw new Error(`unexpected warnings: ${warnings}`);
    if (expectation.kind === 'no_info' && infos.length > 0) throw new Error(`unexpected infos: ${infos}`);
  }
}

function same(a: number | undefined, b: number | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) && Number.isNaN(b);
  if (a === b) return true;
  const sum = Math.abs(a) + Math.abs(b);
  const difference = Math.abs(a - b);
  if (a === 0 || b === 0 || sum < 1e-300) return difference < EPSILON * 1e-300;
  return difference / Math.min(sum, Number.MAX_VALUE) < EPSILON;
}

function compareSeries(expected: readonly Line[], got: readonly Line[]): void {
  const sorted = (lines: readonly Line[]): Line[] => [...lines].sort((a, b) => compareLabels(a.labels, b.labels));
  const [wanted, found] = [sorted(expected), sorted(got)];
  const names = (lines: readonly Line[]): string => lines.map((l) => formatLabels(l.labels)).join('\n  ');
  if (names(wanted) !== names(found))
    throw new Error(`expected the series\n  ${names(wanted)}\ngot\n  ${names(found)}`);
  wanted.forEach(({ labels, sequence }, i) => {
    const values = (found[i] as Line).sequence;
    const length = Math.max(sequence.length, values.length);
    for (let step = 0; step < length; step++) {
      if (!same(sequence[step] as number | undefined, values[step] as number | undefined)) {
        throw new Error(`${formatLabels(labels)}: expected ${sequence}\ngot ${values}\nwhich differs at ${step}`);
      }
    }
  });
}

/** The values of a series on the steps of a grid. */
function onGrid(timestamps: Float64Array, values: Float64Array, startMs: number, stepMs: number): Sequence {
  const sequence: (number | undefined)[] = [];
  timestamps.forEach((time, i) => {
    sequence[Math.round((time - startMs) / stepMs)] = values[i];
  });
  return Array.from(sequence);
}

function compare({ lines, scalar, expectations, time }: Evaluation, { value }: QueryResult): void {
  const string = expectations.find((e) => e.kind === 'string');
  if (string) {
    if (value.type !== 'string' || value.value !== unquote(string.text as string))
      throw new Error(`got ${JSON.stringify(value)}`);
    return;
  }
  if (value.type === 'scalar') {
    if (!same(value.value, scalar)) throw new Error(`expected ${scalar}, got ${value.value}`);
  } else if (value.type === 'vector') {
    const got = value.labels.map((labels, i) => ({ labels, sequence: [value.values[i] as number] }));
    if (expectations.some((e) => e.kind === 'ordered')) {
      const order = (all: readonly Line[]): string => all.map((l) => formatLabels(l.labels)).join('\n  ');
      if (order(lines) !== order(got))
        throw new Error(`expected in this order\n  ${order(lines)}\ngot\n  ${order(got)}`);
    }
    compareSeries(lines, got);
  } else if (value.type === 'matrix') {
    const vector = expectations.find((e) => e.kind === 'range');
    const grid = vector ? readRange(vector.text as string) : 'timeMs' in time ? undefined : time;
    if (!grid) throw new Error('an instant query with a matrix needs: expect range vector from .. to .. step ..');
    const got = value.series.map(({ labels, timestamps, values }) => ({
      labels,
      sequence: onGrid(timestamps, values, grid.startMs, grid.stepMs),
    }));
    compareSeries(lines.filter((l) => l.sequence.some((v) => v !== undefined)).map(trimmed), got);
  }
}

/** Without the gaps at the end, which a result does not have. */
function trimmed({ labels, sequence }: Line): Line {
  let length = sequence.length;
  while (length > 0 && sequence[length - 1] === undefined) length--;
  return { labels, sequence: sequence.slice(0, length) };
}

function readRange(text: string): { startMs: number; stepMs: number } {
  const found = /^vector from (\S+) to (\S+) step (\S+)$/.exec(text);
  if (!found) throw new Error(`unknown expectation: range ${text}`);
  return { startMs: durationMs(found[1] as string), stepMs: durationMs(found[3] as string) };
}
