/** Where everything lies in the meta store. Regions have keys of their own: nothing in one needs another's. */
export const KEYS = {
  /** `Cluster` (cluster.ts). */
  cluster: 'cluster',
  /** One `Member` (member.ts) a node, on the node's lease. */
  nodes: 'nodes/',
  node: (region: string, node: string): string => `nodes/${region}/${node}`,
  nodesOf: (region: string): string => `nodes/${region}/`,
  /** `CopyReports` (region.ts), on the node's lease; none while all of a node's copies are simply active. */
  copies: (region: string, node: string): string => `copies/${region}/${node}`,
  copiesOf: (region: string): string => `copies/${region}/`,
  /** One `RegionPlacement` (region.ts) a region. */
  placements: 'placement/',
  placement: (region: string): string => `placement/${region}`,
  /** The leader's name, on the leader's lease (election.ts). */
  election: (name: string): string => `election/${name}`,
} as const;
