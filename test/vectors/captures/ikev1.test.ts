/** A negotiation of IKEv1 between two implementations that others wrote: read, written again, its hashes verified and all its keys computed anew. */

import { describe, expect, test } from 'vitest';
import {
  type Exchanged,
  HASH_1,
  HASH_2,
  HASH_3,
  HASH_I,
  HASH_R,
  type IsakmpKeys,
  isakmpKeys,
  keymatPrf,
  messageCipher,
  phase1Iv,
  phase2Iv,
  prfOfSuite,
  skeyidOfSharedKey,
} from '../../../iked/ikev1/keys.ts';
import { ladder } from '../../../iked/ikev1/ladder.ts';
import {
  type Message,
  type OpenedMessage,
  openMessage,
  readMessage,
  sealMessage,
  writeMessage,
} from '../../../iked/ikev1/message.ts';
import { choosePhase1, concludePhase1, type Phase1Terms } from '../../../iked/ikev1/phase-1-proposals.ts';
import { checkRules, type MessageName } from '../../../iked/ikev1/rules.ts';
import { hex, readU32be, utf8 } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { ikeCipher } from '../../../src/crypto/aead.ts';
import { showSelector } from '../../../src/ipsec/selector.ts';
import { clientSelectors } from '../../../src/isakmp/client-ids.ts';
import { type SaKeys, saKeys } from '../../../src/isakmp/keymat.ts';
import { find, payloadBody } from '../../../src/isakmp/payloads.ts';
import { chooseOffer, concludeOffer } from '../../../src/isakmp/quick-mode.ts';
import { leadOf, type Terms } from '../../../src/isakmp/terms.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { CAPTURES_REASON, type Capture, haveCaptures, loadCapture } from '../../support/captures.ts';

const PHASE_1: Phase1Terms = {
  encr: [{ name: 'aes_cbc', keyBits: 128 }],
  hash: ['hmac_sha1'],
  groups: ['modp2048'],
  seconds: 0,
  check: 'obey',
};
const PHASE_2: Terms = {
  alternatives: [
    {
      sas: [{ protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha1'] }],
      lifetime: { seconds: 0, bytes: 0, packets: 0 },
    },
  ],
  mode: 'tunnel',
  encapsulated: false,
  group: 'modp2048',
  check: 'obey',
};
const NAMES: readonly MessageName[] = [
  'Main Mode 1',
  'Main Mode 2',
  'Main Mode 3',
  'Main Mode 4',
  'Main Mode 5',
  'Main Mode 6',
  'Quick Mode 1',
  'Quick Mode 2',
  'Quick Mode 3',
  'Informational',
  'Informational',
];

interface Replayed {
  readonly messages: { readonly bytes: Uint8Array; readonly again: Uint8Array; readonly message: Message }[];
  readonly keys: IsakmpKeys;
  readonly Ka: Secret;
  readonly initialIv: Uint8Array;
  /** What was sent as a hash, and what it must be. */
  readonly hashes: { readonly what: string; readonly sent: string; readonly computed: string }[];
  readonly children: Map<number, SaKeys>;
  readonly traffic: readonly string[];
  readonly opened: (Uint8Array | undefined)[];
}

function replay(capture: Capture): Replayed {
  const datagrams = capture.packets.filter(({ kind }) => kind === 'ike').map(({ bytes }) => bytes);
  const clear = datagrams.slice(0, 4).map((bytes) => {
    const { header, payloads } = readMessage(bytes);
    const message = { ...header, payloads };
    return { bytes, again: writeMessage(message), message };
  });
  const [m1, m2, m3, m4] = clear.map(({ message }) => message) as [Message, Message, Message, Message];
  const { suite } = choosePhase1(PHASE_1, find(m1.payloads, 'SA')!);
  concludePhase1(PHASE_1, find(m2.payloads, 'SA')!);
  const prf = prfOfSuite(suite);
  const exchanged: Exchanged = {
    CKY_I: m2.CKY_I,
    CKY_R: m2.CKY_R,
    Ni_b: find(m3.payloads, 'Nonce')!.data,
    Nr_b: find(m4.payloads, 'Nonce')!.data,
    g_xi: find(m3.payloads, 'KE')!.data,
    g_xr: find(m4.payloads, 'KE')!.data,
  };
  const g_xy = new Secret(capture.ikeSas[0]!.keys['g^ir']!);
  const SKEYID = skeyidOfSharedKey(prf, new Secret(utf8(capture.psk)), exchanged.Ni_b, exchanged.Nr_b);
  const keys = isakmpKeys(prf, SKEYID, g_xy, exchanged.CKY_I, exchanged.CKY_R);
  const { cipher, key } = messageCipher(suite, keys.SKEYID_e);
  const initialIv = phase1Iv(suite, exchanged.g_xi, exchanged.g_xr);

  const messages: Replayed['messages'] = [...clear];
  const ivs = new Map<number, Uint8Array>([[0, initialIv]]);
  const open = (bytes: Uint8Array): OpenedMessage => {
    const read = readMessage(bytes);
    const { messageId } = read.header;
    const iv = ivs.get(messageId) ?? phase2Iv(suite, ivs.get(0)!, messageId);
    const opened = openMessage(read, cipher, iv);
    const again = sealMessage(opened, cipher, iv, opened.padding);
    ivs.set(messageId, opened.lastBlock);
    messages.push({ bytes, again: again.bytes, message: opened });
    return opened;
  };
  const [m5, m6, q1, q2, q3, ...informational] = datagrams.slice(4).map(open) as [
    OpenedMessage,
    OpenedMessage,
    OpenedMessage,
    OpenedMessage,
    OpenedMessage,
    ...OpenedMessage[],
  ];
  const hashes: Replayed['hashes'] = [];
  const hash = (what: string, { payloads }: OpenedMessage, computed: Uint8Array) =>
    hashes.push({ what, sent: hex(find(payloads, 'HASH')!.data), computed: hex(computed) });
  const SAi_b = payloadBody(find(m1.payloads, 'SA')!);
  hash('HASH_I', m5, HASH_I(prf, SKEYID, exchanged, SAi_b, payloadBody(find(m5.payloads, 'ID')!)));
  hash('HASH_R', m6, HASH_R(prf, SKEYID, exchanged, SAi_b, payloadBody(find(m6.payloads, 'ID')!)));
  const { messageId } = q1;
  const Ni_b = find(q1.payloads, 'Nonce')!.data;
  const Nr_b = find(q2.payloads, 'Nonce')!.data;
  hash('HASH(1)', q1, HASH_1(prf, keys.SKEYID_a, messageId, q1.afterFirst));
  hash('HASH(2)', q2, HASH_2(prf, keys.SKEYID_a, messageId, Ni_b, q2.afterFirst));
  hash('HASH(3)', q3, HASH_3(prf, keys.SKEYID_a, messageId, Ni_b, Nr_b));
  for (const one of informational) hash('HASH(1)', one, HASH_1(prf, keys.SKEYID_a, one.messageId, one.afterFirst));

  const atResponder = chooseOffer(PHASE_2, find(q1.payloads, 'SA')!);
  const atInitiator = concludeOffer(PHASE_2, find(q2.payloads, 'SA')!);
  const g_qm_xy = capture.childSecrets[0]!;
  const children = new Map<number, SaKeys>();
  for (const spi of [leadOf(atResponder).spi, leadOf(atInitiator).spi]) {
    children.set(spi, saKeys(keymatPrf(prf, keys.SKEYID_d), { g_qm_xy, Ni_b, Nr_b }, 'esp', spi, leadOf(atResponder).suite));
  }
  const hosts = [IpAddress.parse('10.77.0.1')!, IpAddress.parse('10.77.0.2')!] as const;
  const { IDci, IDcr } = clientSelectors(q2.payloads, ...hosts);
  const opened = capture.packets
    .filter(({ kind }) => kind === 'esp')
    .map(({ bytes }) => {
      const { encr, integ } = children.get(readU32be(bytes))!;
      const aes = ikeCipher('aes_cbc', 128, 'hmac_sha1');
      return aes.open(encr.reveal(), integ!.reveal(), bytes.subarray(0, 8), bytes.subarray(8));
    });
  return { messages, keys, Ka: key, initialIv, hashes, children, traffic: [IDci, IDcr].map(showSelector), opened };
}

describe.skipIf(!haveCaptures)(`ss-ikev1-main-psk${CAPTURES_REASON}`, () => {
  const capture = haveCaptures ? loadCapture('ss-ikev1-main-psk') : undefined!;
  const replayed = haveCaptures ? replay(capture) : undefined!;

  test('every message is written again to the same octets, from its members alone', () => {
    expect(replayed.messages).toHaveLength(11);
    for (const { bytes, again, message } of replayed.messages) {
      expect(hex(again)).toBe(hex(bytes));
      for (const payload of message.payloads) expect(payload.received).toBeUndefined();
    }
  });

  test('every message keeps the rules of its exchange', () => {
    replayed.messages.forEach(({ message }, i) => {
      expect(() => checkRules(NAMES[i]!, message.encrypted, message.payloads)).not.toThrow();
    });
  });

  test('SKEYID, what is derived from it and the first IV are those that the peers logged', () => {
    const logged = capture.ikeSas[0]!.keys;
    const { keys, Ka, initialIv } = replayed;
    for (const name of ['SKEYID', 'SKEYID_d', 'SKEYID_a', 'SKEYID_e'] as const) {
      expect(hex(keys[name].reveal()), name).toBe(hex(logged[name]!));
    }
    expect(hex(Ka.reveal())).toBe(hex(logged['encryption key Ka']!));
    expect(hex(initialIv)).toBe(hex(logged['initial IV']!));
  });

  test('all hashes verify', () => {
    expect(replayed.hashes.map(({ what }) => what)).toEqual([
      'HASH_I',
      'HASH_R',
      'HASH(1)',
      'HASH(2)',
      'HASH(3)',
      'HASH(1)',
      'HASH(1)',
    ]);
    for (const { what, sent, computed } of replayed.hashes) expect([what, computed]).toEqual([what, sent]);
  });

  test("the keys of both SAs are the kernel's, for the traffic that IDci and IDcr name", () => {
    expect([...replayed.children.keys()].sort()).toEqual([...capture.kernelSas.keys()].sort());
    for (const [spi, { encr, integ }] of capture.kernelSas) {
      expect(hex(replayed.children.get(spi)!.encr.reveal())).toBe(hex(encr));
      expect(hex(replayed.children.get(spi)!.integ!.reveal())).toBe(hex(integ));
    }
    expect(replayed.traffic).toEqual(['10.1.0.0-10.1.0.255', '10.2.0.0-10.2.0.255']);
  });

  test('every ESP packet opens to an ICMP packet in tunnel mode', () => {
    expect(replayed.opened.length).toBe(capture.espFrames);
    for (const text of replayed.opened) {
      expect(text, 'its ICV').toBeDefined();
      const padBytes = text!.at(-2)!;
      expect(text!.at(-1)).toBe(4);
      expect((text![2]! << 8) | text![3]!).toBe(text!.length - 2 - padBytes);
      expect(text![9]).toBe(1);
    }
  });

  test('the ladder names the exchanges and shows no key', () => {
    const lines = replayed.messages.map(({ message }, i) => ladder(message, i % 2 === 0));
    expect(lines[0]).toBe(
      'Main Mode { SA(AES_CBC_128/HMAC_SHA1/MODP2048), V(XAUTH), V(DPD), V(FRAGMENTATION), V(RFC 3947), V(draft-ietf-ipsec-nat-t-ike-02\\n) } -->',
    );
    expect(lines[2]).toBe('Main Mode { KE, N, NAT-D, NAT-D } -->');
    expect(lines[5]).toBe('<-- Main Mode* { ID(10.77.0.2), HASH }');
    expect(lines[6]).toMatch(
      /^Quick Mode\* \{ HASH, SA\([0-9a-f]{8}: esp AES_CBC_128\/HMAC_SHA1_96\/MODP2048 tunnel\), N, KE, ID\(10\.1\.0\.0-10\.1\.0\.255\), ID\(10\.2\.0\.0-10\.2\.0\.255\) \} -->$/,
    );
    expect(lines[9]).toMatch(/Informational\* \{ HASH, D\(ESP [0-9a-f]{8}\) \}/);
    expect(lines[10]).toMatch(/Informational\* \{ HASH, D\(ISAKMP\) \}/);
    for (const key of Object.values(replayed.keys)) expect(lines.join()).not.toContain(hex(key.reveal()).slice(0, 16));
  });
});
