/** The ESP oracle itself: what scapy seals it opens, changed packets are refused, and an OpenSSL reconstruction agrees (RFC 4303, RFC 4106). */
import { createCipheriv, createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ScapyOracle, type ScapySa, scapyPython } from './lab/scapy.ts';
import { skipNote } from './lab/skip.ts';

const python = scapyPython();
const why = skipNote(
  'the scapy oracle',
  python ? undefined : 'no python with scapy and cryptography (Debian: python3-scapy python3-cryptography)',
);

const octets = (count: number, first = 1) => Uint8Array.from({ length: count }, (_, i) => (first + i) & 255);
const suites: Record<string, Pick<ScapySa, 'cipher' | 'key' | 'auth' | 'authKey'>> = {
  'AES-128-GCM': { cipher: 'AES-GCM', key: octets(20) },
  'AES-256-GCM': { cipher: 'AES-GCM', key: octets(36) },
  'AES-CBC + SHA2-256': { cipher: 'AES-CBC', key: octets(16), auth: 'SHA2-256-128', authKey: octets(32, 7) },
  'AES-CTR + SHA1': { cipher: 'AES-CTR', key: octets(20), auth: 'HMAC-SHA1-96', authKey: octets(20, 9) },
  'ChaCha20-Poly1305': { cipher: 'CHACHA20-POLY1305', key: octets(36) },
  'NULL + SHA2-256': { cipher: 'NULL', auth: 'SHA2-256-128', authKey: octets(32, 7) },
};
const echo4 = packet(`4500003000010000400100000a0900010a0900020800000000010001${Buffer.from(octets(20)).toString('hex')}`);
const echo6 = packet(
  '60000000001c3a40' +
    'fd09000000000000000000000000000a' +
    'fd09000000000000000000000000000b' +
    '8000000000010001' +
    '00'.repeat(20),
);

describe.skipIf(python === undefined)(`the scapy oracle${why}`, () => {
  let oracle: ScapyOracle;
  beforeAll(() => {
    oracle = new ScapyOracle(python!);
  });
  afterAll(() => oracle?.close());

  const outers = { v4: { src: '192.0.2.1', dst: '192.0.2.2' }, v6: { src: '2001:db8::1', dst: '2001:db8::2' } };
  for (const [name, suite] of Object.entries(suites)) {
    for (const esn of [false, true]) {
      for (const [family, inner] of Object.entries({ v4: echo4, v6: echo6 })) {
        for (const [outerFamily, outer] of Object.entries(outers)) {
          test(`${name}, ${family} in ${outerFamily} tunnel${esn ? ', ESN' : ''}: opens what it sealed`, async () => {
            const sa = { mode: 'tunnel', spi: 0x01020304, ...suite, esn } as const;
            const sealed = await oracle.seal({ ...sa, seq: 5, esnHigh: esn ? 3 : 0, outer, packet: inner });
            if (!sealed.ok) throw new Error(sealed.message);
            const opened = await oracle.open({ ...sa, esnHigh: esn ? 3 : 0, packet: sealed.packet });
            expect(opened).toMatchObject({ ok: true, seq: 5, nextHeader: family === 'v4' ? 4 : 41 });
            expect(opened.ok && hexOf(opened.packet)).toBe(hexOf(inner));
            if (esn)
              expect(await oracle.open({ ...sa, esnHigh: 4, packet: sealed.packet })).toMatchObject({ error: 'integrity' });
            const bent = Uint8Array.from(sealed.packet);
            bent[bent.length - 30]! ^= 1;
            expect(await oracle.open({ ...sa, esnHigh: esn ? 3 : 0, packet: bent })).toMatchObject({
              ok: false,
              error: 'integrity',
            });
          });
        }
        test(`${name}, ${family} transport${esn ? ', ESN' : ''}, also in UDP`, async () => {
          const sa = { mode: 'transport', spi: 0x01020304, ...suite, esn } as const;
          for (const udp of [undefined, { source: 4500, destination: 4500 }]) {
            const sealed = await oracle.seal({ ...sa, seq: 7, packet: inner, ...(udp && { udp }) });
            if (!sealed.ok) throw new Error(sealed.message);
            const opened = await oracle.open({ ...sa, packet: sealed.packet });
            expect(opened).toMatchObject({ ok: true, nextHeader: family === 'v4' ? 1 : 58 });
            expect(opened.ok && hexOf(opened.packet).slice(-80)).toBe(hexOf(inner).slice(-80));
          }
        });
      }
    }
  }

  test('AES-GCM equals OpenSSL: nonce is salt and IV, the SPI and the sequence number are authenticated (RFC 4106 §5)', async () => {
    const key = octets(20);
    const iv = octets(8, 50);
    const sealed = await oracle.seal({ mode: 'transport', spi: 0x01020304, cipher: 'AES-GCM', key, seq: 9, iv, packet: echo4 });
    const cipher = createCipheriv('aes-128-gcm', key.subarray(0, 16), Buffer.concat([key.subarray(16), iv]));
    cipher.setAAD(Buffer.from('0102030400000009', 'hex'));
    const plain = Buffer.concat([echo4.subarray(20), Buffer.from([1, 2, 2, 1])]);
    const expected = Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    expect(sealed.ok && hexOf(sealed.packet.subarray(28))).toBe(hexOf(expected));
  });

  test('NULL with HMAC-SHA2-256-128 and ESN covers the high half, which is not sent (RFC 4303 §2.2.1)', async () => {
    const authKey = octets(32, 7);
    const sa = { mode: 'transport', spi: 0x01020304, cipher: 'NULL', auth: 'SHA2-256-128', authKey, esn: true } as const;
    const sealed = await oracle.seal({ ...sa, seq: 9, esnHigh: 1, packet: echo4 });
    if (!sealed.ok) throw new Error(sealed.message);
    const esp = sealed.packet.subarray(20);
    const mac = createHmac('sha256', authKey).update(esp.subarray(0, -16)).update(Buffer.from('00000001', 'hex')).digest();
    expect(hexOf(esp.subarray(-16))).toBe(hexOf(mac.subarray(0, 16)));
  });

  test('a bad request is answered with a reason and the oracle lives on', async () => {
    const sa = { mode: 'tunnel', spi: 1, cipher: 'AES-GCM' } as const;
    expect(await oracle.seal({ ...sa, key: octets(20), seq: 1, packet: echo4 })).toMatchObject({ ok: false, error: 'request' });
    expect(await oracle.open({ ...sa, key: octets(3), packet: echo4 })).toMatchObject({ ok: false });
    expect(await oracle.open({ ...sa, key: octets(20), packet: new Uint8Array(3) })).toMatchObject({
      ok: false,
      error: 'request',
    });
    expect(await oracle.open({ ...sa, key: octets(20), packet: echo4 })).toMatchObject({ ok: false, error: 'malformed' });
  });
});

/** Hex to octets, with the IPv4 header checksum put in. */
function packet(text: string): Uint8Array {
  const data = new Uint8Array(Buffer.from(text, 'hex'));
  if (data[0] === 0x45) {
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += (data[i]! << 8) | data[i + 1]!;
    sum = (sum & 0xffff) + (sum >>> 16);
    data.set([(~sum >> 8) & 255, ~sum & 255], 10);
  }
  return data;
}

function hexOf(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}
