/** A PacketCipher that protects nothing: text in clear and a checksum for an ICV, so that millions of packets take the engine's time and not the cipher's. */

import type { EspSuite, PacketCipher } from '../../src/crypto/packet-cipher.ts';
import { ENCR, INTEG } from '../../src/crypto/transforms.ts';

export function sumCipher(arena: Uint8Array): PacketCipher {
  const sizes: { iv: number; icv: number }[] = [];
  const sum = (at: number, octets: number, sequenceHigh: number) => {
    let value = 0x811c9dc5 ^ sequenceHigh;
    for (let i = at; i < at + octets; i++) value = Math.imul(value ^ arena[i]!, 0x01000193);
    return value;
  };
  const icvOctet = (value: number, i: number) => ((value >>> (8 * (i & 3))) + i) & 0xff;
  return {
    name: 'sum',
    supports: () => true,
    create({ encr, integ }: EspSuite) {
      const { iv, icv } = ENCR[encr];
      return sizes.push({ iv, icv: integ === 'none' ? icv : INTEG[integ].icvBytes }) - 1;
    },
    destroy() {},
    seal(handle, espAt, textBytes, sequenceHigh) {
      const { iv, icv } = sizes[handle]!;
      const end = espAt + 8 + iv + textBytes;
      const value = sum(espAt, end - espAt, sequenceHigh);
      for (let i = 0; i < icv; i++) arena[end + i] = icvOctet(value, i);
      return true;
    },
    open(handle, espAt, textBytes, sequenceHigh) {
      const { iv, icv } = sizes[handle]!;
      const end = espAt + 8 + iv + textBytes;
      const value = sum(espAt, end - espAt, sequenceHigh);
      for (let i = 0; i < icv; i++) if (arena[end + i] !== icvOctet(value, i)) return false;
      return true;
    },
  };
}
