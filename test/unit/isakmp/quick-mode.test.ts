import { describe, expect, test } from 'vitest';
import { hex, NONE, u32be } from '../../../src/bytes/bytes.ts';
import { PeerError } from '../../../src/errors.ts';
import type { Spis } from '../../../src/ipsec/sa.ts';
import type { Attribute } from '../../../src/isakmp/attributes.ts';
import { NOTIFY } from '../../../src/isakmp/doi.ts';
import { saKeys } from '../../../src/isakmp/keymat.ts';
import {
  answerOffer,
  buildOffer,
  canOffer,
  chooseOffer,
  concludeOffer,
  firstOf,
  isFirst,
  responderLifetime,
  withResponderLifetime,
} from '../../../src/isakmp/quick-mode.ts';
import {
  type Proposal,
  type SecurityAssociation,
  SecurityAssociation as SecurityAssociationCodec,
} from '../../../src/isakmp/sa-payload.ts';
import { type Alternative, type AlternativeSa, leadOf, type Terms } from '../../../src/isakmp/terms.ts';
import { encode } from '../../../src/wire/codec.ts';

const lifetime = { seconds: 3600, bytes: 0, packets: 0 };
const SA: AlternativeSa = {
  protocol: 'esp',
  encr: [
    { name: 'aes_cbc', keyBits: 256 },
    { name: 'aes_cbc', keyBits: 128 },
  ],
  auth: ['hmac_sha2_256', 'hmac_sha1'],
};
const ESP: Alternative = { sas: [SA], lifetime };

/** The alternative with other integrity algorithms. */
function espWith(...auth: AlternativeSa['auth']): Alternative {
  return { ...ESP, sas: [{ ...SA, auth }] };
}

/** One SPI, for whatever SA is the only one. */
function only(spi: number): Spis {
  return new Map([
    ['esp', spi],
    ['ah', spi],
  ]);
}

const TERMS: Terms = { alternatives: [ESP], mode: 'tunnel', encapsulated: false, group: undefined, check: 'strict' };

/** The terms with another lifetime in their one alternative. */
function living(seconds: number, bytes = 0, more: Partial<Terms> = {}): Terms {
  return { ...TERMS, alternatives: [{ ...ESP, lifetime: { seconds, bytes, packets: 0 } }], ...more };
}

function refusal(terms: Terms, offer: SecurityAssociation): PeerError {
  try {
    chooseOffer(terms, offer);
  } catch (error) {
    if (error instanceof PeerError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('an offer', () => {
  test('has one proposal for each alternative and a transform for each combination, best first', () => {
    const AH: Alternative = { sas: [{ protocol: 'ah', encr: [], auth: ['hmac_sha1'] }], lifetime };
    const { proposals } = buildOffer({ ...TERMS, alternatives: [ESP, AH] }, only(0xc0ffee01));
    expect(
      proposals.map(({ number, protocol, spi, transforms }) => [number, protocol, hex(spi), transforms.map(({ id }) => id)]),
    ).toEqual([
      [1, 3, 'c0ffee01', [12, 12, 12, 12]],
      [2, 2, 'c0ffee01', [3]],
    ]);
    // life type seconds, duration 3600, tunnel, HMAC-SHA2-256, 256 bits
    expect(proposals[0]!.transforms[0]!.attributes.map(({ type, value }) => [type, hex(value)])).toEqual([
      [1, '0001'],
      [2, '0e10'],
      [4, '0001'],
      [5, '0005'],
      [6, '0100'],
    ]);
  });

  test('of AES-GCM has a key length and no authentication algorithm (RFC 4106 §8)', () => {
    const gcm: Alternative = {
      sas: [{ protocol: 'esp', encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: ['hmac_sha1'] }],
      lifetime,
    };
    const [proposal] = buildOffer(
      { ...TERMS, alternatives: [gcm], encapsulated: true, group: 'modp2048' },
      only(0x1000),
    ).proposals;
    expect(
      proposal!.transforms.map(({ id, attributes }) => [id, attributes.map(({ type, value }) => [type, hex(value)])]),
    ).toEqual([
      [
        20,
        [
          [1, '0001'],
          [2, '0e10'],
          [3, '000e'],
          [4, '0003'],
          [6, '0080'],
        ],
      ],
    ]);
  });

  test('leaves away what IKEv1 has no number for, and cannot be made of nothing else', () => {
    const chacha: Alternative = {
      sas: [{ protocol: 'esp', encr: [{ name: 'chacha20_poly1305', keyBits: 256 }], auth: [] }],
      lifetime,
    };
    expect(buildOffer({ ...TERMS, alternatives: [chacha, ESP] }, only(0x1000)).proposals).toHaveLength(1);
    expect(canOffer({ ...TERMS, alternatives: [chacha] })).toBe(false);
    expect(canOffer({ ...TERMS, group: 'x25519' })).toBe(false);
    expect(canOffer(TERMS)).toBe(true);
  });
});

describe('a choice', () => {
  test('is the first of the peer that our terms allow, answered as the peer wrote it', () => {
    const offer = buildOffer({ ...TERMS, alternatives: [espWith('hmac_sha2_512', 'hmac_sha1')] }, only(0x2000));
    const choice = chooseOffer(TERMS, offer);
    expect([leadOf(choice).suite, leadOf(choice).spi, choice.mode]).toEqual([
      { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha1' },
      0x2000,
      'tunnel',
    ]);
    const answer = answerOffer(choice, only(0x3000));
    expect(answer.proposals).toEqual([
      { ...offer.proposals[0]!, spi: u32be(0x3000), transforms: [offer.proposals[0]!.transforms[1]!] },
    ]);
    const theirs = concludeOffer({ ...TERMS, alternatives: [espWith('hmac_sha2_512', 'hmac_sha1')] }, answer);
    expect([leadOf(theirs).suite, leadOf(theirs).spi]).toEqual([leadOf(choice).suite, 0x3000]);
  });

  test.each([
    [
      'algorithms',
      { alternatives: [espWith('hmac_sha2_384')] },
      /esp AES_CBC_256\/HMAC_SHA2_256_128 tunnel; .*we accept esp AES_CBC_256\/HMAC_SHA2_384_192/,
    ],
    ['the mode', { mode: 'transport' as const }, /tunnel: transport is wanted/],
    ['UDP encapsulation', { encapsulated: true }, /tunnel: UDP-encapsulated tunnel is wanted/],
    ['PFS', { group: 'modp2048' as const }, /PFS with MODP2048 is wanted/],
  ])('is refused with what differs: %s', (_what, mine, explanation) => {
    const error = refusal({ ...TERMS, ...mine }, buildOffer(TERMS, only(0x2000)));
    expect(error.notify).toBe('NO-PROPOSAL-CHOSEN');
    expect(error.message).toMatch(explanation);
  });

  test('never is of a proposal that stands for two protocols at once, nor of a reserved SPI', () => {
    const offer = buildOffer(TERMS, only(0x2000));
    const twice = { ...offer, proposals: [offer.proposals[0]!, { ...offer.proposals[0]!, protocol: 2 }] };
    expect(refusal(TERMS, twice).message).toContain('belong together');
    const low = { ...offer, proposals: [{ ...offer.proposals[0]!, spi: u32be(255) }] };
    expect(refusal(TERMS, low).message).toContain('SPI 255 is reserved');
  });

  test('is made of the IPsec DOI and SIT_IDENTITY_ONLY alone', () => {
    expect(refusal(TERMS, { ...buildOffer(TERMS, only(0x2000)), doi: 2 }).notify).toBe('DOI-NOT-SUPPORTED');
    expect(refusal(TERMS, { ...buildOffer(TERMS, only(0x2000)), situation: 2 }).notify).toBe('SITUATION-NOT-SUPPORTED');
  });

  test('skips a transform with an attribute that is not understood', () => {
    const offer = buildOffer(TERMS, only(0x2000));
    const [first, ...more] = offer.proposals[0]!.transforms;
    const odd = { ...first!, attributes: [...first!.attributes, { type: 10, basic: true, value: Uint8Array.of(0, 1) }] };
    const choice = chooseOffer(TERMS, { ...offer, proposals: [{ ...offer.proposals[0]!, transforms: [odd, ...more] }] });
    expect(choice.proposals[0]!.transforms[0]!.number).toBe(2);
  });
});

/** proposal_check: what the offer says, what we say, and what comes of it; undefined is a refusal. */
describe.each([
  ['obey', 3600, 7200, 7200, false],
  ['obey', 3600, 60, 60, false],
  ['strict', 3600, 7200, undefined, false],
  ['strict', 3600, 60, 60, false],
  ['strict', 0, 7200, 7200, false],
  ['claim', 3600, 7200, 3600, true],
  ['claim', 3600, 60, 60, false],
  ['exact', 3600, 7200, undefined, false],
  ['exact', 3600, 60, undefined, false],
  ['exact', 3600, 3600, 3600, false],
  // Nobody names a lifetime: RFC 2407 §4.5 has eight hours.
  ['exact', 0, 0, 28_800, false],
  ['claim', 3600, 0, 3600, true],
] as const)('proposal_check %s with %i s of ours and %i s of theirs', (check, ours, theirs, agreed, shortened) => {
  test(`comes to ${agreed ?? 'a refusal'}${shortened ? ', which the peer is told' : ''}`, () => {
    const offer = buildOffer(living(theirs), only(0x2000));
    const terms = living(ours, 0, { check });
    if (agreed === undefined) {
      expect(refusal(terms, offer).message).toMatch(/a lifetime of \d+ s, ours is 3600 s \(proposal_check (strict|exact)\)/);
      return;
    }
    const choice = chooseOffer(terms, offer);
    expect([choice.lifetime.seconds, choice.shortened]).toEqual([agreed, shortened]);
  });
});

test('a limit of octets is carried in kilobytes', () => {
  const choice = chooseOffer(living(3600, 0, { check: 'obey' }), buildOffer(living(3600, 100_000 * 1024), only(0x2000)));
  expect(choice.lifetime.bytes).toBe(100_000 * 1024);
});

describe.each([
  ['obey', undefined, 'modp3072', true],
  ['obey', 'modp2048', undefined, true],
  ['strict', undefined, 'modp3072', true],
  ['strict', 'modp2048', 'modp3072', false],
  ['claim', 'modp2048', 'modp2048', true],
  ['exact', undefined, 'modp3072', false],
  ['exact', undefined, undefined, true],
] as const)('proposal_check %s with PFS group %s of ours and %s of theirs', (check, ours, theirs, accepted) => {
  test(accepted ? 'is accepted' : 'is refused', () => {
    const offer = buildOffer({ ...TERMS, group: theirs }, only(0x2000));
    const terms = { ...TERMS, group: ours, check };
    if (accepted) expect(chooseOffer(terms, offer).group).toBe(theirs);
    else expect(refusal(terms, offer).message).toContain('is wanted');
  });
});

describe('a bundle (RFC 2408 §4.2)', () => {
  const ah: AlternativeSa = { protocol: 'ah', encr: [], auth: ['hmac_sha2_256', 'hmac_sha1'] };
  const ipcomp: AlternativeSa = { protocol: 'ipcomp', encr: [], auth: [] };
  const esp: AlternativeSa = { ...SA, encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha1'] };
  const bundle: Terms = { ...TERMS, alternatives: [{ sas: [esp, ah, ipcomp], lifetime }] };
  const compressed: Terms = { ...TERMS, alternatives: [{ sas: [esp, ipcomp], lifetime }] };
  const spis = (esp: number, ah: number, cpi: number): Spis =>
    new Map([
      ['esp', esp],
      ['ah', ah],
      ['ipcomp', cpi],
    ]);
  const ours = spis(0x1111_1111, 0x2222_2222, 0x3333);
  const offer = buildOffer(bundle, ours);
  const [ofAh, ofEsp, ofIpcomp] = offer.proposals as [Proposal, Proposal, Proposal];
  const withProposals = (...proposals: readonly Proposal[]): SecurityAssociation => ({ ...offer, proposals });
  const attribute = (type: number, value: number) => ({ type, basic: true, value: Uint8Array.of(value >> 8, value & 255) });
  const changed = (proposal: Proposal, change: (attributes: readonly Attribute[]) => readonly Attribute[]): Proposal => ({
    ...proposal,
    transforms: proposal.transforms.map((transform) => ({ ...transform, attributes: change(transform.attributes) })),
  });

  test('is one number with a proposal for each protocol, octet by octet', () => {
    const octets = [
      '00000001 00000001', // the IPsec DOI, SIT_IDENTITY_ONLY
      '02000028 01030401 11111111', // another proposal follows; 40 octets; number 1, ESP, SPI of 4, one transform
      '0000001c 010c0000 80010001 80020e10 80040001 80050002 80060080', // AES-CBC, 3600 s, tunnel, HMAC-SHA1, 128 bits
      '0000001e 01040201 3333', // the last; 30 octets; number 1, IPCOMP, CPI of 2, one transform
      '00000014 01020000 80010001 80020e10 80040001', // DEFLATE, 3600 s, tunnel
    ];
    expect(hex(encode(SecurityAssociationCodec, buildOffer(compressed, ours)))).toBe(octets.join('').replaceAll(' ', ''));
  });

  test('has AH around ESP in transport mode, IPComp and ESP in that of the policy', () => {
    const modes = offer.proposals.map(({ number, protocol, spi, transforms }) => [
      number,
      protocol,
      hex(spi),
      ...transforms.map(({ id, attributes }) => [id, attributes.find(({ type }) => type === 4)?.value[1]]),
    ]);
    expect(modes).toEqual([
      [1, 2, '22222222', [5, 2], [3, 2]],
      [1, 3, '11111111', [12, 1]],
      [1, 4, '3333', [2, 1]],
    ]);
  });

  test('is chosen whole, the first that fits of each protocol, and answered with an SPI for each', () => {
    const sha1 = { ...bundle, alternatives: [{ sas: [ipcomp, { ...ah, auth: ['hmac_sha1' as const] }, esp], lifetime }] };
    const choice = chooseOffer(sha1, offer);
    expect(choice.sas.map(({ protocol, suite, spi }) => [protocol, suite.integ, spi])).toEqual([
      ['ipcomp', 'none', 0x3333],
      ['esp', 'hmac_sha1', 0x1111_1111],
      ['ah', 'hmac_sha1', 0x2222_2222],
    ]);
    expect(leadOf(choice).protocol).toBe('esp');
    const answer = answerOffer(choice, spis(0x4444, 0x5555, 0x6666));
    expect(
      answer.proposals.map(({ number, spi, transforms }) => [number, hex(spi), transforms.map((one) => one.number)]),
    ).toEqual([
      [1, '00005555', [2]],
      [1, '00004444', [1]],
      [1, '6666', [1]],
    ]);
    const concluded = concludeOffer(bundle, answer);
    expect(concluded.sas.map(({ protocol, spi }) => [protocol, spi])).toEqual([
      ['ipcomp', 0x6666],
      ['esp', 0x4444],
      ['ah', 0x5555],
    ]);
    expect([isFirst(choice, offer), isFirst(chooseOffer(bundle, offer), offer)]).toEqual([false, true]);
    expect(firstOf(offer).proposals.map(({ transforms }) => transforms.length)).toEqual([1, 1, 1]);
  });

  test('may come in any order, with other numbers between, and a CPI in four octets', () => {
    const other = { ...ofEsp, number: 7 };
    const wide = { ...ofIpcomp, spi: Uint8Array.of(0xff, 0xff, 0x33, 0x33) };
    const choice = chooseOffer(bundle, withProposals(wide, other, ofAh, ofEsp));
    expect(choice.sas.map(({ spi }) => spi)).toEqual([0x3333, 0x1111_1111, 0x2222_2222]);
    expect(answerOffer(choice, ours).proposals.map(({ spi }) => spi.length)).toEqual([2, 4, 4]);
  });

  test('the SAs around IPComp may say either mode, IPComp must say tunnel for one (RFC 3173 §4.1)', () => {
    const mode = (proposal: Proposal, value: number | undefined) =>
      changed(proposal, (attributes) => [
        ...attributes.filter(({ type }) => type !== 4),
        ...(value === undefined ? [] : [attribute(4, value)]),
      ]);
    const one =
      (...proposals: readonly Proposal[]) =>
      () =>
        chooseOffer(compressed, withProposals(...proposals));
    expect(one(mode(ofEsp, 2), ofIpcomp)().mode).toBe('tunnel');
    expect(one(mode(ofEsp, undefined), ofIpcomp)().mode).toBe('tunnel');
    expect(one(ofEsp, mode(ofIpcomp, undefined))).toThrow(/none of the transforms of IPCOMP beside it fits/);
    expect(one(ofEsp, mode(ofIpcomp, 2))).toThrow(PeerError);
    // AH in a tunnel of its own around a tunnel of ESP would be two tunnels.
    expect(() => chooseOffer(bundle, withProposals(mode(ofAh, 1), ofEsp, ofIpcomp))).toThrow(/none of the transforms of AH/);
    const hosts: Terms = { ...compressed, mode: 'transport' };
    expect(chooseOffer(hosts, withProposals(mode(ofEsp, 2), mode(ofIpcomp, undefined))).mode).toBe('transport');
  });

  test('what means nothing to IPComp is ignored in it, what belongs to all must be one', () => {
    const odd = changed(ofIpcomp, (attributes) => [...attributes, attribute(5, 7), attribute(6, 128), attribute(3, 14)]);
    expect(chooseOffer(bundle, withProposals(ofAh, ofEsp, odd)).group).toBeUndefined();
    const grouped = changed(ofAh, (attributes) => [...attributes, attribute(3, 14)]);
    expect(() => chooseOffer({ ...bundle, check: 'obey' }, withProposals(grouped, ofEsp, ofIpcomp))).toThrow(PeerError);
    const pfs = buildOffer({ ...bundle, group: 'modp2048' }, ours);
    expect(chooseOffer({ ...bundle, group: 'modp2048' }, pfs).group).toBe('modp2048');
    expect(pfs.proposals.map(({ transforms }) => transforms[0]!.attributes.some(({ type }) => type === 3))).toEqual([
      true,
      true,
      false,
    ]);
  });

  test('lives as long as the one that lives shortest', () => {
    const life = (proposal: Proposal, seconds: number) =>
      changed(proposal, (attributes) => attributes.map((one) => (one.type === 2 ? attribute(2, seconds) : one)));
    const seconds = (a: number, e: number, c: number) =>
      chooseOffer(bundle, withProposals(life(ofAh, a), life(ofEsp, e), life(ofIpcomp, c))).lifetime.seconds;
    expect([seconds(600, 3600, 3600), seconds(3600, 700, 3600), seconds(3600, 3600, 800)]).toEqual([600, 700, 800]);
    const unsaid = changed(ofIpcomp, (attributes) => attributes.filter(({ type }) => type > 2));
    expect(chooseOffer(bundle, withProposals(ofAh, ofEsp, unsaid)).lifetime.seconds).toBe(3600);
  });

  test.each<[string, readonly Proposal[], RegExp]>([
    ['one of them away', [ofAh, ofEsp], /AH and ESP belong together/],
    ['ESP twice', [ofEsp, { ...ofEsp, spi: u32be(0x9999) }], /ESP: twice under one number/],
    ['IPComp alone', [ofIpcomp], /IPCOMP: by itself it protects nothing/],
    ['a protocol that nobody knows', [ofAh, ofEsp, { ...ofIpcomp, protocol: 5 }], /protocol 5: it is not supported/],
    ['ISAKMP among them', [{ ...ofAh, protocol: 1 }, ofEsp], /ISAKMP: it is not supported/],
    ['different numbers', [ofAh, { ...ofEsp, number: 2 }, { ...ofIpcomp, number: 3 }], /the peer offered ah /],
    ['an AH without SPI', [{ ...ofAh, spi: NONE }, ofEsp, ofIpcomp], /AH: an SPI of 0 octets, expected 4/],
    ['a CPI of three octets', [ofAh, ofEsp, { ...ofIpcomp, spi: new Uint8Array(3) }], /IPCOMP: an SPI of 3 octets, expected 2/],
    ['a CPI that is not negotiated', [ofAh, ofEsp, { ...ofIpcomp, spi: Uint8Array.of(0, 2) }], /SPI 2 is reserved \(RFC 3173/],
    ['an AH that has no transform', [{ ...ofAh, transforms: [] }, ofEsp, ofIpcomp], /AH: no transform/],
    ['LZS', [ofAh, ofEsp, { ...ofIpcomp, transforms: [{ ...ofIpcomp.transforms[0]!, id: 3 }] }], /of IPCOMP beside it fits/],
    [
      'AH whose transform and authentication algorithm differ',
      [changed(ofAh, (some) => some.map((one) => (one.type === 5 ? attribute(5, 1) : one))), ofEsp, ofIpcomp],
      /of AH beside it fits/,
    ],
    [
      'AH without an authentication algorithm',
      [changed(ofAh, (some) => some.filter(({ type }) => type !== 5)), ofEsp, ofIpcomp],
      /of AH beside it fits/,
    ],
  ])('is refused with %s', (_what, proposals, explanation) => {
    expect(refusal(bundle, withProposals(...proposals)).message).toMatch(explanation);
  });

  test('alone, AH says why its transform will not do', () => {
    const alone: Terms = { ...TERMS, alternatives: [{ sas: [ah], lifetime }] };
    const [proposal] = buildOffer(alone, ours).proposals;
    const with5 = changed(proposal!, (some) => some.map((one) => (one.type === 5 ? attribute(5, 1) : one)));
    expect(refusal(alone, withProposals(with5)).message).toContain('AH transform 5 needs its own authentication algorithm');
    expect(refusal(alone, withProposals({ ...with5, transforms: [{ ...with5.transforms[0]!, id: 99 }] })).message).toContain(
      'AH transform 99 is unknown',
    );
  });

  test('in an answer may be said once more without IPComp, as charon does, and nothing else', () => {
    const answer = answerOffer(chooseOffer(compressed, buildOffer(compressed, ours)), spis(0x4444, 0, 0x6666)).proposals;
    const again = { ...answer[0]!, number: 2 };
    expect(concludeOffer(compressed, withProposals(...answer, again)).sas).toHaveLength(2);
    for (const wrong of [
      { ...again, spi: u32be(0x7777) },
      { ...answer[1]!, number: 2, spi: Uint8Array.of(9, 9) },
    ])
      expect(() => concludeOffer(compressed, withProposals(...answer, wrong))).toThrow(/3 proposals with 3 transforms/);
  });
});

describe('an answer', () => {
  const offered = buildOffer(TERMS, only(0x2000));
  const answer = answerOffer(chooseOffer(TERMS, offered), only(0x3000));

  test('must be one transform of one proposal', () => {
    expect(() => concludeOffer(TERMS, offered)).toThrow(/1 proposals with 4 transforms/);
    expect(() => concludeOffer(TERMS, { ...answer, proposals: [...answer.proposals, ...answer.proposals] })).toThrow(PeerError);
    expect(() => concludeOffer(TERMS, { ...answer, proposals: [] })).toThrow(PeerError);
  });

  test('must be one that was offered, the group included, whatever proposal_check says', () => {
    const other = answerOffer(
      chooseOffer({ ...TERMS, group: 'modp2048' }, buildOffer({ ...TERMS, group: 'modp2048' }, only(0x2000))),
      only(0x3000),
    );
    expect(() => concludeOffer({ ...TERMS, check: 'obey' }, other)).toThrow(/the peer answered .*no PFS is wanted/);
  });

  test('may have a shorter lifetime, and a longer one only where we obey', () => {
    const with60 = answerOffer(chooseOffer(living(60), buildOffer(living(60), only(0x2000))), only(0x3000));
    expect(concludeOffer(TERMS, with60).lifetime.seconds).toBe(60);
    const with7200 = answerOffer(chooseOffer(living(7200), buildOffer(living(7200), only(0x2000))), only(0x3000));
    expect(() => concludeOffer(TERMS, with7200)).toThrow(/a lifetime of 7200 s/);
    expect(concludeOffer({ ...TERMS, check: 'obey' }, with7200).lifetime.seconds).toBe(7200);
  });

  test('is shortened by RESPONDER-LIFETIME, and never lengthened', () => {
    const choice = concludeOffer(TERMS, answer);
    const told = (seconds: number) =>
      responderLifetime({ ...choice, lifetime: { seconds, bytes: 5 * 1024 * 1024, packets: 0 } }, only(0x3000));
    expect(told(600).notify).toBe(NOTIFY['RESPONDER-LIFETIME']);
    expect(withResponderLifetime(choice, [told(600)]).lifetime).toEqual({ seconds: 600, bytes: 5 * 1024 * 1024, packets: 0 });
    expect(withResponderLifetime(choice, [told(90_000)]).lifetime.seconds).toBe(3600);
    expect(withResponderLifetime(choice, [{ ...told(600), data: Uint8Array.of(1) }]).lifetime.seconds).toBe(3600);
  });
});

test('KEYMAT gives the cipher its key and salt first, then integrity, and depends on every input', () => {
  let calls = 0;
  const prf = (...data: readonly Uint8Array[]) => {
    calls += 1;
    const sum = data.reduce((all, part) => part.reduce((s, octet, i) => (s * 31 + octet + i) >>> 0, all), 7);
    return Uint8Array.from({ length: 16 }, (_, i) => (sum >>> (i % 24)) & 0xff);
  };
  const input = { Ni_b: Uint8Array.of(1), Nr_b: Uint8Array.of(2) };
  const gcm = saKeys(prf, input, 'esp', 0x1000, { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' });
  expect([gcm.encr.length, gcm.integ, calls]).toEqual([36, undefined, 3]);
  const cbc = saKeys(prf, input, 'esp', 0x1000, { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' });
  expect([cbc.encr.length, cbc.integ?.length]).toEqual([16, 32]);
  expect(hex(cbc.encr.reveal())).toBe(hex(gcm.encr.reveal().subarray(0, 16)));
  const first = (more: object, spi = 0x1000, protocol: 'esp' | 'ah' = 'esp') =>
    hex(saKeys(prf, { ...input, ...more }, protocol, spi, { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha1' }).integ!.reveal());
  const all = [
    first({}),
    first({ Ni_b: Uint8Array.of(9) }),
    first({ Nr_b: undefined }),
    first({ g_qm_xy: Uint8Array.of(5) }),
    first({}, 0x1001),
    first({}, 0x1000, 'ah'),
  ];
  expect(new Set(all).size).toBe(all.length);
});
