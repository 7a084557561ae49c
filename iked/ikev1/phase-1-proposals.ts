/** The SA payload of Main Mode: what we offer for an ISAKMP SA, what we choose of an offer, RFC 2409 §4, §5 and appendix A. */

import { NONE } from '../../src/bytes/bytes.ts';
import {
  ENCR,
  type EncrRow,
  encrByIsakmp,
  encrKeyBytes,
  encrText,
  KE,
  type KeName,
  type KeRow,
  keByGroupV1,
  keText,
  PRF,
  type PrfRow,
  prfByHashV1,
} from '../../src/crypto/transforms.ts';
import { PeerError } from '../../src/errors.ts';
import { attributeSet, basic, type Life, type LifeTypes, lifeAttributes } from '../../src/isakmp/attributes.ts';
import { AUTH_METHOD, DOI, KEY_IKE, OAKLEY_ATTRIBUTE, PROTOCOL, SIT_IDENTITY_ONLY } from '../../src/isakmp/doi.ts';
import { DEFAULT_SECONDS, type ProposalCheck } from '../../src/isakmp/lifetimes.ts';
import type { PayloadOf } from '../../src/isakmp/payloads.ts';
import type { SecurityAssociation, Transform } from '../../src/isakmp/sa-payload.ts';
import type { HashName, IsakmpSuite } from './keys.ts';

/** What one side wants of an ISAKMP SA. Lists are best first. */
export interface Phase1Terms {
  readonly encr: readonly { readonly name: keyof typeof ENCR; readonly keyBits: number }[];
  readonly hash: readonly string[];
  readonly groups: readonly KeName[];
  /** 0: no limit. */
  readonly seconds: number;
  readonly check: ProposalCheck;
}

export interface Phase1Choice {
  readonly suite: IsakmpSuite;
  /** When the ISAKMP SA ends; 0: never. */
  readonly seconds: number;
  /** The SA payload that answers: the one transform as it was offered. */
  readonly answer: PayloadOf<'SA'>;
}

const LIFE: LifeTypes = { type: OAKLEY_ATTRIBUTE['Life Type'], duration: OAKLEY_ATTRIBUTE['Life Duration'] };
const MOST_TRANSFORMS = 255;
const MOST_TOLD = 6;

/** The offer: one proposal with every combination as a transform (§5: several proposals are forbidden). */
export function buildPhase1Offer(terms: Phase1Terms): PayloadOf<'SA'> {
  const transforms = suitesOf(terms)
    .slice(0, MOST_TRANSFORMS)
    .map((suite, i): Transform => ({ number: i + 1, id: KEY_IKE, attributes: attributesOf(suite, terms.seconds) }));
  return saPayload(1, NONE, transforms);
}

/** The suites of all combinations that IKEv1 has numbers for, best first. */
export function suitesOf({ encr, hash, groups }: Phase1Terms): IsakmpSuite[] {
  const hashes = hash.filter((name): name is HashName => (PRF as Readonly<Record<string, PrfRow>>)[name]?.hashV1 !== undefined);
  return groups
    .filter((group) => groupNumber(group) !== undefined)
    .flatMap((group) =>
      encr
        .filter(({ name }) => (ENCR[name] as EncrRow).isakmp !== undefined)
        .flatMap(({ name, keyBits }) =>
          hashes.map((one): IsakmpSuite => ({ encr: name, keyBits: ENCR[name].keyLength ? keyBits : 0, hash: one, group })),
        ),
    );
}

/** The responder's choice: the first of the peer's transforms that our terms allow. Throws PeerError with an explanation. */
export function choosePhase1(terms: Phase1Terms, offer: SecurityAssociation): Phase1Choice {
  const { number, spi, transforms } = onlyProposal(offer);
  const refused: string[] = [];
  const ours = suiteTexts(terms);
  for (const transform of transforms) {
    const accepted = accept(terms, ours, transform);
    if (typeof accepted !== 'string') return { ...accepted, answer: saPayload(number, spi, [transform]) };
    if (refused.length < MOST_TOLD) refused.push(accepted);
  }
  throw noProposal('the peer offered', refused, transforms.length, terms);
}

/** What the initiator makes of the answer, which must be one transform of the offer. Throws PeerError where it is anything else. */
export function concludePhase1(terms: Phase1Terms, answer: SecurityAssociation): Phase1Choice {
  const { transforms } = onlyProposal(answer);
  const [transform, ...more] = transforms;
  if (transform === undefined || more.length > 0) {
    throw new PeerError('BAD-PROPOSAL-SYNTAX', `the answer holds ${transforms.length} transforms, where one was to be chosen`);
  }
  const accepted = accept(terms, suiteTexts(terms), transform);
  if (typeof accepted === 'string') throw noProposal('the peer answered', [accepted], 1, terms);
  return { ...accepted, answer: saPayload(1, NONE, [transform]) };
}

/** `AES_CBC_256/HMAC_SHA2_256/MODP2048`. */
export function suiteText({ encr, keyBits, hash, group }: IsakmpSuite): string {
  return `${encrText(encr, keyBits)}/${hash.toUpperCase()}/${keText(group)}`;
}

/** A phase 1 transform for people, whatever it holds: `aes_cbc-256/hmac_sha2_256/pre-shared key/modp2048`. */
export function transformText(transform: Transform): string {
  const read = readTransform(transform);
  return typeof read === 'string'
    ? read
    : `${suiteText(read.suite)}${read.method === AUTH_METHOD['pre-shared key'] ? '' : `/method ${read.method}`}`;
}

function saPayload(number: number, spi: Uint8Array, transforms: readonly Transform[]): PayloadOf<'SA'> {
  const proposals = [{ number, protocol: PROTOCOL.ISAKMP, spi, transforms }];
  return { type: 'SA', doi: DOI.IPSEC, situation: SIT_IDENTITY_ONLY, proposals, unread: NONE };
}

function onlyProposal({ doi, situation, proposals }: SecurityAssociation) {
  if (doi !== DOI.IPSEC)
    throw new PeerError('DOI-NOT-SUPPORTED', `the SA payload is of DOI ${doi}, expected ${DOI.IPSEC} (IPsec)`);
  if (situation !== SIT_IDENTITY_ONLY) {
    throw new PeerError('SITUATION-NOT-SUPPORTED', `situation ${situation}, expected ${SIT_IDENTITY_ONLY} (SIT_IDENTITY_ONLY)`);
  }
  const [proposal, ...more] = proposals;
  if (proposal === undefined || more.length > 0) {
    throw new PeerError('BAD-PROPOSAL-SYNTAX', `${proposals.length} proposals, but phase 1 has exactly one (RFC 2409 §5)`);
  }
  if (proposal.protocol !== PROTOCOL.ISAKMP) {
    throw new PeerError(
      'INVALID-PROTOCOL-ID',
      `the proposal is for protocol ${proposal.protocol}, expected ${PROTOCOL.ISAKMP} (ISAKMP)`,
    );
  }
  return proposal;
}

function attributesOf({ encr, keyBits, hash, group }: IsakmpSuite, seconds: number) {
  const row: EncrRow = ENCR[encr];
  return [
    basic(OAKLEY_ATTRIBUTE['Encryption Algorithm'], row.isakmp!),
    ...(row.keyLength ? [basic(OAKLEY_ATTRIBUTE['Key Length'], keyBits)] : []),
    basic(OAKLEY_ATTRIBUTE['Hash Algorithm'], PRF[hash].hashV1),
    basic(OAKLEY_ATTRIBUTE['Group Description'], groupNumber(group)!),
    basic(OAKLEY_ATTRIBUTE['Authentication Method'], AUTH_METHOD['pre-shared key']),
    ...(seconds === 0 ? [] : lifeAttributes(LIFE, { seconds: Math.max(1, Math.floor(seconds)) })),
  ];
}

interface ReadTransform {
  readonly suite: IsakmpSuite;
  readonly method: number;
  readonly life: Life;
}

const UNDERSTOOD: readonly number[] = [
  OAKLEY_ATTRIBUTE['Encryption Algorithm'],
  OAKLEY_ATTRIBUTE['Hash Algorithm'],
  OAKLEY_ATTRIBUTE['Authentication Method'],
  OAKLEY_ATTRIBUTE['Group Description'],
  OAKLEY_ATTRIBUTE['Key Length'],
];

/** What a transform means, or in a few words why it cannot be used here. */
function readTransform({ id, attributes }: Transform): ReadTransform | string {
  if (id !== KEY_IKE) return `transform ${id} is not KEY_IKE`;
  const set = attributeSet(attributes, LIFE);
  if (typeof set === 'string') return set;
  const { numbers, life } = set;
  const other = [...numbers.keys()].find((type) => !UNDERSTOOD.includes(type));
  if (other !== undefined) return `attribute ${other} is not supported`;
  const value = (type: keyof typeof OAKLEY_ATTRIBUTE) => numbers.get(OAKLEY_ATTRIBUTE[type]) ?? 0;
  const encr = encrByIsakmp(value('Encryption Algorithm'));
  if (encr === undefined) return `encryption algorithm ${value('Encryption Algorithm')} is unknown`;
  const keyBits = numbers.get(OAKLEY_ATTRIBUTE['Key Length']);
  const row: EncrRow = ENCR[encr];
  if (!row.keyLength && keyBits !== undefined) return `${encr} takes no key length`;
  if (encrKeyBytes(encr, keyBits ?? 0) === undefined) return `${encr} with ${keyBits ?? 'no'} bits of key`;
  const hash = prfByHashV1(value('Hash Algorithm'));
  if (hash === undefined) return `hash algorithm ${value('Hash Algorithm')} is unknown`;
  const group = keByGroupV1(value('Group Description'));
  if (group === undefined) return `group ${value('Group Description')} is unknown`;
  return { suite: { encr, keyBits: keyBits ?? 0, hash: hash as HashName, group }, method: value('Authentication Method'), life };
}

/** Made once for an offer, which may hold 255 transforms and comes from anybody. */
function suiteTexts(terms: Phase1Terms): ReadonlySet<string> {
  return new Set(suitesOf(terms).map(suiteText));
}

function accept(terms: Phase1Terms, suites: ReadonlySet<string>, transform: Transform): Omit<Phase1Choice, 'answer'> | string {
  const read = readTransform(transform);
  if (typeof read === 'string') return read;
  const { suite, method, life } = read;
  if (method !== AUTH_METHOD['pre-shared key'])
    return `${suiteText(suite)}: authentication method ${method} is not the pre-shared key's`;
  if (!suites.has(suiteText(suite))) return suiteText(suite);
  const theirs = life.seconds ?? DEFAULT_SECONDS;
  const ours = Math.floor(terms.seconds);
  const told = `${suiteText(suite)}: a lifetime of ${theirs} s, ours is ${ours === 0 ? 'not limited' : `${ours} s`} (proposal_check ${terms.check})`;
  if (terms.check === 'exact' && theirs !== (ours || DEFAULT_SECONDS)) return told;
  if (terms.check === 'strict' && ours !== 0 && theirs > ours) return told;
  return { suite, seconds: terms.check === 'obey' || ours === 0 ? theirs : Math.min(ours, theirs) };
}

function groupNumber(group: KeName): number | undefined {
  return (KE[group] as KeRow).groupV1;
}

function noProposal(what: string, refused: readonly string[], count: number, terms: Phase1Terms): PeerError {
  const ours = suitesOf(terms).map(suiteText);
  const cut = (texts: readonly string[], of: number) =>
    `${texts.slice(0, MOST_TOLD).join(', ') || 'nothing'}${of > MOST_TOLD ? ', …' : ''}`;
  return new PeerError('NO-PROPOSAL-CHOSEN', `${what} ${cut(refused, count)}; we accept ${cut(ours, ours.length)}`);
}
