/**
 * What we write in Quick Mode as tshark reads it: AH, ESP and IPComp under one number, and DELETEs of each (RFC 2408 §4.2, §3.15). KINK has the same octets
 * in its KINK_ISAKMP, but tshark's KINK is that of a draft, whose header was another.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXCHANGE, writeMessage } from '../../iked/ikev1/message.ts';
import { cat, u16be, u32be } from '../../src/bytes/bytes.ts';
import { deletions } from '../../src/isakmp/deletion.ts';
import type { Payload } from '../../src/isakmp/payloads.ts';
import { buildOffer } from '../../src/isakmp/quick-mode.ts';
import { skipNote } from './lab/skip.ts';

const missing = spawnSync('tshark', ['--version']).status === 0 ? undefined : 'not installed: tshark';

const SPIS = new Map([
  ['ah', 0x11111111],
  ['esp', 0x22222222],
  ['ipcomp', 0x3333],
] as const);
const OFFER = buildOffer(
  {
    alternatives: [
      {
        sas: [
          { protocol: 'ipcomp', encr: [], auth: [] },
          { protocol: 'esp', encr: [{ name: 'aes_cbc', keyBits: 128 }], auth: ['hmac_sha2_256'] },
          { protocol: 'ah', encr: [], auth: ['hmac_sha2_256', 'hmac_sha1'] },
        ],
        lifetime: { seconds: 3600, bytes: 0, packets: 0 },
      },
    ],
    mode: 'tunnel',
    encapsulated: false,
    group: undefined,
    check: 'strict',
  },
  SPIS,
);
const QUICK: readonly Payload[] = [
  OFFER,
  { type: 'Nonce', data: new Uint8Array(16).fill(9) },
  ...deletions([...SPIS].map(([protocol, spi]) => ({ protocol, spi }))),
];

/** A capture of one UDP datagram, in raw IPv4 (link type 101). */
function pcapOf(port: number, data: Uint8Array): Uint8Array {
  const udp = cat(u16be(port), u16be(port), u16be(8 + data.length), u16be(0), data);
  const ip = cat(
    Uint8Array.of(0x45, 0),
    u16be(20 + udp.length),
    u32be(0),
    Uint8Array.of(64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2),
    udp,
  );
  const file = cat(u32be(0xa1b2c3d4), u16be(2), u16be(4), u32be(0), u32be(0), u32be(65535), u32be(101));
  return cat(file, u32be(0), u32be(0), u32be(ip.length), u32be(ip.length), ip);
}

function dissected(port: number, data: Uint8Array): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'tanuki-tshark-'));
  try {
    const file = join(directory, 'one.pcap');
    writeFileSync(file, pcapOf(port, data));
    const { stdout, stderr } = spawnSync('tshark', ['-r', file, '-V'], { encoding: 'utf8' });
    expect(stdout, stderr).not.toContain('Malformed');
    return stdout.split('\n').map((line) => line.trim());
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Lines about what matters here, in their order. */
function told(lines: readonly string[]): string[] {
  const about =
    /^(Proposal number|Protocol ID|SPI: |SPI Size|Transform ID|Delete SPI|.*(Encapsulation-Mode|Authentication-Algorithm):)/;
  return lines.filter((line) => about.test(line)).map((line) => line.replace(/^.*: (?=Encapsulation|Authentication)/, ''));
}

describe.skipIf(missing !== undefined)(`tshark reads our bundles${skipNote('tshark', missing)}`, () => {
  test('in a message of IKEv1', () => {
    const message = { CKY_I: new Uint8Array(8).fill(1), CKY_R: new Uint8Array(8).fill(2), exchange: EXCHANGE['Quick Mode'] };
    const bytes = writeMessage({ ...message, encrypted: false, commit: false, messageId: 7, payloads: QUICK });
    expect(told(dissected(500, bytes))).toMatchInlineSnapshot(`
      [
        "Proposal number: 1",
        "Protocol ID: IPSEC_AH (2)",
        "SPI Size: 4",
        "SPI: 11111111",
        "Transform ID: SHA2-256 (5)",
        "Encapsulation-Mode: Transport",
        "Authentication-Algorithm: HMAC-SHA2-256",
        "Transform ID: SHA (3)",
        "Encapsulation-Mode: Transport",
        "Authentication-Algorithm: HMAC-SHA",
        "Proposal number: 1",
        "Protocol ID: IPSEC_ESP (3)",
        "SPI Size: 4",
        "SPI: 22222222",
        "Transform ID: AES (12)",
        "Encapsulation-Mode: Tunnel",
        "Authentication-Algorithm: HMAC-SHA2-256",
        "Proposal number: 1",
        "Protocol ID: IPCOMP (4)",
        "SPI Size: 2",
        "SPI: 3333",
        "Transform ID: DEFLATE (2)",
        "Encapsulation-Mode: Tunnel",
        "Protocol ID: IPSEC_AH (2)",
        "SPI Size: 4",
        "Delete SPI: 11111111",
        "Protocol ID: IPSEC_ESP (3)",
        "SPI Size: 4",
        "Delete SPI: 22222222",
        "Protocol ID: IPCOMP (4)",
        "SPI Size: 2",
        "Delete SPI: 3333",
      ]
    `);
  });
});
