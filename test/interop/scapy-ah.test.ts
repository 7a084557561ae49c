/**
 * The AH table: what the engine seals scapy opens, and the reverse (RFC 4302). What scapy 2.5 gets wrong is left out of the packets: it rotates a
 * routing header when it seals, whatever segments are left (so it seals fresh routes only, and opens used ones), it never predicts the destination of an
 * IPv4 source route, it does not exchange a home address (RFC 6275 §6.3), and it has no AES-XCBC.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cat, u16be } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { INTEG, type IntegName } from '../../src/crypto/transforms.ts';
import { INPUT } from '../../src/datapath/slots.ts';
import { ip, type Node, pair, saOf, seeded, slowSum, tcpPacket, udpPacket } from '../unit/datapath/pair.ts';
import { AH_SCRIPT, type ScapyAuth, ScapyOracle, scapyPython } from './lab/scapy.ts';
import { skipNote } from './lab/skip.ts';

const python = scapyPython();
const why = skipNote(
  "AH with scapy's",
  python ? undefined : 'no python with scapy and cryptography (Debian: python3-scapy python3-cryptography)',
);

const AUTH: Partial<Record<IntegName, ScapyAuth>> = {
  hmac_sha1: 'HMAC-SHA1-96',
  hmac_sha2_256: 'SHA2-256-128',
  hmac_sha2_384: 'SHA2-384-192',
  hmac_sha2_512: 'SHA2-512-256',
  aes_cmac: 'AES-CMAC-96',
  hmac_md5: 'HMAC-MD5-96',
};
const PACKETS = 50;
const HOSTS = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;

const rows = (Object.keys(AUTH) as IntegName[]).flatMap((integ) =>
  (['tunnel', 'transport'] as const).flatMap((mode) =>
    ([4, 6] as const).flatMap((family) => [false, true].map((esn) => ({ integ, mode, family, esn }))),
  ),
);

/** Whole numbers from 0 to below `bound`. */
type Numbers = (bound: number) => number;

function numbers(seed: number): Numbers {
  const random = seeded(seed);
  return (bound) => {
    const [a, b, c] = random(3);
    return ((a! << 16) | (b! << 8) | c!) % bound;
  };
}

/** UDP or TCP of random length, in IPv4 with options and in IPv6 with extension headers now and then. `used`: a route at its end. */
function randomPacket(number: Numbers, ends: { source: string; destination: string }, used: boolean): Uint8Array {
  const payload = seeded(number(1 << 20) + 1)(number(1300));
  const options = { ...ends, trafficClass: number(64) * 4, id: number(65_535) + 1 };
  const packet = number(2) === 0 ? udpPacket(payload, options) : tcpPacket(number(1 << 20), payload, options);
  if (number(2) === 0) return packet;
  return ends.source.includes(':') ? withExtensions(packet, number, used) : withOptions(packet, number);
}

function withOptions(packet: Uint8Array, number: Numbers): Uint8Array {
  const kinds = [
    [148, 4, 0, 0],
    [7, 7, 4, 0, 0, 0, 0, 1],
    [130, 11, 0xab, 0xcd, 0, 1, 0, 2, 0, 3, 4, 1],
    [68, 8, 5, 0, 1, 2, 3, 4],
    [1, 1, 1, 1],
  ];
  const chosen = kinds.filter(() => number(2) === 0).flat();
  const bytes = cat(packet.slice(0, 20), Uint8Array.from(chosen), packet.slice(20));
  bytes[0] = 0x45 + chosen.length / 4;
  bytes.set(u16be(bytes.length), 2);
  bytes.set([0, 0], 10);
  bytes.set(u16be(~slowSum(bytes.slice(0, 20 + chosen.length)) & 0xffff), 10);
  return bytes;
}

function withExtensions(packet: Uint8Array, number: Numbers, used: boolean): Uint8Array {
  const routers = [ip('2001:db8:f::1').bytes, ip('2001:db8:f::2').bytes];
  const kinds: (readonly [number, readonly number[]])[] = [
    [0, [0, 0, 5, 2, 0, 0, 1, 0]],
    [60, [0, 1, 0x3e, 4, 1, 2, 3, 4, 0x1e, 4, 5, 6, 7, 8, 1, 0]],
    [
      43,
      [0, 4, 0, used ? 0 : 2, 0, 0, 0, 0, ...(used ? routers[0]! : routers[1]!), ...(used ? routers[1]! : packet.slice(24, 40))],
    ],
  ];
  const chosen = kinds.filter(() => number(2) === 0);
  const headers = chosen.map(([, octets], i) => Uint8Array.from([chosen[i + 1]?.[0] ?? packet[6]!, ...octets.slice(1)]));
  const bytes = cat(packet.slice(0, 40), ...headers, packet.slice(40));
  bytes[6] = chosen[0]?.[0] ?? packet[6]!;
  if (!used && chosen.some(([type]) => type === 43)) bytes.set(routers[0]!, 24);
  bytes.set(u16be(bytes.length - 40), 4);
  return bytes;
}

/** As routers leave it: no segment left, the addresses one place further, the last one the destination (RFC 2460 §4.4). */
function arrived(wire: Uint8Array): Uint8Array {
  const bytes = wire.slice();
  if (bytes[0]! >> 4 === 4) return bytes;
  let nextHeader = bytes[6]!;
  for (let at = 40; nextHeader === 0 || nextHeader === 60 || nextHeader === 43; at += 8 + 8 * bytes[at + 1]!) {
    if (nextHeader === 43 && bytes[at + 3] === 2) {
      const seen = [bytes.slice(24, 40), bytes.slice(at + 8, at + 24), bytes.slice(at + 24, at + 40)];
      bytes.set(seen[2]!, 24);
      bytes.set(cat(seen[0]!, seen[1]!), at + 8);
      bytes[at + 3] = 0;
    }
    nextHeader = bytes[at]!;
  }
  return bytes;
}

describe.skipIf(python === undefined)(`AH and scapy's${why}`, () => {
  let oracle: ScapyOracle;
  beforeAll(() => {
    oracle = new ScapyOracle(python!, AH_SCRIPT);
  });
  afterAll(() => oracle?.close());

  test('the table has the rows it should have', () => expect(rows.length).toBe(6 * 2 * 2 * 2));

  test.each(rows)(`$integ, $mode, IPv$family, ESN $esn: ${PACKETS} packets each way`, async ({ integ, mode, family, esn }) => {
    const ends = HOSTS[family];
    const key = seeded(rows.length + integ.length)(INTEG[integ].keyBytes);
    const suite = { encr: 'null_enc', keyBits: 0, integ } as const;
    const sa = saOf({
      protocol: 'ah',
      mode,
      suite,
      integKey: new Secret(key.slice()),
      extendedSequence: esn,
      source: ip(ends.source),
      destination: ip(ends.destination),
    });
    const { a, b } = pair(sa);
    const high = esn ? 5 : 0;
    [...a.engine.core.sad.all][0]!.sequence = high * 2 ** 32 + 6;
    [...b.engine.core.sad.all][0]!.window.accept(high * 2 ** 32 + 3);
    const number = numbers(family * 1000 + integ.length * 10 + Number(esn));
    const inner = (used: boolean) => {
      const v6 = mode === 'tunnel' ? number(2) === 0 : family === 6;
      const hosts = v6 ? { source: 'fd00:1::1', destination: 'fd00:2::2' } : { source: '10.1.0.1', destination: '10.2.0.2' };
      return randomPacket(number, mode === 'tunnel' ? hosts : ends, used);
    };
    const request = {
      mode,
      spi: sa.spi,
      auth: AUTH[integ]!,
      authKey: key,
      esn,
      esnHigh: high,
      outer: { src: ends.source, dst: ends.destination },
      seq: 7,
    };
    const ours = Array.from({ length: PACKETS }, () => inner(true));
    const opened = await oracle.ah('open', { ...request, packets: ours.map((packet) => sealed(a, packet)) });
    expect(opened).toEqual(ours);
    const theirs = Array.from({ length: PACKETS }, () => inner(false));
    const wires = await oracle.ah('seal', { ...request, packets: theirs });
    for (const [i, wire] of wires.entries()) {
      if (typeof wire === 'string') throw new Error(wire);
      const packet = theirs[i]!;
      const [frame] = b.unprotect([{ bytes: mode === 'tunnel' ? wire : arrived(wire), path: 0, trafficClass: 0 }], INPUT.ah);
      expect([i, b.drop(0), frame?.packet]).toEqual([i, 'none', mode === 'tunnel' ? packet : arrived(packet)]);
    }
    const bent = wires.map((wire) => bend(wire as Uint8Array, number));
    for (const wire of bent) expect(b.unprotect([{ bytes: wire, path: 0, trafficClass: 0 }], INPUT.ah)).toEqual([]);
  });
});

function sealed(a: Node, packet: Uint8Array): Uint8Array {
  a.protect([packet]);
  return a.clears()[0]!;
}

/** One bit of the payload. */
function bend(wire: Uint8Array, number: Numbers): Uint8Array {
  const bent = wire.slice();
  bent[bent.length - 1 - number(8)]! ^= 1 << number(8);
  return bent;
}
