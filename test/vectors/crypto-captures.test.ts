import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { equal, hex, readU32be } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { ENCR, type EspSuite, INTEG, ikeCipher, noblePacketCipher, nodePacketCipher } from '../../src/crypto/index.ts';
import { ABSENT, ENGINES, octets, SHARED, WHY } from './engines.ts';

/** Name, frames of ESP and encrypted IKE messages that tshark decrypted, and whether the SAs have extended sequence numbers. */
const CAPTURES = [
  ['ss-ikev2-psk', 6, 4, false],
  ['ss-ikev2-gcm-x25519', 6, 4, true],
  ['ss-ikev2-child-rekey', 24, 16, false],
  ['ss-ikev2-natt', 12, 4, false],
] as const;

const SK = 46;

/** The ESP packets and IKE messages of a capture on Ethernet, both bare and in UDP. */
function packets(name: string): { esp: Uint8Array[]; ike: Uint8Array[] } {
  const file = new Uint8Array(readFileSync(new URL(`captures/${name}.pcap`, SHARED)));
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const found = { esp: [] as Uint8Array[], ike: [] as Uint8Array[] };
  for (let at = 24; at < file.length; ) {
    const length = view.getUint32(at + 8, true);
    const frame = file.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    if (frame[12] !== 8 || frame[13] !== 0) continue;
    const ip = frame.subarray(14, 14 + ((frame[16]! << 8) | frame[17]!));
    const payload = ip.subarray((ip[0]! & 15) * 4);
    if (ip[9] === 50) found.esp.push(payload);
    if (ip[9] !== 17) continue;
    const ports = [(payload[0]! << 8) | payload[1]!, (payload[2]! << 8) | payload[3]!];
    const data = payload.subarray(8);
    if (ports.includes(500)) found.ike.push(data);
    else if (data.length > 4) readU32be(data) === 0 ? found.ike.push(data.subarray(4)) : found.esp.push(data);
  }
  return found;
}

/** The rows of one of the capture's key tables, as Wireshark writes them. */
function table(name: string, file: string): string[][] {
  const text = readFileSync(new URL(`captures/${name}.keys/${file}`, SHARED), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => line.split(',').map((cell) => cell.replaceAll('"', '').replace(/^0x/, '')));
}

describe.skipIf(ABSENT).each(CAPTURES)('packets that strongSwan and Linux sealed, %s', (name, espFrames, ikeFrames, esn) => {
  test.each([
    ['noble', noblePacketCipher],
    ['node', nodePacketCipher],
  ] as const)(
    `the %s packet cipher opens all ${espFrames} ESP packets and seals them to the same octets${WHY}`,
    (_engine, cipherOn) => {
      const arena = new Uint8Array(2048);
      const cipher = cipherOn(arena);
      const sas = new Map<string, { suite: EspSuite; encrKey: Uint8Array; integKey: Uint8Array }>();
      for (const [, , , spi, encr, encrKey, , integKey] of table(name, 'esp_sa')) {
        if (encr === 'NULL') continue;
        const gcm = encr!.startsWith('AES-GCM');
        const key = octets(encrKey!);
        const suite: EspSuite = gcm
          ? { encr: 'aes_gcm_16', keyBits: (key.length - 4) * 8, integ: 'none' }
          : { encr: 'aes_cbc', keyBits: key.length * 8, integ: 'hmac_sha2_256' };
        sas.set(spi!, { suite, encrKey: key, integKey: octets(integKey!) });
      }
      const { esp } = packets(name);
      expect(esp.length).toBe(espFrames);
      const sequenceHigh = esn ? 0 : -1;
      for (const packet of esp) {
        const { suite, encrKey, integKey } = sas.get(hex(packet.subarray(0, 4)))!;
        const secrets = (): [Secret, Secret | undefined] => [
          new Secret(encrKey.slice()),
          suite.integ === 'none' ? undefined : new Secret(integKey.slice()),
        ];
        const icv = suite.integ === 'none' ? ENCR[suite.encr].icv : INTEG[suite.integ].icvBytes;
        const textBytes = packet.length - 8 - ENCR[suite.encr].iv - icv;
        arena.set(packet, 3);
        const handle = cipher.create(suite, 'open', ...secrets());
        expect(cipher.open(handle, 3, textBytes, sequenceHigh)).toBe(true);
        const end = 3 + packet.length - icv;
        const padding = arena.subarray(end - 2 - arena[end - 2]!, end - 2);
        expect([arena[end - 1], ...padding]).toEqual([4, ...padding.map((_, i) => i + 1)]);
        expect(cipher.seal(cipher.create(suite, 'seal', ...secrets()), 3, textBytes, sequenceHigh)).toBe(true);
        expect(hex(arena.subarray(3, 3 + packet.length))).toBe(hex(packet));
      }
    },
  );

  test.each(ENGINES)(
    `the %s engine opens all ${ikeFrames} encrypted IKE messages and seals them to the same octets${WHY}`,
    (_name, engine) => {
      let opened = 0;
      for (const message of packets(name).ike) {
        if (message[16] !== SK) continue;
        const row = table(name, 'ikev2_decryption_table').find(([spi]) => spi === hex(message.subarray(0, 8)))!;
        const [, , SK_ei, SK_er, encr, SK_ai, SK_ar] = row;
        const gcm = encr!.startsWith('AES-GCM');
        const cipher = gcm ? ikeCipher('aes_gcm_16', 256, 'none', engine) : ikeCipher('aes_cbc', 256, 'hmac_sha2_256', engine);
        const original = (message[19]! & 8) !== 0;
        const [encrKey, integKey] = [octets(original ? SK_ei! : SK_er!), octets(original ? SK_ai! : SK_ar!)];
        const [aad, sealed] = [message.subarray(0, 32), message.subarray(32)];
        const text = cipher.open(encrKey, integKey, aad, sealed);
        expect(text === undefined ? undefined : text.at(-1)! < text.length).toBe(true);
        expect(equal(cipher.seal(encrKey, integKey, sealed.subarray(0, cipher.ivBytes), aad, text!), sealed)).toBe(true);
        opened++;
      }
      expect(opened).toBe(ikeFrames);
    },
  );
});
