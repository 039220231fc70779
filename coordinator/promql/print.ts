/** The syntax tree as text: on one line, or laid out as Prometheus's `format_query` does. */
import type { At, Binary, DurationExpr, Expr, MatrixSelector, Subquery, VectorSelector } from './ast.ts';
import { formatDuration, formatFloat, labelName, quote } from './literal.ts';

const MAX_LINE_CHARS = 100;
const labelList = (names: readonly string[]): string => names.map(labelName).join(', ');

/** One line of PromQL that parses back to the same tree. */
export function print(expr: Expr): string {
  switch (expr.kind) {
    case 'number':
      return printNumber(expr.value, expr.duration);
    case 'string':
      return quote(expr.value);
    case 'selector':
      return printSelector(expr);
    case 'matrix':
      return printMatrix(expr);
    case 'subquery':
      return print(expr.expr) + subquerySuffix(expr);
    case 'call':
      return `${expr.name}(${expr.args.map(print).join(', ')})`;
    case 'aggregate':
      return `${aggregateHead(expr)}(${expr.param === undefined ? '' : `${print(expr.param)}, `}${print(expr.expr)})`;
    case 'binary':
      return `${print(expr.lhs)} ${operator(expr)} ${print(expr.rhs)}`;
    case 'unary':
      return expr.op + print(expr.expr);
    case 'paren':
      return `(${print(expr.expr)})`;
  }
}

function printNumber(value: number, duration: boolean): string {
  if (!duration) return formatFloat(value);
  const ms = Math.round(Math.abs(value) * 1000);
  return (value < 0 ? '-' : '') + formatDuration(ms);
}

function printSelector(node: VectorSelector, modifiers = true): string {
  const parts = node.matchers
    .filter((m) => !(node.name !== '' && m.name === '__name__' && m.op === '=' && m.value === node.name))
    .map((m) => `${labelName(m.name)}${m.op}${quote(m.value)}`)
    .sort();
  const body = node.name + (parts.length > 0 || node.name === '' ? `{${parts.join(',')}}` : '');
  if (!modifiers) return body;
  return body + atText(node.at) + extentText(node) + offsetText(node.offset);
}

function printMatrix(node: MatrixSelector): string {
  const inner = node.selector;
  return `${printSelector(inner, false)}[${printDuration(node.range)}]${extentText(inner)}${atText(inner.at)}${offsetText(inner.offset)}`;
}

function subquerySuffix(node: Subquery): string {
  const step = node.step === undefined ? '' : printDuration(node.step);
  return `[${printDuration(node.range)}:${step}]${atText(node.at)}${offsetText(node.offset)}`;
}

function atText(at: At | undefined): string {
  if (at === undefined) return '';
  return 'timeMs' in at ? ` @ ${(at.timeMs / 1000).toFixed(3)}` : ` @ ${at.preprocessor}()`;
}

function extentText(node: VectorSelector): string {
  return node.extent === undefined ? '' : ` ${node.extent}`;
}

function offsetText(offset: DurationExpr | undefined): string {
  if (offset === undefined || (offset.kind === 'duration' && offset.ms === 0)) return '';
  return ` offset ${printDuration(offset)}`;
}

function printDuration(node: DurationExpr): string {
  switch (node.kind) {
    case 'duration':
      return (node.ms < 0 ? '-' : '') + formatDuration(Math.abs(node.ms));
    case 'durationStep':
      return 'step()';
    case 'durationRange':
      return 'range()';
    case 'durationUnary':
      return node.op === '-' ? `-${printDuration(node.expr)}` : printDuration(node.expr);
    case 'durationParen':
      return `(${printDuration(node.expr)})`;
    case 'durationBinary': {
      const { op, lhs, rhs } = node;
      if (op === 'min_of' || op === 'max_of') return `${op}(${printDuration(lhs)}, ${printDuration(rhs)})`;
      return `${printDuration(lhs)} ${op} ${printDuration(rhs)}`;
    }
  }
}

function aggregateHead(node: Extract<Expr, { kind: 'aggregate' }>): string {
  if (node.without) return `${node.op} without (${labelList(node.grouping)}) `;
  return node.grouping.length > 0 ? `${node.op} by (${labelList(node.grouping)}) ` : node.op;
}

function operator(node: Binary): string {
  let text = node.op + (node.bool ? ' bool' : '');
  const m = node.matching;
  if (m === undefined) return text;
  const grouped = m.card === 'many-to-one' || m.card === 'one-to-many';
  if (m.labels.length > 0 || m.on || grouped) text += ` ${m.on ? 'on' : 'ignoring'} (${labelList(m.labels)})`;
  if (grouped) text += ` group_${m.card === 'many-to-one' ? 'left' : 'right'} (${labelList(m.include)})`;
  if (m.fillLeft !== undefined && Object.is(m.fillLeft, m.fillRight))
    return `${text} fill (${formatFloat(m.fillLeft)})`;
  if (m.fillLeft !== undefined) text += ` fill_left (${formatFloat(m.fillLeft)})`;
  if (m.fillRight !== undefined) text += ` fill_right (${formatFloat(m.fillRight)})`;
  return text;
}

/** As Prometheus lays out a query: whatever does not fit on 100 characters is split, indented by two spaces a level. */
export function format(expr: Expr): string {
  return pretty(expr, 0);
}

function pretty(expr: Expr, level: number): string {
  const indent = '  '.repeat(level);
  const line = print(expr);
  const fits = line.length <= MAX_LINE_CHARS;
  switch (expr.kind) {
    case 'unary':
      return `${indent}${expr.op}${pretty(expr.expr, level).trim()}`;
    case 'subquery':
      // Prometheus does not indent a subquery that fits.
      return fits ? line : pretty(expr.expr, level) + subquerySuffix(expr);
    case 'paren':
      if (fits) break;
      return `${indent}(\n${pretty(expr.expr, level + 1)}\n${indent})`;
    case 'call':
      if (fits) break;
      return `${indent}${expr.name}(\n${expr.args.map((arg) => pretty(arg, level + 1)).join(',\n')}\n${indent})`;
    case 'aggregate': {
      if (fits) break;
      const param = expr.param === undefined ? '' : `${pretty(expr.param, level + 1)},\n`;
      return `${indent}${aggregateHead(expr)}(\n${param}${pretty(expr.expr, level + 1)}\n${indent})`;
    }
    case 'binary':
      if (fits) break;
      return `${pretty(expr.lhs, level + 1)}\n${indent}${operator(expr)}\n${pretty(expr.rhs, level + 1)}`;
  }
  return indent + line;
}
