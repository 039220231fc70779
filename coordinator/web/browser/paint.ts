/** Colours a query by Prometheus's own grammar, the same that the coordinator parses with. */
import type { SyntaxNode } from '@lezer/common';
import { highlightTree, tagHighlighter, tags } from '@lezer/highlight';
import { parser } from '@prometheus-io/lezer-promql';
import { element } from './dom.ts';

const CLASSES = tagHighlighter([
  { tag: tags.comment, class: 'q-comment' },
  { tag: tags.labelName, class: 'q-label' },
  { tag: tags.string, class: 'q-string' },
  { tag: tags.number, class: 'q-number' },
  { tag: tags.variableName, class: 'q-metric' },
  { tag: tags.function(tags.variableName), class: 'q-word' },
  { tag: tags.operatorKeyword, class: 'q-word' },
  { tag: tags.modifier, class: 'q-keyword' },
  { tag: tags.logicOperator, class: 'q-keyword' },
  { tag: tags.invalid, class: 'q-wrong' },
]);

/** The query as nodes: text, and spans with a class where the grammar knows more. */
export function paint(query: string): Node[] {
  const nodes: Node[] = [];
  let at = 0;
  highlightTree(parser.parse(query), CLASSES, (from, to, classes) => {
    if (from > at) nodes.push(document.createTextNode(query.slice(at, from)));
    nodes.push(element('span', { class: classes }, query.slice(from, to)));
    at = to;
  });
  nodes.push(document.createTextNode(query.slice(at)));
  return nodes;
}

/** Names of the metrics that a query selects, each once, as far as they are written as names. */
export function metricsOf(query: string): string[] {
  const found = new Set<string>();
  const visit = (node: SyntaxNode): void => {
    const name = node.name === 'VectorSelector' ? node.getChild('Identifier') : null;
    if (name !== null) found.add(query.slice(name.from, name.to));
    for (let child = node.firstChild; child !== null; child = child.nextSibling) visit(child);
  };
  visit(parser.parse(query).topNode);
  return [...found];
}
