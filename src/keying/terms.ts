/** A policy as Quick Mode's terms, and what a choice under them means for the pair of SAs (RFC 2407 §4.5, RFC 2409 §5.5, RFC 4430). */

import type { IpsecConfig, ProposalCheck } from '../config/config.ts';
import type { KeName } from '../crypto/transforms.ts';
import type { Alternative, Choice, Terms } from '../isakmp/quick-mode.ts';
import type { ChildPolicy } from './child-policy.ts';
import type { Agreement } from './sa-pair.ts';

/** An alternative that remembers the `ipsec` section it stands for. */
export interface PolicyAlternative extends Alternative {
  readonly ipsec: IpsecConfig;
}

export type PolicyTerms = Terms<PolicyAlternative>;
export type PolicyChoice = Choice<PolicyAlternative>;

/** What a policy offers and accepts: its `ipsec` sections of one ESP SA each. */
export function termsOf(
  { policy }: ChildPolicy,
  {
    group,
    encapsulated,
    check,
  }: { readonly group: KeName | undefined; readonly encapsulated: boolean; readonly check: ProposalCheck },
): PolicyTerms {
  const alternatives = policy.ipsec.flatMap((ipsec): PolicyAlternative[] => {
    const [only, ...more] = ipsec.sas;
    if (only?.protocol !== 'esp' || more.length > 0) return [];
    const { lifetimeTime, lifetimeBytes, lifetimePackets } = ipsec;
    const limit = (value: number | 'infinite') => (value === 'infinite' ? 0 : value);
    const lifetime = { seconds: limit(lifetimeTime) / 1000, bytes: limit(lifetimeBytes), packets: limit(lifetimePackets) };
    return [{ protocol: 'esp', encr: only.encr, auth: only.auth, lifetime, ipsec }];
  });
  return { alternatives, mode: policy.mode, encapsulated, group, check };
}

/** Lifetimes and window of the pair that a choice makes. */
export function ipsecOf({ lifetime, alternative }: PolicyChoice): Agreement['ipsec'] {
  const limit = (value: number) => (value === 0 ? 'infinite' : value);
  return {
    lifetimeTime: limit(lifetime.seconds * 1000),
    lifetimeBytes: limit(lifetime.bytes),
    lifetimePackets: limit(lifetime.packets),
    replayWindow: alternative.ipsec.replayWindow,
  };
}
