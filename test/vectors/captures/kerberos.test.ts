/** A recorded exchange between two of racoon2's kinkd (MIT krb5 underneath): we accept its AP-REQ and its AP-REP, and verify both checksums. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { acceptApReq, checkApRep } from '../../../kinkd/krb5/ap-exchange.ts';
import { KEY_USAGE, verifyChecksum } from '../../../kinkd/krb5/enctypes.ts';
import { readKeytab } from '../../../kinkd/krb5/keytab.ts';
import { parsePrincipal, showPrincipal } from '../../../kinkd/krb5/principal.ts';
import { cat, readU32be } from '../../../src/bytes/bytes.ts';
import { CAPTURES, CAPTURES_REASON, haveCaptures } from '../../support/captures.ts';
import { octets } from '../engines.ts';

const KEYS = `${CAPTURES}/kink-transport.keys`;

/** The datagrams of the recording, and when the first of them was sent. */
function recording() {
  const text = readFileSync(`${KEYS}/kink-decode.txt`, 'utf8');
  const datagrams = [...text.matchAll(/^#\d+ t=([\d.]+) .* (CREATE|REPLY) .*\n +raw: ([0-9a-f]+)/gm)];
  const [create, reply] = ['CREATE', 'REPLY'].map((type) => datagrams.find((found) => found[2] === type)!);
  return { wall: Number(create![1]) * 1000, create: octets(create![3]!), reply: octets(reply![3]!) };
}

/** The first payload without its header and EPOCH (RFC 4430 §4.2.1). */
function kerberosMessage(datagram: Uint8Array): Uint8Array {
  return datagram.slice(16 + 8, 16 + (readU32be(datagram, 16) & 0xffff));
}

/** What the Cksum covers (RFC 4430 §4): everything before it, with its length left out of both length fields. */
function checksummed(datagram: Uint8Array) {
  const cksumLen = readU32be(datagram, 12) & 0xffff;
  const message = datagram.slice(0, datagram.length - cksumLen);
  message.set([message.length >> 8, message.length & 0xff], 2);
  message.set([0, 0], 14);
  return { message, cksum: datagram.slice(-cksumLen) };
}

describe.skipIf(!haveCaptures)(`kink-transport${CAPTURES_REASON}`, () => {
  test('CREATE: AP_REQ, REPLY: AP_REP, each with its Cksum', () => {
    const { wall, create, reply } = recording();
    const b = parsePrincipal('kink/b.lab.test@LAB.TEST');
    const keytab = readKeytab(Uint8Array.from(readFileSync(`${KEYS}/b.keytab`)));
    const acceptor = { keytab, servers: [b], clockSkewMs: 300_000, replays: { has: () => false } };
    const accepted = acceptApReq(kerberosMessage(create), acceptor, wall);
    expect([showPrincipal(accepted.client), accepted.key.etype, accepted.mutualRequired]).toEqual([
      'kink/a.lab.test@LAB.TEST',
      18,
      true,
    ]);
    expect(Math.abs(accepted.ctime * 1000 - wall)).toBeLessThan(2000);
    expect(checkApRep(kerberosMessage(reply), accepted.key, [accepted])).toBe(accepted);
    for (const datagram of [create, reply]) {
      const { message, cksum } = checksummed(datagram);
      expect(verifyChecksum(accepted.key, KEY_USAGE.KINK_CKSUM, message, cksum)).toBe(true);
      expect(verifyChecksum(accepted.key, KEY_USAGE.KINK_CKSUM, cat(message, new Uint8Array(1)), cksum)).toBe(false);
    }
  });
});
