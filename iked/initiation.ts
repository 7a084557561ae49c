/** How a negotiation for a child begins: in the IKE SA at hand with its peer, or in a new one. */

import { isGenerated } from '../src/keying/generated.ts';
import type { AskedEnds } from '../src/keying/host.ts';
import type { Path } from '../src/net/address.ts';
import type { Demand, Owner } from './host.ts';
import { startIsakmpSa } from './ikev1/main-mode.ts';
import { startIkeSa } from './ikev2/ike-sa-init.ts';
import { createChild } from './versions.ts';

/** In the IKE SA at hand, or in a new one. Where a remote stands for many peers, `asked` says which. */
export function negotiate(owner: Owner, demand: Demand, asked?: AskedEnds): void {
  const { policy } = demand;
  const anywhere = isGenerated(policy.policy);
  const carrier =
    anywhere && asked?.remote === undefined
      ? undefined
      : owner.table.carrierOf(policy.remote, anywhere ? asked?.remote : undefined);
  if (carrier !== undefined) createChild(carrier, demand);
  else begin(owner, demand, asked);
}

/** In a new IKE SA. */
export function begin(owner: Owner, demand: Demand, asked?: AskedEnds): void {
  const { policy } = demand;
  const { peers, local: own, table, migrations } = owner;
  const refuse = (why: string) => owner.failed(demand, why);
  const peer = peers.initiator(policy.remote);
  if (peer === undefined) return refuse(`remote ${policy.remote} lists neither ikev2 nor ikev1 first in acceptable_kmp`);
  const moved = asked?.km ?? migrations.keyManagementOf(policy);
  const configured = peers.remoteEndpoint(peer, policy, asked?.remote, own);
  const remote =
    moved === undefined ? configured : { address: moved.remote, port: configured?.port ?? peers.ikePort(moved.local) };
  if (remote === undefined) return refuse(`remote ${peer.name} has no address to begin with: write one in peers_ipaddr`);
  const local = moved?.local ?? peers.localAddress(remote.address, policy, asked?.local, own);
  if (local === undefined)
    return refuse(`no address of ours to reach ${remote.address} from: write one in interface { ike } or my_sa_ipaddr`);
  if (table.size >= peers.config.interface.limits.ikeSas) {
    const why = `there are ${table.size} IKE SAs, the limit of ike_sas`;
    owner.report('limit-reached', `no IKE SA for ${policy.name}: ${why}`, { child: policy.name, limit: 'ike_sas' });
    return refuse(why);
  }
  const path: Path = { local: { address: local, port: peers.ikePort(local) }, remote, encapsulated: false };
  if (peer.version === 1) startIsakmpSa(owner, peer, path, demand);
  else startIkeSa(owner, peer, path, demand);
}
