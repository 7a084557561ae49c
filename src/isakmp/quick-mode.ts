/** Quick Mode's negotiation, once for IKEv1 (RFC 2409 §5.5) and KINK (RFC 4430 §4.2.6): offer, choice, answer, and what the offerer makes of it. */

import { equal } from '../bytes/bytes.ts';
import { Fault, PeerError, WireError } from '../errors.ts';
import { BUNDLE, type SaProtocol, type Spis } from '../ipsec/sa.ts';
import { decode, encode } from '../wire/codec.ts';
import { type Attribute, Attributes, attributeSet, type Life, lifeAttributes } from './attributes.ts';
import { DOI, NOTIFY, SIT_IDENTITY_ONLY } from './doi.ts';
import {
  groupNumber,
  IPSEC_LIFE,
  IPSEC_PROTOCOL,
  ipsecProtocol,
  spiOctets,
  transformText,
  writeTransform,
} from './ipsec-transforms.ts';
import { lifeOf, shorter } from './lifetimes.ts';
import type { Payload, PayloadOf } from './payloads.ts';
import { choose } from './protection-suite.ts';
import { type Proposal, SecurityAssociation } from './sa-payload.ts';
import { type Alternative, type Choice, combinations, leadOf, type Terms } from './terms.ts';

/** As many offers are told of in an explanation. */
const MOST_TOLD = 6;

/** A proposal counts its transforms in one octet. */
const MOST_TRANSFORMS = 255;

/**
 * The SA payload of an offer: a number for each alternative, under it a proposal for each of its SAs, outermost first, with a transform for every
 * combination, best first (RFC 2408 §4.2). `spis` are ours, the same in all. Throws Fault where IKEv1 has no number for anything in `terms`.
 */
export function buildOffer(terms: Terms, spis: Spis): PayloadOf<'SA'> {
  const sayable = terms.alternatives.filter((alternative) => canSay(terms, alternative));
  const proposals = sayable.flatMap((alternative, i) =>
    [...BUNDLE].reverse().flatMap((protocol): Proposal[] => {
      const transforms = combinations(terms, alternative, protocol).slice(0, MOST_TRANSFORMS);
      if (transforms.length === 0) return [];
      return [
        {
          number: i + 1,
          protocol: IPSEC_PROTOCOL[protocol],
          spi: ownSpi(spis, protocol),
          transforms: transforms.map((transform, n) => writeTransform(n + 1, transform)),
        },
      ];
    }),
  );
  if (proposals.length === 0) throw new Fault('an offer without an algorithm that IKEv1 has a number for');
  return saPayload(proposals);
}

function ownSpi(spis: Spis, protocol: SaProtocol): Uint8Array {
  const spi = spis.get(protocol);
  if (spi === undefined) throw new Fault(`no SPI of ours for ${protocol}`);
  return spiOctets(protocol, spi);
}

/** Whether anything in `terms` can be offered at all: IKEv1 has no number for ChaCha20, X25519, AES-CMAC. */
export function canOffer(terms: Terms): boolean {
  if (terms.group !== undefined && groupNumber(terms.group) === undefined) return false;
  return terms.alternatives.some((alternative) => canSay(terms, alternative));
}

function canSay(terms: Terms, alternative: Alternative): boolean {
  return alternative.sas.every(({ protocol }) => combinations(terms, alternative, protocol).length > 0);
}

/**
 * The responder's choice: the first of the peer's protection suites, with the first of the transforms of each of its protocols (they stand in its order
 * of preference, RFC 2408 §4.2), that our terms allow; all that a number holds or nothing. Throws PeerError with an explanation that names what was
 * offered, and why it will not do.
 */
export function chooseOffer<A extends Alternative>(terms: Terms<A>, offer: SecurityAssociation): Choice<A> {
  checkDomain(offer);
  const refused: string[] = [];
  const refuse = (why: string) => refused.length <= MOST_TOLD && refused.push(why);
  for (const proposals of suitesOf(offer)) {
    const choice = choose(terms, proposals, 'responder', refuse);
    if (choice !== undefined) return choice;
  }
  throw noProposal('the peer offered', refused, terms);
}

/** The SA payload that answers a choice: what was chosen as the peer wrote it (RFC 2409 §5: nothing may be modified), with our SPIs. */
export function answerOffer({ proposals }: Choice, spis: Spis): PayloadOf<'SA'> {
  return saPayload(proposals.map((proposal) => ({ ...proposal, spi: ownSpi(spis, ipsecProtocol(proposal.protocol)!) })));
}

/**
 * What the offerer makes of the answer, which must be one number of the offer with one transform of each of its proposals; its lifetimes may differ as
 * `terms.check` allows. charon says a bundle with IPComp, and then the same SA once more without: that repeats what was chosen. Throws PeerError where
 * it is anything else.
 */
export function concludeOffer<A extends Alternative>(terms: Terms<A>, answer: SecurityAssociation): Choice<A> {
  checkDomain(answer);
  const { proposals } = answer;
  const [suite, ...more] = suitesOf(answer);
  const repeats = more.every((other) => other.every((proposal) => suite?.some((one) => sameProposal(one, proposal))));
  if (suite === undefined || !repeats || suite.some(({ transforms }) => transforms.length !== 1)) {
    const transforms = proposals.reduce((sum, { transforms }) => sum + transforms.length, 0);
    throw new PeerError(
      'BAD-PROPOSAL-SYNTAX',
      `the answer holds ${proposals.length} proposals with ${transforms} transforms, where one number with one transform each was to be chosen (RFC 2409 §5)`,
    );
  }
  const refused: string[] = [];
  const choice = choose(terms, suite, 'initiator', (why) => refused.push(why));
  if (choice === undefined) throw noProposal('the peer answered', refused, terms);
  return choice;
}

/** Whether two proposals of one transform each are about the same SA. */
function sameProposal(a: Proposal, b: Proposal): boolean {
  const [one, other] = [
    encode(SecurityAssociation, saPayload([a])),
    encode(SecurityAssociation, saPayload([{ ...b, number: a.number }])),
  ];
  return a.transforms.length === 1 && equal(one, other);
}

/** The first transform of each proposal of the first number: what a peer that takes an offer as it is chooses (RFC 4430 §3.2). */
export function firstOf(offer: SecurityAssociation): SecurityAssociation {
  const [suite = []] = suitesOf(offer);
  return { ...offer, proposals: suite.map((proposal) => ({ ...proposal, transforms: proposal.transforms.slice(0, 1) })) };
}

/** Whether a choice is what `firstOf` gives. */
export function isFirst({ proposals }: Choice, offer: SecurityAssociation): boolean {
  const first = firstOf(offer).proposals;
  return first.length === proposals.length && proposals.every(({ transforms }, i) => first[i]?.transforms[0] === transforms[0]);
}

/** RFC 2408 §4.2: proposals of one number belong together, those of different numbers are to choose from. */
function suitesOf({ proposals }: SecurityAssociation): readonly (readonly Proposal[])[] {
  const suites = new Map<number, Proposal[]>();
  for (const proposal of proposals) {
    const known = suites.get(proposal.number);
    if (known === undefined) suites.set(proposal.number, [proposal]);
    else known.push(proposal);
  }
  return [...suites.values()];
}

/** The notify that tells the peer of a shorter lifetime than it offered, RFC 2407 §4.6.3.1; `spis` are ours. It is that of all SAs of a bundle. */
export function responderLifetime(choice: Choice, spis: Spis): PayloadOf<'Notify'> {
  const { lifetime } = choice;
  const { protocol } = leadOf(choice);
  return {
    type: 'Notify',
    doi: DOI.IPSEC,
    protocol: IPSEC_PROTOCOL[protocol],
    spi: ownSpi(spis, protocol),
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

/** RFC 2407 §4.2, §4.6.1. */
function checkDomain({ doi, situation }: SecurityAssociation): void {
  if (doi !== DOI.IPSEC)
    throw new PeerError('DOI-NOT-SUPPORTED', `the SA payload is of DOI ${doi}, expected ${DOI.IPSEC} (IPsec)`);
  if (situation !== SIT_IDENTITY_ONLY) {
    throw new PeerError('SITUATION-NOT-SUPPORTED', `situation ${situation}, expected ${SIT_IDENTITY_ONLY} (SIT_IDENTITY_ONLY)`);
  }
}

function noProposal(what: string, refused: readonly string[], terms: Terms): PeerError {
  const some = refused.slice(0, MOST_TOLD).join('; ');
  const more = refused.length > MOST_TOLD ? '; and more' : '';
  const ours = terms.alternatives.flatMap((alternative) => accepted(terms, alternative));
  const all = ours.slice(0, MOST_TOLD).join(', ') + (ours.length > MOST_TOLD ? ', …' : '');
  return new PeerError('NO-PROPOSAL-CHOSEN', `${what} ${some || 'nothing'}${more}; we accept ${all || 'nothing'}`);
}

/** Each transform of an alternative, and of a bundle each of one protocol together with those of the others. */
function accepted(terms: Terms, alternative: Alternative): string[] {
  const texts = alternative.sas.map(({ protocol }) => combinations(terms, alternative, protocol).map(transformText));
  if (texts.length === 1) return texts[0]!;
  return texts.every((some) => some.length > 0) ? [texts.map((some) => some.join(' | ')).join(' with ')] : [];
}
