/** What each side of Quick Mode wants and what both come to: policies as data, and every transform that says them (RFC 2408 §4.2, RFC 2407 §4.5). */

import type { EspSuite } from '../crypto/packet-cipher.ts';
import { ENCR, type EncrName, type IntegName, type KeName } from '../crypto/transforms.ts';
import { Fault } from '../errors.ts';
import type { Lifetime } from '../ipsec/lifetime.ts';
import type { Mode, SaProtocol } from '../ipsec/sa.ts';
import { type Encapsulation, hasNumbers, type IpsecTransform } from './ipsec-transforms.ts';
import { lifeOf, type ProposalCheck } from './lifetimes.ts';
import type { Proposal } from './sa-payload.ts';

/** One SA of an alternative. */
export interface AlternativeSa {
  readonly protocol: SaProtocol;
  /** Best first; AH and IPComp use none. */
  readonly encr: readonly { readonly name: EncrName; readonly keyBits: number }[];
  /** Best first; not used with a combined-mode cipher, nor by IPComp. */
  readonly auth: readonly (IntegName | 'none')[];
}

/** One way in which a policy protects traffic: SAs of different protocols, all of which each packet goes through, in whatever order. */
export interface Alternative {
  readonly sas: readonly AlternativeSa[];
  readonly lifetime: Lifetime;
}

/** What one side wants: an offer is built of it, and offers are held against it. */
export interface Terms<A extends Alternative = Alternative> {
  /** Best first. */
  readonly alternatives: readonly A[];
  readonly mode: Mode;
  /** Whether a NAT (or a policy) calls for UDP encapsulation. */
  readonly encapsulated: boolean;
  /** The group of perfect forward secrecy, or none. */
  readonly group: KeName | undefined;
  readonly check: ProposalCheck;
}

/** One SA that both sides come to. */
export interface ChosenSa {
  readonly protocol: SaProtocol;
  readonly suite: EspSuite;
  /** The peer's: that of the SA it receives on. */
  readonly spi: number;
}

/** What both sides come to. */
export interface Choice<A extends Alternative = Alternative> {
  /** Innermost first. */
  readonly sas: readonly ChosenSa[];
  readonly mode: Mode;
  readonly encapsulated: boolean;
  /** The group of the KE payloads, which there are if and only if it is defined. */
  readonly group: KeName | undefined;
  readonly lifetime: Lifetime;
  /** Whether `lifetime` is shorter than the peer's, who should be told (RFC 2407 §4.5.4). */
  readonly shortened: boolean;
  /** Of our terms, the alternative it is one of. */
  readonly alternative: A;
  /** The proposals with one transform each, as the peer wrote them and in its order. */
  readonly proposals: readonly Proposal[];
}

/** The SA that the others are beside: the innermost that has keys. */
export function leadOf({ sas }: Pick<Choice, 'sas'>): ChosenSa {
  const lead = sas.find(({ protocol }) => protocol !== 'ipcomp');
  if (lead === undefined) throw new Fault('a choice of IPComp alone');
  return lead;
}

/** Every transform of one of an alternative's SAs that IKEv1 can say, best first. */
export function combinations(terms: Terms, { sas, lifetime }: Alternative, protocol: SaProtocol): IpsecTransform[] {
  const sa = sas.find((one) => one.protocol === protocol);
  if (sa === undefined) return [];
  const common = {
    protocol,
    encapsulation: encapsulationIn(terms, protocol, sas),
    // RFC 3173 §4.1: what means nothing to IPComp should not be there.
    group: protocol === 'ipcomp' ? undefined : terms.group,
    life: lifeOf(lifetime),
  };
  return suitesOfSa(sa).map((suite) => ({ ...common, suite }));
}

function suitesOfSa({ protocol, encr, auth }: AlternativeSa): EspSuite[] {
  if (protocol === 'ipcomp') return [{ encr: 'null_enc', keyBits: 0, integ: 'none' }];
  const ciphers = protocol === 'ah' ? [{ name: 'null_enc' as const, keyBits: 0 }] : encr;
  const suites = ciphers.flatMap(({ name, keyBits }): EspSuite[] => {
    const bits = ENCR[name].keyLength ? keyBits : 0;
    if (ENCR[name].icv > 0) return [{ encr: name, keyBits: bits, integ: 'none' }];
    return auth.map((integ) => ({ encr: name, keyBits: bits, integ }));
  });
  return suites.filter((suite) => hasNumbers(protocol, suite) && !(suite.encr === 'null_enc' && suite.integ === 'none'));
}

/**
 * How one SA of a bundle wraps packets, as an offer says it. A bundle makes one tunnel, and RFC 2407 does not say whose it is: with IPComp inside both it and
 * what is around it say so, as every peer does that compresses; AH around an ESP tunnel is about the tunnel's ends, and is in transport mode.
 */
export function encapsulationIn(
  terms: Pick<Terms, 'mode' | 'encapsulated'>,
  protocol: SaProtocol,
  sas: readonly Pick<AlternativeSa, 'protocol'>[],
): Encapsulation {
  const aroundEsp = protocol === 'ah' && sas.some((sa) => sa.protocol === 'esp');
  return { mode: aroundEsp ? 'transport' : terms.mode, udp: terms.encapsulated && protocol !== 'ah' };
}

/** Whether a peer may say it so: IPComp makes the tunnel where it is, so that those around it may say transport too. UDP is ESP's. */
export function fitsEncapsulation(
  wanted: Encapsulation,
  theirs: Encapsulation,
  protocol: SaProtocol,
  protocols: readonly SaProtocol[],
): boolean {
  const around = protocol !== 'ipcomp' && protocols.includes('ipcomp');
  if (theirs.mode !== wanted.mode && !(around && theirs.mode === 'transport')) return false;
  return protocol === 'ipcomp' || theirs.udp === wanted.udp;
}
