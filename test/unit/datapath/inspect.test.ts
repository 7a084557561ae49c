import { expect, test } from 'vitest';
import { noblePacketCipher } from '../../../src/crypto/packet-cipher-noble.ts';
import { espInspector } from '../../../src/datapath/inspect.ts';
import { copyOf, pair, SUITES, saOf, udpPacket } from './pair.ts';

test('single packets of any suite are opened from their keys, in any order and again', () => {
  for (const suite of SUITES) {
    for (const extendedSequence of [false, true]) {
      const sa = saOf({ suite, extendedSequence });
      const packets = [1, 2, 3].map((n) => udpPacket(new Uint8Array(30).fill(n)));
      const wires = pair(sa).a.protect(packets);
      const open = espInspector(copyOf(sa), noblePacketCipher);
      for (const i of [2, 0, 1, 2]) {
        expect(open(wires[i]!.bytes)).toEqual({ opened: true, sequence: i + 1, nextHeader: 4, payload: packets[i] });
      }
    }
  }
});

test('what cannot be opened says why', () => {
  const sa = saOf();
  const { bytes } = pair(sa).a.protect([udpPacket(new Uint8Array(30))])[0]!;
  const open = espInspector(sa, noblePacketCipher);
  const bent = bytes.slice();
  bent[20]! ^= 1;
  expect(open(bent)).toEqual({ opened: false, reason: 'badIcv' });
  expect(open(bytes.slice(0, 7))).toEqual({ opened: false, reason: 'truncated' });
  expect(open(bytes.slice(0, 30))).toEqual({ opened: false, reason: 'truncated' });
  expect(espInspector(saOf({ spi: 300 }), noblePacketCipher)(bytes)).toEqual({ opened: false, reason: 'noSa' });
});
