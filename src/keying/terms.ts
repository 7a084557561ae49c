/** A policy as Quick Mode's terms, and what a choice under them means for the pair of SAs (RFC 2407 §4.5, RFC 2409 §5.5, RFC 4430). */

import type { IpsecConfig, ProposalCheck } from '../config/config.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import type { KeName } from '../crypto/transforms.ts';
import type { SaProtocol, Spis } from '../ipsec/sa.ts';
import { type Alternative, type Choice, leadOf, type Terms } from '../isakmp/terms.ts';
import { type ChildPolicy, protocolsOf } from './child-policy.ts';
import type { Agreement, BundledSa, SaKeys } from './sa-pair.ts';

/** An alternative that remembers the `ipsec` section it stands for. */
export interface PolicyAlternative extends Alternative {
  readonly ipsec: IpsecConfig;
}

export type PolicyTerms = Terms<PolicyAlternative>;
export type PolicyChoice = Choice<PolicyAlternative>;

/** What a policy offers and accepts: those of its `ipsec` sections whose SAs are of the protocols that its entry in the SPD asks for. */
export function termsOf(
  { policy }: ChildPolicy,
  {
    group,
    encapsulated,
    check,
  }: { readonly group: KeName | undefined; readonly encapsulated: boolean; readonly check: ProposalCheck },
): PolicyTerms {
  const protocols = protocolsOf(policy);
  const alternatives = policy.ipsec.flatMap((ipsec): PolicyAlternative[] => {
    const { sas, lifetimeTime, lifetimeBytes, lifetimePackets } = ipsec;
    if (sas.length !== protocols.length || !protocols.every((protocol) => sas.some((sa) => sa.protocol === protocol))) return [];
    const limit = (value: number | 'infinite') => (value === 'infinite' ? 0 : value);
    const lifetime = { seconds: limit(lifetimeTime) / 1000, bytes: limit(lifetimeBytes), packets: limit(lifetimePackets) };
    return [{ sas, lifetime, ipsec }];
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
    lifetimeIdle: alternative.ipsec.lifetimeIdle,
    replayWindow: alternative.ipsec.replayWindow,
  };
}

/** The keys of one SA, by its receiver's SPI. */
export type KeysOf = (protocol: SaProtocol, spi: number, suite: EspSuite) => SaKeys;

/** The SAs of both directions that a choice makes; `spis` are ours. */
export function sasOf(
  choice: PolicyChoice,
  spis: Spis,
  inbound: KeysOf,
  outbound: KeysOf = inbound,
): Pick<Agreement, 'spiIn' | 'spiOut' | 'inbound' | 'outbound' | 'others'> {
  const made = choice.sas.map(({ protocol, suite, spi: spiOut }): BundledSa => {
    const spiIn = spis.get(protocol)!;
    return {
      protocol,
      suite,
      spiIn,
      spiOut,
      inbound: inbound(protocol, spiIn, suite),
      outbound: outbound(protocol, spiOut, suite),
    };
  });
  const { protocol } = leadOf(choice);
  const lead = made.find((sa) => sa.protocol === protocol)!;
  return {
    spiIn: lead.spiIn,
    spiOut: lead.spiOut,
    inbound: lead.inbound,
    outbound: lead.outbound,
    others: made.filter((sa) => sa !== lead),
  };
}
