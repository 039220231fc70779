/** The syntax tree as Prometheus's `parse_query` gives it in JSON: its node types, field names and units. */
import type { At, DurationExpr, Expr, VectorSelector } from './ast.ts';
import { typeOf } from './check.ts';
import { FUNCTIONS } from './functions/table.ts';
import { formatFloat } from './literal.ts';

type Json = Readonly<Record<string, unknown>>;

export function toTree(expr: Expr): Json {
  switch (expr.kind) {
    case 'number':
      return { type: 'numberLiteral', val: formatFloat(expr.value) };
    case 'string':
      return { type: 'stringLiteral', val: expr.value };
    case 'paren':
      return { type: 'parenExpr', expr: toTree(expr.expr) };
    case 'unary':
      return { type: 'unaryExpr', op: expr.op, expr: toTree(expr.expr) };
    case 'selector':
      return { type: 'vectorSelector', ...selector(expr) };
    case 'matrix':
      return { type: 'matrixSelector', ...selector(expr.selector), ...duration('range', expr.range) };
    case 'subquery':
      return {
        type: 'subquery',
        expr: toTree(expr.expr),
        ...duration('range', expr.range),
        ...duration('step', expr.step),
        ...duration('offset', expr.offset),
        ...at(expr.at),
      };
    case 'call': {
      const row = FUNCTIONS.get(expr.name);
      return {
        type: 'call',
        func: {
          name: expr.name,
          argTypes: row?.args ?? [],
          variadic: row?.variadic ?? 0,
          returnType: row?.returns ?? 'none',
        },
        args: expr.args.map(toTree),
      };
    }
    case 'aggregate':
      return {
        type: 'aggregation',
        op: expr.op,
        expr: toTree(expr.expr),
        param: expr.param === undefined ? null : toTree(expr.param),
        grouping: expr.grouping,
        without: expr.without,
      };
    case 'binary': {
      // Prometheus forgets it where a side is no vector.
      const m = typeOf(expr.lhs) === 'vector' && typeOf(expr.rhs) === 'vector' ? expr.matching : undefined;
      return {
        type: 'binaryExpr',
        op: expr.op,
        lhs: toTree(expr.lhs),
        rhs: toTree(expr.rhs),
        matching:
          m === undefined
            ? null
            : {
                card: m.card,
                labels: m.labels,
                on: m.on,
                include: m.include,
                fillValues: { lhs: m.fillLeft ?? null, rhs: m.fillRight ?? null },
              },
        bool: expr.bool,
      };
    }
  }
}

function selector(node: VectorSelector): Json {
  return {
    name: node.name,
    ...duration('offset', node.offset),
    matchers: node.matchers.map(({ name, op, value }) => ({ name, value, type: op })),
    ...at(node.at),
    anchored: node.extent === 'anchored',
    smoothed: node.extent === 'smoothed',
  };
}

function at(moment: At | undefined): Json {
  const isTime = moment !== undefined && 'timeMs' in moment;
  return {
    timestamp: isTime ? moment.timeMs : null,
    startOrEnd: moment === undefined || isTime ? null : moment.preprocessor,
  };
}

/** Milliseconds. One that is not a number yet is 0, with the arithmetic in a field beside it. */
function duration(name: string, node: DurationExpr | undefined): Json {
  if (node === undefined) return { [name]: 0 };
  return node.kind === 'duration' ? { [name]: node.ms } : { [name]: 0, [`${name}Expr`]: arithmetic(node, false) };
}

function arithmetic(node: DurationExpr, wrapped: boolean): Json {
  const of = (op: string, lhs: Json | null, rhs: Json | null): Json => ({
    type: 'durationExpr',
    op,
    lhs,
    rhs,
    wrapped,
  });
  switch (node.kind) {
    case 'duration':
      return { type: 'numberLiteral', val: formatFloat(node.ms / 1000), duration: true };
    case 'durationStep':
      return of('step', null, null);
    case 'durationRange':
      return of('range', null, null);
    case 'durationUnary':
      return of(node.op, null, arithmetic(node.expr, false));
    case 'durationParen':
      return arithmetic(node.expr, true);
    case 'durationBinary':
      return of(node.op.replace('_of', ''), arithmetic(node.lhs, false), arithmetic(node.rhs, false));
  }
}
