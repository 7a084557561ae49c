import { describe, expect, test } from 'vitest';
import {
  KNOWN_ANSWER_BYTES,
  KNOWN_SUITES,
  knownAnswerTest,
  noblePacketCipher,
  nodePacketCipher,
} from '../../../src/crypto/index.ts';

describe.each([
  ['noble', noblePacketCipher],
  ['node', nodePacketCipher],
])('the packet cipher over %s', (_name, cipherOn) => {
  test('passes the known-answer test at aligned and odd offsets', () => {
    const arena = new Uint8Array(KNOWN_ANSWER_BYTES + 64);
    for (const offset of [0, 1, 7, 33]) expect(knownAnswerTest(cipherOn(arena), arena, offset)).toEqual([]);
  });
  test('supports all but 3DES', () => {
    expect(KNOWN_SUITES.filter((s) => !cipherOn(new Uint8Array(0)).supports(s))).toEqual(
      _name === 'node' ? [] : [{ encr: '3des_cbc', keyBits: 0, integ: 'hmac_sha1' }],
    );
  });
});
