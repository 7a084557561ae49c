/** Quick Mode's negotiation, once for IKEv1 (RFC 2409 §5.5) and KINK (RFC 4430 §4.2.6): offer, choice, answer, and what the offerer makes of it. */

import { readU32be, u32be } from '../bytes/bytes.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import { ENCR, type EncrName, type IntegName, type KeName, keText } from '../crypto/transforms.ts';
import { Fault, PeerError, WireError } from '../errors.ts';
import type { Lifetime } from '../ipsec/lifetime.ts';
import type { Mode } from '../ipsec/sa.ts';
import { decode, encode } from '../wire/codec.ts';
import { type Attribute, Attributes, attributeSet, type Life, lifeAttributes } from './attributes.ts';
import { DOI, NOTIFY, protocolName, SIT_IDENTITY_ONLY } from './doi.ts';
import {
  encapsulationText,
  groupNumber,
  hasNumbers,
  IPSEC_LIFE,
  IPSEC_PROTOCOL,
  type IpsecTransform,
  readTransform,
  transformText,
  writeTransform,
} from './ipsec-transforms.ts';
import type { Payload, PayloadOf } from './payloads.ts';
import type { Proposal, SecurityAssociation } from './sa-payload.ts';

/** How far a peer's lifetimes and PFS group may differ from ours. Algorithms, key lengths and the encapsulation mode never may. */
export type ProposalCheck = 'obey' | 'strict' | 'claim' | 'exact';

/** One way in which a policy protects traffic. */
export interface Alternative {
  readonly protocol: 'esp' | 'ah';
  /** Best first; AH uses none. */
  readonly encr: readonly { readonly name: EncrName; readonly keyBits: number }[];
  /** Best first; not used with a combined-mode cipher. */
  readonly auth: readonly (IntegName | 'none')[];
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

/** What both sides come to. */
export interface Choice<A extends Alternative = Alternative> {
  readonly protocol: 'esp' | 'ah';
  readonly suite: EspSuite;
  readonly mode: Mode;
  readonly encapsulated: boolean;
  /** The group of the KE payloads, which there are if and only if it is defined. */
  readonly group: KeName | undefined;
  readonly lifetime: Lifetime;
  /** Whether `lifetime` is shorter than the peer's, who should be told (RFC 2407 §4.5.4). */
  readonly shortened: boolean;
  /** Of our terms, the alternative it is one of. */
  readonly alternative: A;
  /** The peer's: that of the SA it receives on. */
  readonly spi: number;
  /** The proposal with the one transform, as the peer wrote it. */
  readonly proposal: Proposal;
}

/** What a lifetime that nobody names is, RFC 2407 §4.5. */
export const DEFAULT_SECONDS = 28_800;
/** SPIs below are reserved, RFC 4303 §2.1. */
const LOWEST_SPI = 256;
/** As many offers are told of in an explanation. */
const MOST_TOLD = 6;
/** A proposal counts its transforms in one octet. */
const MOST_TRANSFORMS = 255;

/**
 * The SA payload of an offer: one proposal for each alternative, with a transform for every combination in it, best first (RFC 2408 §4.2).
 * `spi` is ours, the same in all. Throws Fault where IKEv1 has no number for anything in `terms`.
 */
export function buildOffer(terms: Terms, spi: number): PayloadOf<'SA'> {
  const proposals = terms.alternatives
    .map((alternative) => ({ protocol: alternative.protocol, transforms: combinations(terms, alternative) }))
    .filter(({ transforms }) => transforms.length > 0)
    .map(
      ({ protocol, transforms }, i): Proposal => ({
        number: i + 1,
        protocol: IPSEC_PROTOCOL[protocol],
        spi: u32be(spi),
        transforms: transforms.slice(0, MOST_TRANSFORMS).map((transform, n) => writeTransform(n + 1, transform)),
      }),
    );
  if (proposals.length === 0) throw new Fault('an offer without an algorithm that IKEv1 has a number for');
  return saPayload(proposals);
}

/** Whether anything in `terms` can be offered at all: IKEv1 has no number for ChaCha20, X25519, AES-CMAC. */
export function canOffer(terms: Terms): boolean {
  if (terms.group !== undefined && groupNumber(terms.group) === undefined) return false;
  return terms.alternatives.some((alternative) => combinations(terms, alternative).length > 0);
}

/**
 * The responder's choice: the first of the peer's transforms (which stand in its order of preference, RFC 2408 §4.2) that our terms
 * allow. Throws PeerError with an explanation that names what was offered, and why it will not do.
 */
export function chooseOffer<A extends Alternative>(terms: Terms<A>, offer: SecurityAssociation): Choice<A> {
  checkDomain(offer);
  const refused: string[] = [];
  const refuse = (why: string) => refused.length <= MOST_TOLD && refused.push(why);
  const numbers = new Map<number, number>();
  for (const { number } of offer.proposals) numbers.set(number, (numbers.get(number) ?? 0) + 1);
  for (const proposal of offer.proposals) {
    const bundle = numbers.get(proposal.number)! > 1 ? 'several protocols that belong together are not supported' : undefined;
    const unusable = bundle ?? unusableSpi(proposal);
    if (unusable !== undefined) {
      refuse(`${protocolName(proposal.protocol)}: ${unusable}`);
      continue;
    }
    for (const transform of proposal.transforms) {
      const choice = accept(terms, { ...proposal, transforms: [transform] }, 'responder');
      if (typeof choice !== 'string') return choice;
      refuse(choice);
    }
  }
  throw noProposal('the peer offered', refused, terms);
}

/** The SA payload that answers a choice: what was chosen as the peer wrote it (RFC 2409 §5: nothing may be modified), with our SPI. */
export function answerOffer(choice: Choice, spi: number): PayloadOf<'SA'> {
  return saPayload([{ ...choice.proposal, spi: u32be(spi) }]);
}

/**
 * What the offerer makes of the answer, which must be one transform of the offer; its lifetimes may differ as `terms.check` allows. Throws
 * PeerError where it is anything else.
 */
export function concludeOffer<A extends Alternative>(terms: Terms<A>, answer: SecurityAssociation): Choice<A> {
  checkDomain(answer);
  const [proposal, ...more] = answer.proposals;
  if (proposal === undefined || more.length > 0 || proposal.transforms.length !== 1) {
    const transforms = answer.proposals.reduce((sum, { transforms }) => sum + transforms.length, 0);
    throw new PeerError(
      'BAD-PROPOSAL-SYNTAX',
      `the answer holds ${answer.proposals.length} proposals with ${transforms} transforms, where one of each was to be chosen (RFC 2409 §5)`,
    );
  }
  const unusable = unusableSpi(proposal);
  const choice = unusable ?? accept(terms, proposal, 'initiator');
  if (typeof choice === 'string') throw noProposal('the peer answered', [choice], terms);
  return choice;
}

/** The notify that tells the peer of a shorter lifetime than it offered, RFC 2407 §4.6.3.1; `spi` is ours. */
export function responderLifetime({ protocol, lifetime }: Choice, spi: number): PayloadOf<'Notify'> {
  return {
    type: 'Notify',
    doi: DOI.IPSEC,
    protocol: IPSEC_PROTOCOL[protocol],
    spi: u32be(spi),
    notify: NOTIFY['RESPONDER-LIFETIME'],
    data: encode(Attributes, lifeAttributes(IPSEC_LIFE, lifeOf(lifetime))),
  };
}

/** A choice with the lifetimes of the peer's RESPONDER-LIFETIME notifies, where they are shorter. What cannot be read changes nothing. */
export function withResponderLifetime<A extends Alternative>(choice: Choice<A>, payloads: readonly Payload[]): Choice<A> {
  let { lifetime } = choice;
  for (const payload of payloads) {
    if (payload.type !== 'Notify' || payload.notify !== NOTIFY['RESPONDER-LIFETIME']) continue;
    const life = readLife(payload.data);
    lifetime = {
      ...lifetime,
      seconds: shorter(lifetime.seconds, life.seconds ?? 0),
      bytes: shorter(lifetime.bytes, (life.kilobytes ?? 0) * 1024),
    };
  }
  return { ...choice, lifetime };
}

function readLife(data: Uint8Array): Life {
  let attributes: readonly Attribute[];
  try {
    attributes = decode(Attributes, data, 'RESPONDER-LIFETIME');
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return {}; // advice that cannot be read is none
  }
  const set = attributeSet(attributes, IPSEC_LIFE);
  return typeof set === 'string' ? {} : set.life;
}

function saPayload(proposals: readonly Proposal[]): PayloadOf<'SA'> {
  return { type: 'SA', doi: DOI.IPSEC, situation: SIT_IDENTITY_ONLY, proposals, unread: new Uint8Array(0) };
}

/** Every transform of an alternative that IKEv1 can say, best first. */
function combinations(terms: Terms, { protocol, encr, auth, lifetime }: Alternative): IpsecTransform[] {
  const common = {
    protocol,
    encapsulation: { mode: terms.mode, udp: terms.encapsulated },
    group: terms.group,
    life: lifeOf(lifetime),
  };
  const ciphers = protocol === 'ah' ? [{ name: 'null_enc' as const, keyBits: 0 }] : encr;
  const suites = ciphers.flatMap(({ name, keyBits }): EspSuite[] => {
    const bits = ENCR[name].keyLength ? keyBits : 0;
    if (ENCR[name].icv > 0) return [{ encr: name, keyBits: bits, integ: 'none' }];
    return auth.map((integ) => ({ encr: name, keyBits: bits, integ }));
  });
  return suites
    .filter((suite) => hasNumbers(protocol, suite) && !(suite.encr === 'null_enc' && suite.integ === 'none'))
    .map((suite) => ({ ...common, suite }));
}

function lifeOf({ seconds, bytes }: Lifetime): Life {
  return {
    ...(seconds > 0 ? { seconds: Math.max(1, Math.floor(seconds)) } : {}),
    ...(bytes > 0 ? { kilobytes: Math.max(1, Math.floor(bytes / 1024)) } : {}),
  };
}

/** RFC 2407 §4.2, §4.6.1. */
function checkDomain({ doi, situation }: SecurityAssociation): void {
  if (doi !== DOI.IPSEC)
    throw new PeerError('DOI-NOT-SUPPORTED', `the SA payload is of DOI ${doi}, expected ${DOI.IPSEC} (IPsec)`);
  if (situation !== SIT_IDENTITY_ONLY) {
    throw new PeerError('SITUATION-NOT-SUPPORTED', `situation ${situation}, expected ${SIT_IDENTITY_ONLY} (SIT_IDENTITY_ONLY)`);
  }
}

function unusableSpi({ spi }: Proposal): string | undefined {
  if (spi.length !== 4) return `an SPI of ${spi.length} octets, expected 4`;
  return readU32be(spi) < LOWEST_SPI ? `SPI ${readU32be(spi)} is reserved (RFC 4303 §2.1)` : undefined;
}

/** What the one transform of `proposal` comes to under our terms, or why it will not do. `side` is ours. */
function accept<A extends Alternative>(terms: Terms<A>, proposal: Proposal, side: 'initiator' | 'responder'): Choice<A> | string {
  const theirs = readTransform(proposal.protocol, proposal.transforms[0]!);
  if (typeof theirs === 'string') return theirs;
  const text = transformText(theirs);
  const wanted = { mode: terms.mode, udp: terms.encapsulated };
  const { mode, udp } = theirs.encapsulation ?? wanted;
  if (mode !== wanted.mode || udp !== wanted.udp) return `${text}: ${encapsulationText(wanted)} is wanted`;
  const group = groupProblem(terms, theirs.group, side);
  if (group !== undefined) return `${text}: ${group}`;
  let problem: string | undefined;
  for (const alternative of terms.alternatives) {
    if (!combinations(terms, alternative).some((ours) => sameAlgorithms(ours, theirs))) continue;
    const lifetime = agreedLifetime(terms.check, alternative.lifetime, theirs.life);
    if (typeof lifetime === 'string') problem ??= lifetime;
    else {
      const { shortened, ...limits } = lifetime;
      return {
        protocol: theirs.protocol,
        suite: theirs.suite,
        mode,
        encapsulated: udp,
        group: theirs.group,
        lifetime: { ...limits, packets: alternative.lifetime.packets },
        shortened,
        alternative,
        spi: readU32be(proposal.spi),
        proposal,
      };
    }
  }
  return problem === undefined ? text : `${text}: ${problem}`;
}

function sameAlgorithms(a: IpsecTransform, b: IpsecTransform): boolean {
  return (
    a.protocol === b.protocol &&
    a.suite.encr === b.suite.encr &&
    a.suite.keyBits === b.suite.keyBits &&
    a.suite.integ === b.suite.integ
  );
}

/** The PFS group: an answer must have the one offered; an offer is judged as `proposal_check` says. */
function groupProblem({ group, check }: Terms, theirs: KeName | undefined, side: 'initiator' | 'responder'): string | undefined {
  if (group === theirs || (side === 'responder' && (check === 'obey' || (group === undefined && check !== 'exact'))))
    return undefined;
  return group === undefined ? 'no PFS is wanted' : `PFS with ${keText(group)} is wanted`;
}

/** The lifetimes that hold, 0 being no limit; or which of them the check refuses. */
function agreedLifetime(
  check: ProposalCheck,
  ours: Lifetime,
  { seconds: theirSeconds = DEFAULT_SECONDS, kilobytes: theirKilobytes = 0 }: Life,
): { seconds: number; bytes: number; shortened: boolean } | string {
  const life = lifeOf(ours);
  const own = { seconds: life.seconds ?? 0, kilobytes: life.kilobytes ?? 0 };
  const told = `a lifetime of ${theirSeconds} s${theirKilobytes === 0 ? '' : ` and ${theirKilobytes} KiB`}, ours is ${own.seconds || 'not limited'}${own.seconds ? ' s' : ''}${own.kilobytes === 0 ? '' : ` and ${own.kilobytes} KiB`} (proposal_check ${check})`;
  switch (check) {
    case 'obey':
      return { seconds: theirSeconds, bytes: theirKilobytes * 1024, shortened: false };
    case 'exact':
      if (theirSeconds !== (own.seconds || DEFAULT_SECONDS) || theirKilobytes !== own.kilobytes) return told;
      return { seconds: theirSeconds, bytes: theirKilobytes * 1024, shortened: false };
    case 'strict':
      if ((own.seconds !== 0 && theirSeconds > own.seconds) || (own.kilobytes !== 0 && theirKilobytes > own.kilobytes))
        return told;
  }
  const seconds = shorter(own.seconds, theirSeconds);
  const kilobytes = shorter(own.kilobytes, theirKilobytes);
  const shortened = seconds < theirSeconds || (theirKilobytes !== 0 && kilobytes < theirKilobytes);
  return { seconds, bytes: kilobytes * 1024, shortened };
}

/** The smaller of two limits, 0 being none. */
function shorter(a: number, b: number): number {
  return a === 0 || b === 0 ? Math.max(a, b) : Math.min(a, b);
}

function noProposal(what: string, refused: readonly string[], terms: Terms): PeerError {
  const some = refused.slice(0, MOST_TOLD).join('; ');
  const more = refused.length > MOST_TOLD ? '; and more' : '';
  const ours = terms.alternatives.flatMap((alternative) => combinations(terms, alternative).map(transformText));
  const accepted = ours.slice(0, MOST_TOLD).join(', ') + (ours.length > MOST_TOLD ? ', …' : '');
  return new PeerError('NO-PROPOSAL-CHOSEN', `${what} ${some || 'nothing'}${more}; we accept ${accepted || 'nothing'}`);
}
