/** racoon2's KINK between two kinkd: read, checked, opened, written again, and all keys computed anew. */

import { describe, expect, test } from 'vitest';
import { kinkKeys } from '../../../kinkd/keys.ts';
import { type EncryptionKey, enctype } from '../../../kinkd/krb5/enctypes.ts';
import { ladder } from '../../../kinkd/ladder.ts';
import { openEncrypt, readMessage, sealMessage, TYPE, verifyCksum, writeMessage } from '../../../kinkd/message.ts';
import { find, type Payload } from '../../../kinkd/payloads.ts';
import { checkRules, refuseOuter } from '../../../kinkd/rules.ts';
import { hex, readU32be } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { ikeCipher } from '../../../src/crypto/aead.ts';
import type { EspSuite } from '../../../src/crypto/packet-cipher.ts';
import { AuthError } from '../../../src/errors.ts';
import { readPayloads, writeChain } from '../../../src/isakmp/chain.ts';
import { readTransform } from '../../../src/isakmp/ipsec-transforms.ts';
import { find as findQuick, type Payload as QuickPayload } from '../../../src/isakmp/payloads.ts';
import { CAPTURES_REASON, haveCaptures, loadKinkCapture } from '../../support/captures.ts';

interface Opened {
  readonly bytes: Uint8Array;
  readonly message: ReturnType<typeof readMessage>;
  readonly inner: readonly Payload[];
  readonly quick: readonly QuickPayload[];
}

function open(bytes: Uint8Array, key: EncryptionKey): Opened {
  const message = readMessage(bytes);
  verifyCksum(message, key);
  const inner = openEncrypt(find(message.payloads, 'ENCRYPT')!, key);
  const isakmp = find(inner, 'ISAKMP')!;
  return { bytes, message, inner, quick: readPayloads(isakmp.chain, isakmp.first) };
}

/** The SPI of the sender's inbound SA, and the algorithms. */
function proposalOf(quick: readonly QuickPayload[]): { spi: number; suite: EspSuite } {
  const [proposal] = findQuick(quick, 'SA')!.proposals;
  const transform = readTransform(proposal!.protocol, proposal!.transforms[0]!);
  if (typeof transform === 'string') throw new Error(transform);
  return { spi: readU32be(proposal!.spi), suite: transform.suite };
}

describe.skipIf(!haveCaptures)(`kink-transport${CAPTURES_REASON}`, () => {
  const capture = haveCaptures ? loadKinkCapture() : undefined!;
  const key = (): EncryptionKey => ({ etype: 18, key: new Secret(capture.sessionKey) });
  const messages = () => capture.packets.filter(({ kind }) => kind === 'kink').map(({ bytes }) => open(bytes, key()));

  test('both messages are read, their Cksum is right and KINK_ENCRYPT opens', () => {
    const [create, reply] = messages();
    expect([create!.message.messageType, reply!.message.messageType]).toEqual([TYPE.CREATE, TYPE.REPLY]);
    expect(create!.message.payloads.map(({ type }) => type)).toEqual(['AP_REQ', 'ENCRYPT']);
    expect(create!.quick.map(({ type }) => type)).toEqual(['SA', 'Nonce']);
    expect(reply!.message.payloads.map(({ type }) => type)).toEqual(['AP_REP', 'ENCRYPT']);
    expect(reply!.quick.map(({ type }) => type)).toEqual(['SA']);
    expect(find(create!.message.payloads, 'AP_REQ')!.EPOCH).toBe(1795374598);
    expect(find(reply!.message.payloads, 'AP_REP')!.EPOCH).toBe(1795374592);
  });

  test('both keep the rules of their message', () => {
    for (const { message, inner } of messages()) {
      expect(refuseOuter(message.messageType, message.payloads, message.sealed !== undefined)).toBeUndefined();
      expect(() => checkRules(message.messageType, message.payloads, inner)).not.toThrow();
    }
  });

  test('both are written again to the same octets, from their members alone', () => {
    for (const { bytes, message, inner, quick } of messages()) {
      expect(hex(sealMessage(message, key()))).toBe(hex(bytes));
      expect(hex(message.sealed!.covered)).toBe(hex(writeMessage(message)));
      const isakmp = find(inner, 'ISAKMP')!;
      expect(writeChain(quick)).toEqual({ first: isakmp.first, octets: isakmp.chain });
    }
  });

  test('one flipped bit anywhere behind the Length is an AuthError', () => {
    for (const { bytes } of messages()) {
      for (const at of [8, 11, 20, 100, 200, bytes.length - 1]) {
        const bad = bytes.slice();
        bad[at]! ^= 1;
        expect(() => verifyCksum(readMessage(bad), key()), `octet ${at}`).toThrow(AuthError);
      }
    }
  });

  test("KEYMAT is the kernel's, with racoon2's reading of the prf", () => {
    const [create, reply] = messages();
    const Ni_b = findQuick(create!.quick, 'Nonce')!.data;
    for (const { quick } of [create!, reply!]) {
      const { spi, suite } = proposalOf(quick);
      const keys = kinkKeys(key(), 'rfc3962_literal', { Ni_b })('esp', spi, suite);
      const kernel = capture.kernelSas.get(spi)!;
      expect(hex(keys.encr.reveal())).toBe(hex(kernel.encr));
      expect(hex(keys.integ!.reveal())).toBe(hex(kernel.integ));
    }
  });

  test('every ESP packet opens to an ICMP packet in transport mode', () => {
    const [create] = messages();
    const { suite } = proposalOf(create!.quick);
    const cipher = ikeCipher(suite.encr, suite.keyBits, suite.integ);
    const packets = capture.packets.filter(({ kind }) => kind === 'esp');
    expect(packets.length).toBe(capture.espFrames);
    for (const { bytes } of packets) {
      const { encr, integ } = capture.kernelSas.get(readU32be(bytes))!;
      const text = cipher.open(encr, integ, bytes.subarray(0, 8), bytes.subarray(8));
      expect(text).toBeDefined();
      expect(text!.at(-1)).toBe(1);
      expect([0, 8]).toContain(text![0]);
    }
  });

  test('the ladder names what is in them and shows no key', () => {
    const lines = messages().map(({ message, inner }) => ladder(message, inner));
    const sa = (spi: string) => `SA(ESP ${spi}: AES_CBC_128/HMAC_SHA1_96 transport)`;
    expect(lines).toEqual([
      `CREATE { AP_REQ, ENCRYPT{ ISAKMP{ ${sa('0f9c58f0')}, Ni } } } -->`,
      `<-- REPLY { AP_REP, ENCRYPT{ ISAKMP{ ${sa('0b562ab8')} } } }`,
    ]);
    expect(enctype(18).checksumBytes).toBe(12);
  });
});
