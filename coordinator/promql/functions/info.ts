/** info(): adds the labels of info metrics, such as target_info, to the series they describe (experimental). */
import { formatLabels, type Labels, labelValue } from '../../../core/labels.ts';
import { compileMatcher, type Matcher } from '../../../core/matchers.ts';
import { labelsKey, METRIC_NAME, withLabel } from '../../../core/promql/labelset.ts';
import type { Call, Expr } from '../ast.ts';
import { type Context, collect } from '../context.ts';
import { QueryError } from '../error.ts';
import { InstantCursor } from '../range.ts';
import { type Cursor, Kept, Slot } from '../vector.ts';
import type { VectorFunction } from './row.ts';

/** Labels by which an info metric names what it describes. */
const IDENTIFYING = ['instance', 'job'];
const DEFAULT_INFO: Matcher = { name: METRIC_NAME, op: '=', value: 'target_info' };
const ANY_INFO: Matcher = { name: METRIC_NAME, op: '=~', value: '.+_info' };

const identity = (labels: Labels): string => IDENTIFYING.map((name) => labelValue(labels, name)).join('\u{fdd0}');

/** What the info metrics are named: without a name `target_info`; names that are only ruled out leave the others in `_info`. */
function infoNames(given: readonly Matcher[]): readonly Matcher[] {
  if (given.length === 0) return [DEFAULT_INFO];
  return given.some(({ op }) => op === '=' || op === '=~') ? given : [ANY_INFO, ...given];
}

async function info(call: Call, context: Context): Promise<Cursor> {
  const selector = call.args[1] as Expr | undefined;
  const given = selector?.kind === 'selector' ? selector.matchers : [];
  const data = given.filter((m) => m.name !== METRIC_NAME);
  const named = given.filter((m) => m.name === METRIC_NAME);
  const names = infoNames(named);
  const inner = await context.vector(call.args[0] as Expr);
  const base = await collect(inner, context);
  const isInfo = names.map(compileMatcher);
  const infos = await readInfos([...names, ...data], context);
  const wanted = new Set(data.map((m) => m.name));
  const optional = data.every((m) => compileMatcher(m).matchesEmpty);
  const results = new Map<string, Slot>();
  for (const slot of base) {
    const described = infos.get(identity(slot.labels)) ?? [];
    const untouched = isInfo.every((m) => m.test(labelValue(slot.labels, METRIC_NAME)));
    for (let step = 0; step < context.grid.count; step++) {
      if (slot.present[step] === 0) continue;
      let labels: Labels | undefined = slot.labels;
      if (!untouched) labels = enrich(slot.labels, latest(described, step), wanted, optional);
      if (labels !== undefined) addPoint(results, labels, step, slot.values[step] as number, context);
    }
    if (context.budget.due()) await context.budget.pause();
  }
  return new Kept([...results.values()], inner.names);
}

/** The info series by what they describe, with their samples' times as values. */
async function readInfos(matchers: readonly Matcher[], context: Context): Promise<Map<string, Slot[]>> {
  const { startMs, stepMs, count } = context.grid;
  const set = await context.selectNow(matchers, startMs - context.lookbackMs + 1, startMs + (count - 1) * stepMs);
  const found = new Map<string, Slot[]>();
  for (const slot of await collect(
    new InstantCursor(set, 'many', { startMs, stepMs }, context, 'timestamps'),
    context,
  )) {
    const key = identity(slot.labels);
    const same = found.get(key);
    if (same === undefined) found.set(key, [slot]);
    else same.push(slot);
  }
  return found;
}

/** Of each info metric's series at a step the one with the latest sample. Throws when two are equally late. */
function latest(infos: readonly Slot[], step: number): Slot[] {
  const byName = new Map<string, Slot>();
  for (const slot of infos) {
    if (slot.present[step] === 0) continue;
    const name = labelValue(slot.labels, METRIC_NAME);
    const other = byName.get(name);
    const time = slot.values[step] as number;
    const otherTime = other?.values[step] as number;
    if (other !== undefined && time === otherTime) {
      throw new QueryError(
        'execution',
        `found duplicate series for info metric: existing ${formatLabels(other.labels)} @ ${otherTime * 1000}, new ${formatLabels(slot.labels)} @ ${time * 1000}`,
      );
    }
    if (other === undefined || time > otherTime) byName.set(name, slot);
  }
  return [...byName.values()];
}

/** A series' labels with those of its info series; undefined when matchers ask for labels that none has. */
function enrich(
  labels: Labels,
  infos: readonly Slot[],
  wanted: ReadonlySet<string>,
  optional: boolean,
): Labels | undefined {
  const added = new Map<string, string>();
  for (const { labels: from } of infos) {
    for (let i = 0; i < from.length; i += 2) {
      const name = from[i] as string;
      const value = from[i + 1] as string;
      if (name === METRIC_NAME || IDENTIFYING.includes(name) || labelValue(labels, name) !== '') continue;
      if (wanted.size > 0 && !wanted.has(name)) continue;
      const before = added.get(name);
      if (before !== undefined && before !== value) throw new QueryError('execution', `conflicting label: ${name}`);
      added.set(name, value);
    }
  }
  if (infos.length === 0 && !optional) return undefined;
  let result = labels;
  for (const [name, value] of added) result = withLabel(result, name, value);
  return result;
}

function addPoint(results: Map<string, Slot>, labels: Labels, step: number, value: number, context: Context): void {
  const key = labelsKey(labels);
  let slot = results.get(key);
  if (slot === undefined) {
    slot = new Slot(context.grid.count);
    slot.labels = labels;
    results.set(key, slot);
  }
  if (slot.present[step] === 0) slot.pointCount++;
  slot.present[step] = 1;
  slot.values[step] = value;
}

export const INFO: readonly VectorFunction[] = [
  {
    kind: 'vector',
    returns: 'vector',
    name: 'info',
    args: ['vector', 'vector'],
    variadic: 1,
    experimental: true,
    open: info,
  },
];
