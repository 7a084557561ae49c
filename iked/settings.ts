/** What iked refuses in a configuration before it takes effect: what it could never negotiate with. */

import { suitesOf } from './ikev1/phase-1-proposals.ts';
import { phase1Terms } from './ikev1/proof.ts';
import { refusePolicy } from './ikev1/quick-mode-choice.ts';
import { childProposals } from './ikev2/child-sa.ts';
import { ikeProposals } from './ikev2/ike-sa-init.ts';
import { type AnyPeer, ikeOf, type Peers } from './peers.ts';
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

function refusePeer(peer: AnyPeer): string[] {
  const { name, psk, myId, children } = peer;
  const ike = ikeOf(peer);
  const reasons: string[] = [];
  if (ike.authMethods.every((method) => method === 'psk') && (psk === undefined || psk.length === 0)) {
    reasons.push(`remote ${name} authenticates by psk and has no key: write pre_shared_key, and see that the file is not empty`);
  }
  if (ike.myId !== undefined && myId === undefined)
    reasons.push(`remote ${name}: my_id ${ike.myId.type} ${ike.myId.value} is no such identity, or its file cannot be read`);
  if (peer.version === 1) {
    if (suitesOf(phase1Terms(peer.ikev1)).length === 0)
      reasons.push(`remote ${name}: kmp_enc_alg, kmp_hash_alg and kmp_dh_group of its ikev1 block leave nothing to offer`);
    return [...reasons, ...children.flatMap((child) => refusePolicy(peer, child) ?? [])];
  }
  const { ikev2 } = peer;
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
