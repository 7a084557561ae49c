/** Negotiations between two implementations that others wrote: read, written again, and all their keys computed anew. */

import { describe, expect, test } from 'vitest';
import {
  type ChildSuite,
  childKeys,
  childSuiteOf,
  cipherOfSuite,
  type IkeKeys,
  type IkeSuite,
  ikeKeys,
  ikeSuiteOf,
  rekeyedSkeyseed,
  sealKeys,
  sharedKeyAuth,
  signedOctets,
  skeyseed,
} from '../../../iked/ikev2/keys.ts';
import { ladder } from '../../../iked/ikev2/ladder.ts';
import {
  EXCHANGE,
  find,
  type Message,
  openMessage,
  readMessage,
  sealMessage,
  writeMessage,
} from '../../../iked/ikev2/message.ts';
import { payloadBody } from '../../../iked/ikev2/payloads.ts';
import { checkRules } from '../../../iked/ikev2/rules.ts';
import { cat, hex, readU32be, utf8 } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { prfOf } from '../../../src/crypto/prf.ts';
import { AuthError } from '../../../src/errors.ts';
import { CAPTURES_REASON, type Capture, haveCaptures, IKEV2_CAPTURES, loadCapture } from '../../support/captures.ts';

/** One IKE SA as its two ends know it. */
interface Sa {
  readonly SPIi: Uint8Array;
  readonly SPIr: Uint8Array;
  readonly suite: IkeSuite;
  readonly SKEYSEED: Secret;
  readonly keys: IkeKeys;
}

interface Child {
  readonly suite: ChildSuite;
  readonly encr: Uint8Array;
  readonly integ: Uint8Array;
}

/** What a capture comes to when it is read from its first message to its last. */
interface Replayed {
  readonly sas: Sa[];
  readonly children: Map<number, Child>;
  readonly messages: { readonly bytes: Uint8Array; readonly again: Uint8Array; readonly message: Message }[];
  readonly auth: { readonly sent: string; readonly computed: string }[];
  readonly opened: Uint8Array[];
}

function replay(capture: Capture): Replayed {
  const out: Replayed = { sas: [], children: new Map(), messages: [], auth: [], opened: [] };
  const secrets = [...capture.childSecrets];
  const secretOf = (SPIi: Uint8Array) => capture.ikeSas.find((sa) => sa.SPIi === hex(SPIi))!.keys['g^ir']!;
  const real: Uint8Array[] = [];
  let init: { Ni: Uint8Array; Nr: Uint8Array } | undefined;
  let request: Message | undefined;
  for (const { bytes, kind } of capture.packets) {
    if (kind === 'esp') out.opened.push(openEsp(out.children, bytes));
    if (kind !== 'ike') continue;
    const read = readMessage(bytes);
    const sa = out.sas.find((known) => hex(known.SPIi) === hex(read.header.SPIi));
    let message: Message = { ...read.header, payloads: read.payloads };
    if (read.sealed === undefined) {
      real.push(bytes);
      out.messages.push({ bytes, again: writeMessage(message), message });
    } else {
      const keys = sealKeys(sa!.keys, cipherOfSuite(sa!.suite), read.header.initiator ? 'initiator' : 'responder');
      const opened = openMessage(read.sealed, keys);
      message = opened;
      out.messages.push({ bytes, again: sealMessage(opened, keys, opened.iv, opened.padding), message });
    }
    if (!message.response) {
      request = message;
      continue;
    }
    const Ni = find(request!.payloads, 'Nonce')?.data;
    const Nr = find(message.payloads, 'Nonce')?.data;
    const offer = find(request!.payloads, 'SA')?.proposals[0];
    const chosen = find(message.payloads, 'SA')?.proposals[0];
    if (message.exchange === EXCHANGE.IKE_SA_INIT) {
      const suite = ikeSuiteOf(chosen!);
      const SKEYSEED = skeyseed(prfOf(suite.prf), Ni!, Nr!, secretOf(message.SPIi));
      out.sas.push({
        SPIi: message.SPIi,
        SPIr: message.SPIr,
        suite,
        SKEYSEED,
        keys: ikeKeys(suite, SKEYSEED, Ni!, Nr!, message.SPIi, message.SPIr),
      });
      init = { Ni: Ni!, Nr: Nr! };
      continue;
    }
    if (message.exchange === EXCHANGE.IKE_AUTH) {
      const prf = prfOf(sa!.suite.prf);
      const check = (payloads: Message['payloads'], id: 'IDi' | 'IDr', own: Uint8Array, nonce: Uint8Array, SK_p: Secret) => {
        const octets = signedOctets(prf, own, nonce, SK_p, payloadBody(find(payloads, id)!));
        const computed = sharedKeyAuth(prf, new Secret(utf8(capture.psk)), octets);
        out.auth.push({ sent: hex(find(payloads, 'AUTH')!.data), computed: hex(computed) });
      };
      check(request!.payloads, 'IDi', real[0]!, init!.Nr, sa!.keys.SK_pi);
      check(message.payloads, 'IDr', real[1]!, init!.Ni, sa!.keys.SK_pr);
    }
    if (chosen === undefined) continue;
    if (chosen.protocol === 'ike') {
      const suite = ikeSuiteOf(chosen);
      const SKEYSEED = rekeyedSkeyseed(prfOf(sa!.suite.prf), sa!.keys.SK_d, Ni!, Nr!, secretOf(offer!.spi));
      const keys = ikeKeys(suite, SKEYSEED, Ni!, Nr!, offer!.spi, chosen.spi);
      out.sas.push({ SPIi: offer!.spi, SPIr: chosen.spi, suite, SKEYSEED, keys });
      continue;
    }
    const suite = childSuiteOf(chosen);
    const secret = find(message.payloads, 'KE') === undefined ? undefined : secrets.shift()!;
    const prf = prfOf(sa!.suite.prf);
    const { fromInitiator, fromResponder } = childKeys(prf, sa!.keys.SK_d, suite, Ni ?? init!.Ni, Nr ?? init!.Nr, secret);
    // The SPI in a proposal is that of the SA that its sender receives on.
    for (const [spi, keys] of [[chosen.spi, fromInitiator] as const, [offer!.spi, fromResponder] as const]) {
      out.children.set(readU32be(spi), { suite, encr: keys.encr.reveal(), integ: keys.integ?.reveal() ?? new Uint8Array(0) });
    }
  }
  return out;
}

/** The text of an ESP packet. IKE's cipher reads it too: SPI and sequence number stand where the IKE header does. */
function openEsp(children: ReadonlyMap<number, Child>, packet: Uint8Array): Uint8Array {
  const child = children.get(readU32be(packet))!;
  const sequence = packet.subarray(4, 8);
  const high = child.suite.extendedSequence && child.suite.integ === 'none' ? new Uint8Array(4) : new Uint8Array(0);
  const text = cipherOfSuite(child.suite).open(
    child.encr,
    child.integ,
    cat(packet.subarray(0, 4), high, sequence),
    packet.subarray(8),
  );
  expect(text, `ESP packet of SPI ${readU32be(packet).toString(16)}`).toBeDefined();
  return text!;
}

describe.skipIf(!haveCaptures).each(IKEV2_CAPTURES)(`%s${CAPTURES_REASON}`, (name) => {
  const capture = haveCaptures ? loadCapture(name) : undefined!;
  const replayed = haveCaptures ? replay(capture) : undefined!;

  test('every message is written again to the same octets, from its members alone', () => {
    expect(replayed.messages.length).toBe(capture.packets.filter((packet) => packet.kind === 'ike').length);
    expect(replayed.messages.length).toBeGreaterThanOrEqual(6);
    for (const { bytes, again, message } of replayed.messages) {
      expect(hex(again)).toBe(hex(bytes));
      for (const payload of message.payloads) expect(payload.received).toBeUndefined();
    }
  });

  test('every message keeps the rules of its exchange', () => {
    for (const { message } of replayed.messages) {
      expect(() => checkRules(message.exchange, message.response ? 'response' : 'request', message.payloads)).not.toThrow();
    }
  });

  test('SKEYSEED and the keys of every IKE SA are those that the peers logged', () => {
    expect(replayed.sas.length).toBe(capture.ikeSas.length);
    for (const [i, logged] of capture.ikeSas.entries()) {
      const { SPIi, SPIr, SKEYSEED, keys } = replayed.sas[i]!;
      expect([hex(SPIi), hex(SPIr)]).toEqual([logged.SPIi, logged.SPIr]);
      const computed: Readonly<Record<string, Secret>> = { SKEYSEED, ...keys };
      const names = Object.keys(logged.keys).filter((key) => key !== 'g^ir');
      expect(names).toEqual(expect.arrayContaining(['SKEYSEED', 'SK_d', 'SK_ei', 'SK_er', 'SK_pi', 'SK_pr']));
      for (const key of names) expect(hex(computed[key]!.reveal()), key).toBe(hex(logged.keys[key]!));
    }
  });

  test('both AUTH payloads are what the pre-shared key gives', () => {
    expect(replayed.auth.length).toBe(2);
    for (const { sent, computed } of replayed.auth) expect(computed).toBe(sent);
  });

  test("the keys of every child SA are the kernel's", () => {
    expect([...replayed.children.keys()].sort()).toEqual([...capture.kernelSas.keys()].sort());
    for (const [spi, { encr, integ }] of capture.kernelSas) {
      expect(hex(replayed.children.get(spi)!.encr)).toBe(hex(encr));
      expect(hex(replayed.children.get(spi)!.integ)).toBe(hex(integ));
    }
  });

  test('every ESP packet opens to an ICMP packet in tunnel mode', () => {
    expect(replayed.opened.length).toBe(capture.espFrames);
    for (const text of replayed.opened) {
      const padBytes = text.at(-2)!;
      expect(text.at(-1)).toBe(4);
      expect([...text.slice(text.length - 2 - padBytes, -2)]).toEqual(Array.from({ length: padBytes }, (_, i) => i + 1));
      expect((text[2]! << 8) | text[3]!).toBe(text.length - 2 - padBytes);
      expect(text[9]).toBe(1);
    }
  });

  test('one flipped bit anywhere in a sealed message is an AuthError', () => {
    const { bytes, message } = replayed.messages.at(-1)!;
    const sa = replayed.sas.at(-1)!;
    const keys = sealKeys(sa.keys, cipherOfSuite(sa.suite), message.initiator ? 'initiator' : 'responder');
    // Length fields and next-payload octets have checks of their own, in front of the ICV's.
    for (const at of [0, 8, 20, 23, 32, 40, bytes.length - 1]) {
      const bad = bytes.slice();
      bad[at]! ^= 1;
      expect(() => openMessage(readMessage(bad).sealed!, keys), `octet ${at}`).toThrow(AuthError);
    }
  });

  test('the ladder names the exchanges and shows no key', () => {
    const lines = replayed.messages.map(({ message }) => ladder(message));
    expect(lines[0]).toMatch(/^IKE_SA_INIT \{ SA\(aes_.*\), KE\((x25519|modp2048)\), Ni, N\(NAT_DETECTION_SOURCE_IP\).* \} -->$/);
    expect(lines[3]).toMatch(
      /^<-- IKE_AUTH \{ IDr\(b\.lab\.test\), AUTH\(SHARED_KEY\), SA\(esp .*TSi\(10\.1\.0\.0-10\.1\.0\.255\)/,
    );
    const secrets = replayed.sas.flatMap(({ keys }) => Object.values(keys).filter((key: Secret) => key.length > 0));
    for (const secret of secrets) expect(lines.join()).not.toContain(hex(secret.reveal()).slice(0, 16));
    for (const { sent } of replayed.auth) expect(lines.join()).not.toContain(sent.slice(0, 16));
  });
});
