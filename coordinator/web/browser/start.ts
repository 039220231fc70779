/** What stands where an answer will be: queries of data that is really there, or how to get data in. */
import { score } from './complete.ts';
import { element } from './dom.ts';
import { countOf } from './number.ts';
import { metricsOf } from './paint.ts';

interface Example {
  readonly title: string;
  /** Written with metrics that must exist for the example to be shown. */
  readonly query: string;
}

/** What the cluster writes about itself and its host, and what node_exporter would; first come, first shown. */
const EXAMPLES: readonly Example[] = [
  { title: 'CPU used, by core', query: 'host_cpu_core_used_ratio' },
  { title: 'Memory used, share of all', query: 'host_memory_used_bytes / host_memory_total_bytes' },
  {
    title: 'Disk used, share by file system',
    query: 'max by (mount) (host_filesystem_used_bytes / host_filesystem_size_bytes)',
  },
  { title: 'Disk writes, bytes a second', query: 'rate(host_disk_written_bytes_total[1m])' },
  {
    title: 'Network received, bytes a second',
    query: 'sum by (interface) (rate(host_network_receive_bytes_total[1m]))',
  },
  {
    title: 'Samples taken in, a second, by node',
    query: 'sum by (instance) (rate(silverback_node_write_samples_total[1m]))',
  },
  { title: 'Memory of the processes', query: 'sum by (job, instance) (process_resident_memory_bytes)' },
  {
    title: 'HTTP requests of this coordinator, a second',
    query: 'sum by (handler, code) (rate(silverback_http_requests_total[1m]))',
  },
  { title: 'CPU used by machine', query: '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))' },
  { title: 'Memory available', query: 'node_memory_MemAvailable_bytes' },
  { title: 'What answers when scraped', query: 'up' },
];

const FALLBACK_COUNT = 6;

/** Examples whose metrics are all among `metrics`; where none of ours fits, plain looks at some that are there. */
function chooseExamples(metrics: readonly string[]): readonly Example[] {
  const known = new Set(metrics);
  const fitting = EXAMPLES.filter(({ query }) => metricsOf(query).every((name) => known.has(name)));
  if (fitting.length > 1 || metrics.length === 0) return fitting;
  return metrics.slice(0, FALLBACK_COUNT).map((name) => {
    const counter = /_(total|count|sum)$/.test(name);
    return { title: counter ? `${name}, a second` : name, query: counter ? `rate(${name}[5m])` : name };
  });
}

/** Up to three metrics whose names look like `name`: what was probably meant. */
function similarMetrics(name: string, metrics: readonly string[]): string[] {
  const parts = name.split(/[_:]/).filter((part) => part.length > 2);
  return metrics
    .map((metric) => ({
      metric,
      points: parts.filter((part) => metric.includes(part)).length + (score(metric, name) ?? -1),
    }))
    .filter(({ points }) => points >= Math.max(1, parts.length / 2))
    .sort((a, b) => b.points - a.points)
    .slice(0, 3)
    .map(({ metric }) => metric);
}

/** A button for each example. `run` gets the query. */
export function examplesNode(metrics: readonly string[], run: (query: string) => void): HTMLElement {
  const node = element('div', { class: 'start' });
  const items = chooseExamples(metrics).map(({ title, query }) => {
    const button = element(
      'button',
      { type: 'button', class: 'example' },
      element('span', {}, title),
      element('code', {}, query),
    );
    button.addEventListener('click', () => run(query));
    return element('li', {}, button);
  });
  node.append(element('h2', {}, 'Try'), element('ul', { class: 'examples' }, ...items));
  node.append(
    element(
      'p',
      {},
      `${countOf(metrics.length, 'metric')} in the store. Begin to type a name, or press `,
      element('kbd', {}, 'Ctrl'),
      '+',
      element('kbd', {}, 'Space'),
      ' for all.',
    ),
  );
  return node;
}

/** How to get data in. */
export function emptyStoreNode(): HTMLElement {
  return element(
    'div',
    { class: 'start' },
    element('h2', {}, 'The store is empty'),
    element('p', {}, 'Point a Prometheus at it: add this to its prometheus.yml and reload it.'),
    element('pre', {}, `remote_write:\n  - url: ${location.origin}/api/v1/write`),
    element(
      'p',
      {},
      'Or write from your own process with the SDK (client/), or start the cluster without ',
      element('code', {}, '--no-self-monitoring'),
      ' to see its own metrics and those of this machine.',
    ),
    element('p', {}, 'This page looks again every few seconds.'),
  );
}

/**
 * Why a query may have found nothing. `when` says which moment or range was asked for; `metrics` are all that there are,
 * undefined when that is not known.
 */
export function noDataNode(
  query: string,
  when: string,
  metrics: readonly string[] | undefined,
  run: (query: string) => void,
): HTMLElement {
  const node = element('div', { class: 'start' }, element('h2', {}, 'No series'));
  node.append(element('p', {}, `The query is valid; nothing matched ${when}.`));
  if (metrics === undefined) return node;
  if (metrics.length === 0) return emptyStoreNode();
  const known = new Set(metrics);
  for (const name of metricsOf(query)) {
    if (known.has(name)) continue;
    const line = element('p', {}, 'There is no metric ', element('code', {}, name), '.');
    const similar = similarMetrics(name, metrics);
    if (similar.length > 0) {
      line.append(' Similar: ');
      similar.forEach((other, index) => {
        const button = element('button', { type: 'button', class: 'link' }, other);
        button.addEventListener('click', () => run(other));
        line.append(index === 0 ? '' : ', ', button);
      });
    }
    node.append(line);
  }
  if (metricsOf(query).every((name) => known.has(name))) {
    node.append(element('p', {}, 'Its metrics exist: look at the label matchers, or choose a longer range.'));
  }
  return node;
}
