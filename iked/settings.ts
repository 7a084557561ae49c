/** What iked refuses in a configuration before it takes effect: what it could never negotiate with. */

import { childProposals } from './ikev2/child-sa.ts';
import { ikeProposals } from './ikev2/ike-sa-init.ts';
import type { Peer, Peers } from './peers.ts';
import type { IkedSettings } from './ports.ts';

/** The reasons, one sentence each, joined; undefined where there is none. */
export function refuseSettings(peers: Peers, { config }: IkedSettings): string | undefined {
  const reasons = peers.all.flatMap(refusePeer);
  for (const { name, policy } of config.selectors) {
    if (policy.action !== 'protect' || policy.remote === undefined) continue;
    if (!config.remotes.some((remote) => remote.name === policy.remote))
      reasons.push(`selector ${name}: there is no remote ${policy.remote}`);
  }
  return reasons.length === 0 ? undefined : reasons.join('; ');
}

function refusePeer(peer: Peer): string[] {
  const { name, ikev2, psk, myId, children } = peer;
  const reasons: string[] = [];
  if (ikev2.authMethods.includes('psk') && (psk === undefined || psk.length === 0) && ikev2.authMethods.length === 1) {
    reasons.push(`remote ${name} authenticates by psk and has no key: write pre_shared_key, and see that the file is not empty`);
  }
  if (ikev2.myId !== undefined && myId === undefined)
    reasons.push(`remote ${name}: my_id ${ikev2.myId.type} ${ikev2.myId.value} is no such identity, or its file cannot be read`);
  if (ikev2.ke.length === 0) reasons.push(`remote ${name}: kmp_dh_group is empty`);
  if (ikeProposals(ikev2, new Uint8Array(0)).length === 0) {
    reasons.push(`remote ${name}: kmp_enc_alg names only ciphers without integrity of their own, and kmp_hash_alg is empty`);
  }
  for (const child of children) {
    if (childProposals(child, ikev2, new Uint8Array(4), 'never').proposals.length > 0) continue;
    reasons.push(
      `policy ${child.policy.name}: its ipsec_index holds no SA that can be negotiated (one esp section each, with esp_enc_alg)`,
    );
  }
  return reasons;
}
