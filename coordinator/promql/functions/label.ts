/** Functions of label sets: label_replace and label_join. */
import { RE2JS, RE2JSSyntaxException } from 're2js';
import { type Labels, labelValue } from '../../../core/labels.ts';
import { METRIC_NAME, withLabel } from '../../../core/promql/labelset.ts';
import type { Call, Expr } from '../ast.ts';
import { type Context, collect } from '../context.ts';
import { QueryError } from '../error.ts';
import { isLabelName } from '../literal.ts';
import { mergeSlots } from '../map.ts';
import { type Cursor, Kept, type Names } from '../vector.ts';
import type { VectorFunction } from './row.ts';

/** The text of a string argument. */
export function text(call: Call, at: number): string {
  const arg = call.args[at] as Expr;
  if (arg.kind === 'paren') return text({ ...call, args: [arg.expr] }, 0);
  if (arg.kind !== 'string') throw new QueryError('execution', `argument ${at + 1} of ${call.name} is not a string`);
  return arg.value;
}

function checkLabel(name: string, what: string, call: Call): void {
  if (!isLabelName(name)) throw new QueryError('execution', `invalid ${what} label name in ${call.name}(): ${name}`);
}

/** Gives every series of the first argument the labels that `change` makes, then merges equal ones. */
async function relabel(call: Call, context: Context, dst: string, change: (labels: Labels) => Labels): Promise<Cursor> {
  const inner = await context.vector(call.args[0] as Expr);
  const slots = await collect(inner, context);
  for (const slot of slots) slot.labels = change(slot.labels);
  const names: Names = dst === METRIC_NAME ? 'many' : inner.names;
  return new Kept(mergeSlots(slots), names);
}

async function replace(call: Call, context: Context): Promise<Cursor> {
  const [dst, template, src, pattern] = [1, 2, 3, 4].map((i) => text(call, i)) as [string, string, string, string];
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(`^(?s:${pattern})$`);
  } catch (cause) {
    if (!(cause instanceof RE2JSSyntaxException)) throw cause;
    throw new QueryError('execution', `invalid regular expression in label_replace(): ${pattern}`, { cause });
  }
  checkLabel(dst, 'destination', call);
  const answers = new Map<string, string | undefined>();
  return relabel(call, context, dst, (labels) => {
    const value = labelValue(labels, src);
    if (!answers.has(value)) answers.set(value, expand(regex, template, value));
    const answer = answers.get(value);
    return answer === undefined ? labels : withLabel(labels, dst, answer);
  });
}

/** Go's `Regexp.Expand`: `$1`, `${1}`, `$name`, `${name}`, `$$`; unknown groups are empty. Undefined when nothing matches. */
function expand(regex: RE2JS, template: string, value: string): string | undefined {
  const matcher = regex.matcher(value);
  if (!matcher.find()) return undefined;
  const named = regex.namedGroups();
  return template.replace(/\$(?:\$|\{([^}]*)\}|([\p{L}\p{Nd}_]+))?/gu, (whole, braced?: string, bare?: string) => {
    if (whole === '$$') return '$';
    const name = braced ?? bare;
    if (name === undefined) return whole;
    if (!/^[\p{L}\p{Nd}_]+$/u.test(name)) return whole;
    const group = /^\d+$/.test(name) ? Number(name) : named[name];
    if (group === undefined || group > regex.groupCount()) return '';
    return matcher.group(group) ?? '';
  });
}

async function join(call: Call, context: Context): Promise<Cursor> {
  const dst = text(call, 1);
  const separator = text(call, 2);
  const sources = call.args.slice(3).map((_, i) => text(call, 3 + i));
  for (const source of sources) checkLabel(source, 'source', call);
  checkLabel(dst, 'destination', call);
  return relabel(call, context, dst, (labels) =>
    withLabel(labels, dst, sources.map((source) => labelValue(labels, source)).join(separator)),
  );
}

export const LABEL: readonly VectorFunction[] = [
  {
    kind: 'vector',
    returns: 'vector',
    name: 'label_replace',
    args: ['vector', 'string', 'string', 'string', 'string'],
    open: replace,
  },
  {
    kind: 'vector',
    returns: 'vector',
    name: 'label_join',
    args: ['vector', 'string', 'string', 'string'],
    variadic: -1,
    open: join,
  },
];
