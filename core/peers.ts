/** Nodes that a process reaches at other addresses than those they registered: through a proxy, a tunnel, a translated network. */
import type { Member } from './meta/member.ts';
import type { Copy, Placement, PlacementView } from './placement.ts';

/** host:port by `region/node`. Nodes that are not named are reached where they registered. */
export type PeerAddresses = ReadonlyMap<string, string>;

/** The placement with the addresses at which its nodes are reached from here. */
export function reachedAt(placement: Placement, addresses: PeerAddresses): Placement {
  if (addresses.size === 0) return placement;
  const reached = (copy: Copy): Copy => {
    const address = addresses.get(`${copy.region}/${copy.node}`);
    return address === undefined ? copy : { ...copy, address };
  };
  return { ...placement, copies: placement.copies.map((copies) => copies.map(reached)) };
}

/** A registered node at the address at which it is reached from here. */
export function memberReachedAt(member: Member, addresses: PeerAddresses): Member {
  const address = addresses.get(`${member.region}/${member.name}`);
  return address === undefined ? member : { ...member, address };
}

/** A view of the same; one object per placement, as long as it stays in force. */
export function viewReachedAt(view: PlacementView, addresses: PeerAddresses): PlacementView {
  let known: { readonly of: Placement; readonly placement: Placement } | undefined;
  const reached = (of: Placement): Placement => {
    if (known?.of !== of) known = { of, placement: reachedAt(of, addresses) };
    return known.placement;
  };
  return {
    current() {
      const placement = view.current();
      return placement === undefined ? undefined : reached(placement);
    },
    refresh: async () => reached(await view.refresh()),
    onChange: (listener) => view.onChange((placement) => listener(reached(placement))),
  };
}
