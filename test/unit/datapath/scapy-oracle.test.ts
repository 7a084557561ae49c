/** The engine against scapy, in both directions (RFC 4303): what one seals the other opens. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EspSuite } from '../../../src/crypto/packet-cipher.ts';
import { suiteText } from '../../../src/crypto/transforms.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { type ScapyAuth, type ScapyCipher, ScapyOracle, type ScapySa, scapyPython } from '../../interop/lab/scapy.ts';
import { ip, pair, rawIpv4, SUITES, saOf, udpPacket } from './pair.ts';

const python = scapyPython();
const why =
  python === undefined ? ' (skipped: no python with scapy and cryptography; Debian: python3-scapy python3-cryptography)' : '';

const CIPHER: Partial<Record<EspSuite['encr'], ScapyCipher>> = {
  aes_gcm_16: 'AES-GCM',
  chacha20_poly1305: 'CHACHA20-POLY1305',
  aes_cbc: 'AES-CBC',
  aes_ctr: 'AES-CTR',
  null_enc: 'NULL',
};
const AUTH: Partial<Record<EspSuite['integ'], ScapyAuth>> = {
  none: 'NULL',
  hmac_sha1: 'HMAC-SHA1-96',
  hmac_sha2_256: 'SHA2-256-128',
  hmac_sha2_384: 'SHA2-384-192',
  hmac_sha2_512: 'SHA2-512-256',
  aes_cmac: 'AES-CMAC-96',
};

describe.skipIf(python === undefined)(`scapy opens what the engine seals, and the reverse${why}`, () => {
  let oracle: ScapyOracle;
  beforeAll(() => {
    oracle = new ScapyOracle(python!);
  });
  afterAll(() => oracle?.close());

  for (const suite of SUITES) {
    const cipher = CIPHER[suite.encr];
    const auth = AUTH[suite.integ];
    if (cipher === undefined || auth === undefined) continue;
    for (const mode of ['tunnel', 'transport'] as const) {
      for (const esn of [false, true]) {
        test(`${suiteText(suite.encr, suite.keyBits, suite.integ)}, ${mode}${esn ? ', ESN' : ''}`, async () => {
          const sa = saOf({ suite, mode, extendedSequence: esn });
          const key = sa.encrKey.length > 0 ? { key: sa.encrKey.reveal().slice() } : {};
          const authKey = sa.integKey === undefined ? {} : { authKey: sa.integKey.reveal().slice() };
          const scapy: ScapySa = { mode, spi: sa.spi, cipher, auth, esn, ...key, ...authKey };
          const hosts = mode === 'tunnel' ? {} : { source: '192.0.2.1', destination: '192.0.2.2' };
          const inners = [0, 1, 37, 600].map((length) => udpPacket(new Uint8Array(length).fill(length), { id: 0, ...hosts }));
          if (mode === 'tunnel') inners.push(udpPacket(new Uint8Array(77), { source: 'fd00:1::1', destination: 'fd00:2::2' }));
          const high = esn ? 3 : 0;
          const { a, b } = pair(sa);
          [...a.engine.core.sad.all][0]!.sequence = high * 2 ** 32 + 6;
          [...b.engine.core.sad.all][0]!.window.accept(high * 2 ** 32 + 3);
          for (const [i, inner] of inners.entries()) {
            const [wire] = a.protect([inner]);
            const opened = await oracle.open({ ...scapy, esnHigh: high, packet: rawIpv4(wire!.bytes, sa) });
            if (!opened.ok) throw new Error(opened.message);
            expect(opened.seq).toBe(7 + i);
            const ours = mode === 'tunnel' ? inner : inner.slice(20);
            expect(mode === 'tunnel' ? opened.packet : opened.packet.slice(20)).toEqual(ours);
            const sealed = await oracle.seal({
              ...scapy,
              seq: 10 + i,
              esnHigh: high,
              ...(mode === 'tunnel' ? { outer: { src: '192.0.2.1', dst: '192.0.2.2' } } : {}),
              packet: inner,
            });
            if (!sealed.ok) throw new Error(sealed.message);
            const frames = b.unprotect([{ bytes: sealed.packet, path: 0, trafficClass: 0 }], INPUT.rawWithHeader);
            expect(b.engine.drops.toJSON()).toEqual({});
            expect(frames.map(({ packet }) => packet)).toEqual([inner]);
          }
        });
      }
    }
  }

  test('between IPv6 endpoints, in UDP as well', async () => {
    const ends = { source: ip('2001:db8::1'), destination: ip('2001:db8::2') };
    const sa = saOf(ends);
    const scapy: ScapySa = { mode: 'tunnel', spi: sa.spi, cipher: 'AES-GCM', key: sa.encrKey.reveal().slice() };
    const { b } = pair(sa);
    const inner = udpPacket(new Uint8Array(55));
    const outer = { src: `${ends.source}`, dst: `${ends.destination}` };
    const raw = await oracle.seal({ ...scapy, seq: 1, outer, packet: inner });
    const udp = await oracle.seal({ ...scapy, seq: 2, outer, udp: { source: 4500, destination: 4500 }, packet: inner });
    if (!raw.ok || !udp.ok) throw new Error('scapy sealed neither');
    const wire = (bytes: Uint8Array) => [{ bytes, path: 0, trafficClass: 0 }];
    expect(b.unprotect(wire(raw.packet.slice(40)), INPUT.raw)[0]?.packet).toEqual(inner);
    expect(b.unprotect(wire(udp.packet.slice(48)), INPUT.udp)[0]?.packet).toEqual(inner);
  });
});
